import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { loadWeights, openCheckpoint, type Weight } from '../../src/export/checkpoint.ts';
import { adapterShapes, checkLora, type LoraConfig, mergeAdapters } from '../../src/lora.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { cptDocument, TrainingSession } from '../../src/optim/index.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { SETTINGS, trainingArtifacts } from '../fixtures/training.ts';
import { floats, goldenPath, readGolden, readGoldenJson } from './golden.ts';

interface GoldenLora {
  checkpoint: string;
  r: number;
  lora_alpha: number;
  target_modules: string | string[];
  documents: number[][];
}

/** PEFT's own float32 results differ from float64 by up to 3e-6. */
const TOLERANCE = 1e-5;

function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, what: string): void {
  expect(actual.length, what).toBe(expected.length);
  for (let i = 0; i < actual.length; i++) {
    if (!(Math.abs(actual[i] - expected[i]) < TOLERANCE)) expect(actual[i], `${what} at ${i}`).toBe(expected[i]);
  }
}

describe.each(['tied-gqa', 'attention-bias'])('LoRA on %s is what PEFT computes', (name) => {
  const golden = readGoldenJson<GoldenLora>(`lora/${name}`);
  const stored = readGolden(`lora/${name}`);
  const results = readGolden(`lora/${name}.float64`);
  const lora: LoraConfig = {
    rank: golden.r,
    alpha: golden.lora_alpha,
    targetModules: [golden.target_modules].flat(),
  };
  const targets = golden.documents.reduce((sum, { length }) => sum + length - 1, 0);
  const batch = buildTreeBatch(golden.documents.map((tokens) => cptDocument(tokens, targets)));

  let config: ModelConfig;
  let weights: Map<string, Weight>;
  let session: TrainingSession;
  beforeAll(async () => {
    const checkpoint = await openCheckpoint(goldenPath(golden.checkpoint));
    config = checkpoint.config;
    checkLora(config, lora);
    weights = await loadWeights(checkpoint);
    for (const [adapter, shape] of adapterShapes(config, lora)) {
      weights.set(adapter, {
        shape,
        data: Float32Array.from(floats(stored, `base_model.model.${adapter}`)),
      });
    }
    session = await TrainingSession.create(trainingArtifacts(config, { lora }), weights);
  });
  afterAll(() => session.release());

  it('has adapters of the same names and shapes', () => {
    const shapes = [...stored].map(([adapter, { shape }]) => [adapter.replace('base_model.model.', ''), shape]);
    expect(Object.fromEntries(adapterShapes(config, lora))).toEqual(Object.fromEntries(shapes));
  });

  it('loss, log-probs and the gradients of the adapters', async () => {
    session.lazyResetGrad();
    const { loss, logProbs } = await session.runTrainStep(batch);
    expectClose([loss], floats(results, 'loss'), 'loss');
    expectClose(logProbs, floats(results, 'log_probs'), 'log-probs');
    for (const adapter of adapterShapes(config, lora).keys()) {
      expectClose(session.gradient(adapter), floats(results, `base_model.model.${adapter}.grad`), adapter);
    }
  });

  it('the merged weights, whose model gives the same loss', async () => {
    const merged = mergeAdapters(weights, lora);
    expect([...merged.keys()]).toEqual([
      ...(await loadWeights(await openCheckpoint(goldenPath(golden.checkpoint)))).keys(),
    ]);
    for (const [weight, { data }] of merged) {
      const changed = data !== weights.get(weight)?.data;
      expect(results.has(`${weight}.merged`), weight).toBe(changed);
      if (changed) expectClose(data, floats(results, `${weight}.merged`), weight);
    }
    using plain = await TrainingSession.create(trainingArtifacts(config), merged);
    expectClose([(await plain.runEvalStep(batch)).loss], floats(results, 'loss'), 'loss');
  });

  it('trains the adapters and nothing else', async () => {
    const trained = [...adapterShapes(config, lora).keys()];
    const count = (names: Iterable<string>) => [...names].reduce((n, w) => n + (weights.get(w)?.data.length ?? 0), 0);
    for (const tensors of Object.values(session.state().tensors)) expect([...tensors.keys()]).toEqual(trained);
    expect(session.getParametersSize()).toBe(count(trained));
    expect(session.getParametersSize(false)).toBe(count(weights.keys()));
    expect(() => session.gradient('model.norm.weight')).toThrow('no weight named model.norm.weight is trained');

    session.lazyResetGrad();
    const { loss } = await session.runTrainStep(batch);
    await session.runOptimizerStep({ ...SETTINGS, emaDecay: 0.5 });
    for (const [weight, value] of session.weights) {
      const before = weights.get(weight)?.data ?? [];
      const same = [...(value.data as Float32Array)].every((number, i) => number === before[i]);
      expect(same, weight).toBe(!trained.includes(weight));
    }
    // The EMA of the adapters stands on the same frozen weights: half the way, about half the change.
    const after = (await session.runEvalStep(batch)).loss;
    const ema = (await session.runEvalStep(batch, 'ema')).loss;
    expect(after).toBeLessThan(ema);
    expect(ema).toBeLessThan(loss);
  });
});
