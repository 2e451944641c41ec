import { describe, expect, it } from 'vitest';
import { trainingRolloutGraphs } from '../../src/export/artifacts.ts';
import { Session, type SessionOptions, type TensorInfo, Value } from '../../src/runtime/index.ts';
import { type HostWeights, randomWeights, rolloutGraphs } from '../fixtures/tiny-model.ts';
import { VARIANTS } from './decoder-graphs.ts';

/** The rollout graphs whose weights are given at session creation, against graphs that hold the same weights. */

const SIZES: Record<string, number> = { D: 2, C: 5, P: 6, S: 2, R: 4, m: 2, L: 4, N: 8 };

/** Deterministic feeds of any graph: small integers where int64, fractions where float32. */
function feedsOf(inputs: readonly TensorInfo[], numKvHeads: number): Record<string, Value> {
  const sizes: Record<string, number> = { ...SIZES, B: SIZES.D * numKvHeads * SIZES.S };
  const slots: Record<string, number[]> = {
    row_slots: [0, 1, 2, 3],
    slot_rows: [0, 1, 2, 3],
    write_index: [0, 0, 1, 1],
  };
  const entries = inputs.map(({ name, dtype, dims }) => {
    const shape = dims.map((dim) => (typeof dim === 'number' ? dim : sizes[dim]));
    const size = shape.reduce((a, b) => a * b, 1);
    const data = Array.from({ length: size }, (_, i) =>
      dtype === 'int64' ? (slots[name]?.[i] ?? (i * 7) % 6) : ((i * 13) % 10) / 10 + (shape.length === 0 ? 1 : 0),
    );
    return [name, Value.from(dtype, shape, data)] as const;
  });
  return Object.fromEntries(entries);
}

async function run(model: Uint8Array, numKvHeads: number, options: SessionOptions): Promise<Record<string, number[]>> {
  using session = await Session.create(model, options);
  return await runSession(session, numKvHeads);
}

async function runSession(session: Session, numKvHeads: number): Promise<Record<string, number[]>> {
  const feeds = feedsOf(session.inputs, numKvHeads);
  const outputs = await session.run(feeds);
  const numbers = Object.entries(outputs).map(([name, value]) => [name, Array.from(value.data, Number)] as const);
  for (const value of [...Object.values(feeds), ...Object.values(outputs)]) value.dispose();
  return Object.fromEntries(numbers);
}

/**
 * The prefill graph ends at the keys and values of the last of two layers, and a session takes no value for an initializer that
 * its graph lacks.
 */
const BEHIND =
  /^(model\.norm|lm_head|model\.layers\.1\.(self_attn\.(q_proj|q_norm|o_proj)|post_attention_layernorm|mlp\..*))\./;

function valuesOf(weights: HostWeights, graph: 'prefill' | 'step'): Map<string, Value> {
  const used = [...weights].filter(([name]) => graph === 'step' || !BEHIND.test(name));
  return new Map(used.map(([name, { shape, data }]) => [name, Value.from('float32', shape, data)]));
}

describe.each(VARIANTS)('rollout graphs of weights in training, %s', (_name, config) => {
  const graphs = trainingRolloutGraphs(config);

  it.each(['prefill', 'step'] as const)('%s computes with the weights it is given', async (graph) => {
    // The second set comes after a session of the first: nothing is kept between sessions.
    for (const seed of [1, 2]) {
      const weights = randomWeights(config, seed);
      const initializers = valuesOf(weights, graph);
      const inside = rolloutGraphs(config, weights)[graph];
      for (const optimizationLevel of ['disable', 'all'] as const) {
        const found = await run(graphs[graph], config.numKvHeads, { initializers, optimizationLevel });
        const expected = await run(inside, config.numKvHeads, { optimizationLevel });
        expect(found).toEqual(expected);
      }
      for (const value of initializers.values()) value.dispose();
    }
  });

  it('keeps its weights when the values change or go', async () => {
    const initializers = valuesOf(randomWeights(config), 'step');
    using session = await Session.create(graphs.step, { initializers });
    const before = await runSession(session, config.numKvHeads);
    for (const value of initializers.values()) {
      (value.data as Float32Array).fill(0);
      value.dispose();
    }
    expect(await runSession(session, config.numKvHeads)).toEqual(before);
  });

  it('cannot be loaded without its weights', async () => {
    await expect(Session.create(graphs.prefill)).rejects.toThrow('given-at-session-creation');
    const initializers = valuesOf(randomWeights(config), 'prefill');
    initializers.get('model.layers.0.mlp.up_proj.weight')?.dispose();
    initializers.delete('model.layers.0.mlp.up_proj.weight');
    await expect(Session.create(graphs.prefill, { initializers })).rejects.toThrow('given-at-session-creation');
    for (const value of initializers.values()) value.dispose();
  });
});
