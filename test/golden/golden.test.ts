import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { loadWeights, openCheckpoint } from '../../src/export/checkpoint.ts';
import { groupRelativeAdvantages } from '../../src/reward/index.ts';
import { floats, type GoldenRlpStep, goldenPath, integers, readGolden, readGoldenJson } from './golden.ts';

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

describe.each(['tied-gqa', 'untied-mha'])('RLP step of %s', (name) => {
  const inputs = readGoldenJson<GoldenRlpStep>(`rlp-step/${name}`);
  const groups = inputs.documents.flatMap(({ positions }) => positions.map(({ thoughts }) => thoughts));

  test('advantages are those of the reasoned log-probs', () => {
    const tensors = readGolden(`rlp-step/${name}.float64`);
    const reasoned = floats(tensors, 'reasoned_log_probs');
    const expected = floats(tensors, 'advantages');
    groups.forEach((thoughts, i) => {
      const group = [i * thoughts.length, (i + 1) * thoughts.length];
      const advantages = groupRelativeAdvantages(reasoned.subarray(...group));
      advantages.forEach((advantage, g) => {
        expect(advantage).toBeCloseTo(expected[i * thoughts.length + g], 12);
      });
    });
  });

  test('float32 and float64 results have the same names and shapes', () => {
    const shapes = (file: string) => new Map([...readGolden(file)].map(([key, { shape }]) => [key, shape]));
    const results = shapes(`rlp-step/${name}`);
    expect(results).toEqual(shapes(`rlp-step/${name}.float64`));
    for (const [weight, shape] of shapes(`rlp-step/${name}.baseline`)) {
      for (const kind of ['grad', 'nll_grad', 'after', 'ema_after']) {
        expect(results.get(`${weight}.${kind}`)).toEqual(shape);
      }
    }
  });

  test('token log-probs minus old log-probs give the ratios', () => {
    const tensors = readGolden(`rlp-step/${name}`);
    const ratios = floats(tensors, 'ratios');
    const old = groups.flat().flatMap(({ old_log_probs }) => old_log_probs);
    expect(old.length).toBe(ratios.length);
    floats(tensors, 'token_log_probs').forEach((value, n) => {
      expect(Math.exp(value - old[n])).toBeCloseTo(ratios[n], 5);
    });
  });
});
