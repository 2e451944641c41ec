import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { buildOptimizer, type WeightDecayOn } from '../../src/export/optimizer-graph.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { Session, Value } from '../../src/runtime/index.ts';
import { floats, readGolden, readGoldenJson } from '../golden/golden.ts';

interface Settings {
  learning_rate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  weight_decay: number;
  max_grad_norm: number;
  ema_decay: number;
}

const KINDS = ['', '.exp_avg', '.exp_avg_sq', '.ema'];

/** The optimizer graph with its state bound in place. */
class Optimizer implements Disposable {
  readonly values = new Map<string, Value>();
  readonly #session: Session;
  readonly #binding: ReturnType<Session['bind']>;

  private constructor(session: Session, shapes: ReadonlyMap<string, readonly number[]>) {
    this.#session = session;
    this.#binding = session.bind();
    for (const { name } of session.inputs) {
      const [, weight] = /^(.*?)(?:\.grad|\.exp_avg|\.exp_avg_sq|\.ema)?$/.exec(name) ?? [];
      const value = Value.empty('float32', shapes.get(weight) ?? []);
      this.values.set(name, value);
      this.#binding.input(name, value);
    }
    this.values.set('grad_norm', Value.empty('float32', []));
    this.values.set('ema_distance', Value.empty('float32', []));
    this.values.set('applied', Value.empty('bool', []));
    for (const { name } of session.outputs) this.#binding.output(name, this.value(name.replace(/\.out$/, '')));
  }

  static async create(
    shapes: ReadonlyMap<string, readonly number[]>,
    weightDecayOn?: WeightDecayOn,
  ): Promise<Optimizer> {
    const builder = new GraphBuilder('optimizer');
    buildOptimizer(builder, shapes, weightDecayOn === undefined ? {} : { weightDecayOn });
    return new Optimizer(await Session.create(serializeGraph(builder.graph, { opset: 24 })), shapes);
  }

  value(name: string): Value {
    const value = this.values.get(name);
    if (value === undefined) throw new Error(`no ${name}`);
    return value;
  }
  array(name: string): Float32Array {
    return this.value(name).data as Float32Array;
  }

  async step(settings: Settings, t: number): Promise<void> {
    const scalars = {
      ...settings,
      bias_correction1: 1 - settings.beta1 ** t,
      bias_correction2: 1 - settings.beta2 ** t,
    };
    for (const [name, scalar] of Object.entries(scalars)) this.array(name)[0] = scalar;
    await this.#binding.run();
  }

