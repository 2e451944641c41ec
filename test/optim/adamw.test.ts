import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { buildOptimizer } from '../../src/export/optimizer-graph.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { type HostTensor, type OptimizerSettings, STATE_KINDS, TrainingSession } from '../../src/optim/index.ts';
import type { TreeBatch } from '../../src/tree-batch.ts';
import { floats, readGolden, readGoldenJson } from '../golden/golden.ts';

type Shapes = ReadonlyMap<string, readonly number[]>;
const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/**
 * A training graph whose gradients are told to it: the weights' gradients, one after the other, are the batch's
 * `advantages`. Its loss means nothing.
 */
function toldGradients(shapes: Shapes): Uint8Array {
  const b = new GraphBuilder('told_gradients');
  for (const name of ['trunk_ids', 'trunk_positions']) b.input(name, 'int64', ['D', 'P']);
  for (const name of ['branch_ids', 'branch_positions']) b.input(name, 'int64', ['D', 'R', 'L']);
  b.input('branch_trunk_lengths', 'int64', ['D', 'R']);
  for (const name of ['loss_rows', 'target_ids']) b.input(name, 'int64', ['N']);
  const rows = ['old_log_probs', 'advantages', 'policy_weights', 'nll_weights', 'reference_log_probs', 'kl_weights'];
  const perRow = rows.map((name) => b.input(name, 'float32', ['N']));
  for (const name of ['clip_low', 'clip_high']) b.input(name, 'float32', []);
  for (const [name, shape] of shapes) b.input(name, 'float32', shape);
  const pieces = b.split(perRow[1], [...shapes.values()].map(sizeOf), 0);
  [...shapes].forEach(([name, shape], i) => {
    b.output(`${name}.grad.out`, b.add(b.input(`${name}.grad`, 'float32', shape), b.reshape(pieces[i], shape)));
  });
  b.output('loss', b.reduceSum(perRow[1], [0], false));
  for (const name of ['log_probs', 'entropy', 'ratio']) b.output(name, b.neg(perRow[0]));
  return serializeGraph(b.graph, { opset: 21 });
}

function batchOf(gradients: readonly ArrayLike<number>[]): TreeBatch {
  const advantages = Float32Array.from(gradients.flatMap((gradient) => Array.from(gradient)));
  const N = advantages.length;
  const one = () => new BigInt64Array(1);
  return {
    dims: { D: 1, P: 1, R: 1, L: 1, N },
    ...{ trunk_ids: one(), trunk_positions: one(), branch_ids: one(), branch_positions: one() },
    branch_trunk_lengths: one(),
    ...{
      loss_rows: BigInt64Array.from({ length: N }, (_, n) => BigInt(n)),
      target_ids: new BigInt64Array(N),
      old_log_probs: new Float32Array(N),
    },
    ...{ advantages, policy_weights: new Float32Array(N), nll_weights: new Float32Array(N) },
    ...{ reference_log_probs: new Float32Array(N), kl_weights: new Float32Array(N) },
  };
}

function optimizerSession(weights: ReadonlyMap<string, HostTensor>): Promise<TrainingSession> {
  const shapes = new Map([...weights].map(([name, { shape }]) => [name, shape]));
  const optimizer = new GraphBuilder('optimizer');
  buildOptimizer(optimizer, shapes);
  const trainingModel = toldGradients(shapes);
  const optimizerModel = serializeGraph(optimizer.graph, { opset: 21 });
  return TrainingSession.create({ trainingModel, evalModel: trainingModel, optimizerModel }, weights);
}

/** Gradients of one micro-batch each, then an optimizer step. */
async function step(session: TrainingSession, settings: OptimizerSettings, ...gradients: ArrayLike<number>[][]) {
  session.lazyResetGrad();
  for (const gradient of gradients) await session.runTrainStep(batchOf(gradient));
  return session.runOptimizerStep(settings);
}

