import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { loadWeights, openCheckpoint } from '../../src/export/checkpoint.ts';
import { goldenPath, integers, readGolden } from './golden.ts';

const CHECKPOINTS = readdirSync(goldenPath('checkpoints'));

test.each(CHECKPOINTS)('checkpoint %s, as transformers wrote it, is read', async (name) => {
  const checkpoint = await openCheckpoint(goldenPath('checkpoints', name));
  const weights = await loadWeights(checkpoint);
  for (const [weight, { data, shape }] of weights) {
    expect(data.length, weight).toBe(shape.reduce((a, b) => a * b, 1));
    // Drawn from N(0, 0.3) or N(1, 0.3): a wrong offset or element type gives other magnitudes.
    expect(Math.max(...data.map(Math.abs)), weight).toBeLessThan(3);
    expect(Math.max(...data), weight).toBeGreaterThan(0.1);
  }
  if (checkpoint.files.length > 1 || checkpoint.tensors.get('model.norm.weight')?.dtype !== 'float32') return;
  const stored = readGolden(`checkpoints/${name}/model`);
  expect(new Set(stored.keys())).toEqual(new Set(weights.keys()));
  for (const [weight, { data }] of weights) expect(data, weight).toEqual(stored.get(weight)?.data);
});

test.each(CHECKPOINTS)('logits of %s fit its config', async (name) => {
  const { config } = await openCheckpoint(goldenPath('checkpoints', name));
  const tensors = readGolden(`logits/${name}`);
  const ids = integers(tensors, 'input_ids');
  expect(tensors.get('logits')?.shape).toEqual([2, ids.length / 2, config.vocabSize]);
  expect(tensors.get('present.0.key')?.shape).toEqual([2, config.numKvHeads, ids.length / 2, config.headDim]);
});