  /** The same step into tensors of its own, by the name of what they would replace. */
  async outOfPlace(): Promise<Map<string, Value['data']>> {
    const feeds = Object.fromEntries(this.#session.inputs.map(({ name }) => [name, this.value(name)]));
    const outputs = Object.entries(await this.#session.run(feeds));
    const copies = new Map(outputs.map(([name, { data }]) => [name.replace(/\.out$/, ''), data.slice()]));
    for (const [, value] of outputs) value.dispose();
    return copies;
  }

  [Symbol.dispose](): void {
    this.#binding.dispose();
    this.#session.dispose();
    for (const value of this.values.values()) value.dispose();
  }
}

const SETTINGS: Settings = {
  learning_rate: 0.1,
  beta1: 0.9,
  beta2: 0.99,
  epsilon: 1e-8,
  weight_decay: 0.5,
  max_grad_norm: 1,
  ema_decay: 0.9,
};
const MATRIX = 'model.layers.0.mlp.up_proj.weight';
const NORM = 'model.norm.weight';
const EMBEDDING = 'model.embed_tokens.weight';
const SHAPES = new Map<string, readonly number[]>([
  [EMBEDDING, [1, 1]],
  [MATRIX, [1, 2]],
  [NORM, [1]],
]);

async function prepared(grads: Record<string, number[]>, weightDecayOn?: WeightDecayOn): Promise<Optimizer> {
  const optimizer = await Optimizer.create(SHAPES, weightDecayOn);
  for (const name of SHAPES.keys()) {
    optimizer.array(name).fill(2);
    optimizer.array(`${name}.ema`).fill(1);
    optimizer.array(`${name}.grad`).set(grads[name]);
  }
  return optimizer;
}

describe('one AdamW step by hand', () => {
  // Without gradients the weights of 2 only decay: 2 (1 - lr wd) = 2 (1 - 0.1 * 0.5) = 1.9.
  it.each([
    ['matrices', { [MATRIX]: 1.9, [EMBEDDING]: 2, [NORM]: 2 }],
    ['matrices-and-embeddings', { [MATRIX]: 1.9, [EMBEDDING]: 1.9, [NORM]: 2 }],
    ['all', { [MATRIX]: 1.9, [EMBEDDING]: 1.9, [NORM]: 1.9 }],
  ] as const)('decays %s', async (weightDecayOn, expected) => {
    using optimizer = await prepared({ [MATRIX]: [0, 0], [NORM]: [0], [EMBEDDING]: [0] }, weightDecayOn);
    await optimizer.step(SETTINGS, 1);
    for (const [name, weight] of Object.entries(expected))
      expect(optimizer.array(name)[0], name).toBeCloseTo(weight, 6);
  });

  it('clips to the global norm, decays matrices only, and lags the EMA', async () => {
    // norm = sqrt(3^2 + 0 + 4^2) = 5, so gradients are scaled by 1/5: 0.6, 0, 0.8.
    using optimizer = await prepared({ [MATRIX]: [3, 0], [NORM]: [4], [EMBEDDING]: [0] });
    await optimizer.step(SETTINGS, 1);
    expect(optimizer.array('grad_norm')[0]).toBeCloseTo(5, 5);
    expect(optimizer.value('applied').data[0]).toBe(1);
    // At t = 1 the corrected moments are g and g^2: the update is lr * sign(g).
    expect(optimizer.array(MATRIX)[0]).toBeCloseTo(2 * (1 - 0.1 * 0.5) - 0.1, 5);
    expect(optimizer.array(MATRIX)[1]).toBeCloseTo(2 * (1 - 0.1 * 0.5), 5);
    expect(optimizer.array(NORM)[0]).toBeCloseTo(2 - 0.1, 5);
    expect(optimizer.array(EMBEDDING)[0]).toBe(2);
    expect(optimizer.array(`${MATRIX}.exp_avg`)[0]).toBeCloseTo(0.1 * 0.6, 6);
    expect(optimizer.array(`${MATRIX}.exp_avg_sq`)[0]).toBeCloseTo(0.01 * 0.36, 7);
    expect(optimizer.array(`${NORM}.ema`)[0]).toBeCloseTo(0.9 * 1 + 0.1 * 1.9, 5);
  });

  it('leaves small gradients, and with a maximum of 0 all gradients, as they are', async () => {
    const grads = { [MATRIX]: [0.3, 0], [NORM]: [0.4], [EMBEDDING]: [0] };
    using small = await prepared(grads);
    await small.step(SETTINGS, 1);
    expect(small.array(`${MATRIX}.exp_avg`)[0]).toBeCloseTo(0.1 * 0.3, 6);
    using unclipped = await prepared({ ...grads, [MATRIX]: [30, 0] });
    await unclipped.step({ ...SETTINGS, max_grad_norm: 0 }, 1);
    expect(unclipped.array(`${MATRIX}.exp_avg`)[0]).toBeCloseTo(0.1 * 30, 4);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY, 3e38])('changes no bit where a gradient is %d', async (bad) => {
    using optimizer = await prepared({ [MATRIX]: [1, bad], [NORM]: [4], [EMBEDDING]: [1] });
    for (const name of SHAPES.keys()) {
      optimizer.array(`${name}.exp_avg`).fill(0.1);
      optimizer.array(`${name}.exp_avg_sq`).fill(0.3);
    }
    const names = [...SHAPES.keys()].flatMap((name) => KINDS.map((kind) => `${name}${kind}`));
    const before = names.map((name) => optimizer.array(name).slice());
    await optimizer.step(SETTINGS, 3);
    expect(optimizer.value('applied').data[0]).toBe(0);
    expect(names.map((name) => optimizer.array(name).slice())).toEqual(before);
  });

  it('gives in place, bit for bit, what it gives into new tensors', async () => {
    using optimizer = await prepared({ [MATRIX]: [3, -0.5], [NORM]: [4], [EMBEDDING]: [0.1] });
    await optimizer.step(SETTINGS, 1); // moments that are not zero
    const fresh = await optimizer.outOfPlace();
    await optimizer.step(SETTINGS, 1);
    for (const [name, data] of fresh) expect(optimizer.value(name).data, name).toEqual(data);
    expect(fresh.size).toBe(SHAPES.size * KINDS.length + 3);
  });

  it('keeps a frozen baseline bit for bit with a decay of 1', async () => {
    using optimizer = await prepared({ [MATRIX]: [1, 2], [NORM]: [4], [EMBEDDING]: [1] });
    optimizer.array(`${NORM}.ema`)[0] = 0.1;
    await optimizer.step({ ...SETTINGS, ema_decay: 1 }, 1);
    expect(optimizer.array(`${NORM}.ema`)[0]).toBe(Math.fround(0.1));
  });
});

describe('a hundred steps of torch.optim.AdamW', () => {
  it('are matched within 1e-5, moments and EMA too', async () => {
    const { settings, steps, recorded } = readGoldenJson<{ settings: Settings; steps: number; recorded: number[] }>(
      'adamw/adamw',
    );
    const golden = readGolden('adamw/adamw');
    const exact = readGolden('adamw/adamw.float64');
    const names = [EMBEDDING, MATRIX, NORM];
    using optimizer = await Optimizer.create(
      new Map(names.map((name) => [name, golden.get(`initial.${name}`)?.shape ?? []])),
    );
    for (const name of names) {
      for (const kind of ['', '.ema']) optimizer.array(`${name}${kind}`).set(floats(golden, `initial.${name}`));
    }
    for (let t = 1; t <= steps; t++) {
      for (const name of names) {
        const gradient = optimizer.array(`${name}.grad`);
        gradient.set(floats(golden, `gradients.${name}`).subarray((t - 1) * gradient.length, t * gradient.length));
      }
      await optimizer.step(settings, t);
      if (!recorded.includes(t)) continue;
      for (const name of names.flatMap((weight) => KINDS.map((kind) => `${weight}${kind}`))) {
        const expected = floats(exact, `step-${t}.${name}`);
        optimizer.array(name).forEach((value, i) => {
          expect(Math.abs(value - expected[i]), `${name}[${i}] after step ${t}`).toBeLessThan(1e-5);
        });
      }
    }
  });
});