const PLAIN: OptimizerSettings = {
  learningRate: 0.5,
  beta1: 0.5,
  beta2: 0.75,
  epsilon: 0.5,
  weightDecay: 0,
  maxGradNorm: 0,
  emaDecay: 0.75,
};
const MATRIX = 'model.layers.0.mlp.up_proj.weight';
const NORM = 'model.norm.weight';
const matrix = (...values: number[]) =>
  new Map([[MATRIX, { shape: [1, values.length], data: Float32Array.from(values) }]]);

function expectState(
  session: TrainingSession,
  expected: Record<(typeof STATE_KINDS)[number], number[]>,
  name = MATRIX,
) {
  for (const kind of STATE_KINDS) {
    const data = session.state().tensors[kind].get(name)?.data ?? [];
    expected[kind].forEach((value, i) => {
      expect(data[i], `${kind}[${i}]`).toBeCloseTo(value, 6);
    });
  }
}

describe('AdamW by hand', () => {
  it('takes the first step: m = g / 2, v = g^2 / 4, both undone by the bias correction, so that the update is g / (|g| + eps)', async () => {
    using session = await optimizerSession(matrix(1, -2));
    const { gradNorm, emaDistance, applied } = await step(session, PLAIN, [[3, -4]]);
    expect(gradNorm).toBeCloseTo(5, 6);
    expect(applied).toBe(true);
    // ema - w is three quarters of the update, 1.5 / 3.5 and -2 / 4.5.
    expect(emaDistance).toBeCloseTo(0.75 * Math.hypot(1.5 / 3.5, 2 / 4.5), 6);
    // w = 1 - 0.5 * 3 / 3.5, -2 + 0.5 * 4 / 4.5; ema = 0.75 old + 0.25 new.
    const weights = [1 - 1.5 / 3.5, -2 + 2 / 4.5];
    const ema = [0.75 + 0.25 * weights[0], -1.5 + 0.25 * weights[1]];
    expectState(session, { weights, exp_avg: [1.5, -2], exp_avg_sq: [2.25, 4], ema });
  });

  it('takes the second step with t = 2', async () => {
    using session = await optimizerSession(matrix(1));
    await step(session, PLAIN, [[4]]); // m = 2, v = 4, w = 1 - 0.5 * 4 / 4.5
    await step(session, PLAIN, [[-2]]); // m = 0.5 * 2 - 0.5 * 2 = 0, v = 0.75 * 4 + 0.25 * 4 = 4: no update
    await step(session, PLAIN, [[1]]); // m = 0.5, v = 3.25, bias corrections 1 - 1/8 and 1 - 27/64
    const w1 = 1 - 2 / 4.5;
    const w3 = w1 - (0.5 * (0.5 / 0.875)) / (Math.sqrt(3.25 / (37 / 64)) + 0.5);
    const ema1 = 0.75 + 0.25 * w1;
    const ema3 = 0.75 * (0.75 * ema1 + 0.25 * w1) + 0.25 * w3;
    expectState(session, { weights: [w3], exp_avg: [0.5], exp_avg_sq: [3.25], ema: [ema3] });
    expect(session.step).toBe(3);
  });

  it('scales gradients down to the global norm over all weights', async () => {
    const weights = new Map([...matrix(0, 0), [NORM, { shape: [1], data: Float32Array.of(0) }]]);
    using session = await optimizerSession(weights);
    const { gradNorm } = await step(session, { ...PLAIN, maxGradNorm: 6 }, [[4, 4], [-2]]); // norm 6: at the limit
    expect(gradNorm).toBeCloseTo(6, 6);
    expect(session.state().tensors.exp_avg.get(NORM)?.data[0]).toBeCloseTo(-1, 6);
    using other = await optimizerSession(weights);
    await step(other, { ...PLAIN, maxGradNorm: 1.5 }, [[4, 4], [-2]]); // a quarter of each
    expect(other.state().tensors.exp_avg.get(MATRIX)?.data[0]).toBeCloseTo(0.5, 6);
    expect(other.state().tensors.exp_avg.get(NORM)?.data[0]).toBeCloseTo(-0.25, 6);
    expect(other.state().tensors.exp_avg_sq.get(MATRIX)?.data[0]).toBeCloseTo(0.25, 6);
  });

  it('decays matrices, decoupled from the gradient, and neither norms nor the embedding', async () => {
    const names = [MATRIX, NORM, 'model.embed_tokens.weight', 'lm_head.weight'];
    const shapes = [[1, 1], [1], [1, 1], [1, 1]];
    const weights = new Map(names.map((name, i) => [name, { shape: shapes[i], data: Float32Array.of(8) }]));
    using session = await optimizerSession(weights);
    await step(session, { ...PLAIN, weightDecay: 0.25 }, [[0], [0], [0], [0]]);
    // w (1 - 0.5 * 0.25)
    expect(names.map((name) => session.state().tensors.weights.get(name)?.data[0])).toEqual([7, 8, 8, 7]);
  });

  it('adds micro-batches up before the step', async () => {
    using session = await optimizerSession(matrix(1, -2));
    await step(session, PLAIN, [[1, -5]], [[2, 1]]);
    using other = await optimizerSession(matrix(1, -2));
    await step(other, PLAIN, [[3, -4]]);
    expect(session.state()).toEqual(other.state());
  });

  it('leaves out a step with a gradient that is not finite, bias correction included', async () => {
    using session = await optimizerSession(matrix(1, -2));
    await step(session, PLAIN, [[3, -4]]);
    const before = structuredClone(session.state());
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 1e30]) {
      const { applied } = await step(session, PLAIN, [[1, bad]]); // 1e30 squared is beyond float32
      expect(applied).toBe(false);
      expect(session.state()).toEqual(before);
    }
    using other = await optimizerSession(matrix(1, -2));
    for (const target of [session, other]) await step(target, PLAIN, [[3, -4]]);
    await step(other, PLAIN, [[3, -4]]);
    expect(session.state()).toEqual(other.state());
  });
});

describe('AdamW against torch.optim.AdamW', () => {
  it('is the same over 100 steps, clipping and EMA included', async () => {
    interface GoldenAdamw {
      settings: Record<string, number>;
      steps: number;
      recorded: number[];
    }
    const { settings, steps, recorded } = readGoldenJson<GoldenAdamw>('adamw/adamw');
    const inputs = readGolden('adamw/adamw');
    const expected = readGolden('adamw/adamw.float64');
    const weights = new Map<string, HostTensor>();
    for (const [key, { shape }] of inputs) {
      const name = /^initial\.(.*)$/.exec(key)?.[1];
      if (name !== undefined) weights.set(name, { shape, data: Float32Array.from(floats(inputs, key)) });
    }
    const gradient = (name: string, t: number, size: number) =>
      floats(inputs, `gradients.${name}`).subarray((t - 1) * size, t * size);
    using session = await optimizerSession(weights);
    for (let t = 1; t <= steps; t++) {
      const { gradNorm } = await step(
        session,
        {
          learningRate: settings.learning_rate,
          beta1: settings.beta1,
          beta2: settings.beta2,
          epsilon: settings.epsilon,
          weightDecay: settings.weight_decay,
          maxGradNorm: settings.max_grad_norm,
          emaDecay: settings.ema_decay,
        },
        [...weights].map(([name, { data }]) => gradient(name, t, data.length)),
      );
      expect(Math.abs(gradNorm / floats(expected, 'grad_norms')[t - 1] - 1)).toBeLessThan(1e-6);
      if (!recorded.includes(t)) continue;
      const { tensors } = session.state();
      for (const [kind, suffix] of [
        ['weights', ''],
        ['exp_avg', '.exp_avg'],
        ['exp_avg_sq', '.exp_avg_sq'],
        ['ema', '.ema'],
      ] as const) {
        for (const [name, { data }] of tensors[kind]) {
          const golden = floats(expected, `step-${t}.${name}${suffix}`);
          const difference = data.reduce((most, value, i) => Math.max(most, Math.abs(value - golden[i])), 0);
          expect(difference, `${kind} of ${name} after step ${t}`).toBeLessThan(1e-5);
        }
      }
    }
    expect(session.step).toBe(steps);
  });
});
