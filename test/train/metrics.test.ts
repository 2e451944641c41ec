import { expect, it } from 'vitest';
import { LossMetrics } from '../../src/train/metrics.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';

const old = (ratio: number, logProb: number) => logProb - Math.log(ratio);
/** Three thought tokens and a next token, with log-probs -1, -2, -3 and -4 in the training graph. */
const batchOf = (ratios: readonly [number, number, number]) =>
  buildTreeBatch([
    {
      trunk: [1, 2],
      losses: [],
      branches: [
        {
          trunkLength: 2,
          tokens: [3, 4, 5],
          losses: [1, -1, 1].map((advantage, u) => ({
            ...{ token: u, target: 9, advantage, policyWeight: 0.5, oldLogProb: old(ratios[u], -1 - u) },
            ...(u === 0 && { referenceLogProb: -1 + Math.log(2), klWeight: 0.1 }),
          })),
        },
      ],
    },
    { trunk: [6], losses: [{ token: 0, target: 7, nllWeight: 1 }], branches: [] },
  ]);
const result = (ratios: readonly number[], loss: number) => ({
  loss,
  logProbs: Float32Array.of(-1, -2, -3, -4),
  entropy: Float32Array.of(1, 2, 3, 10),
  ratio: Float32Array.of(...ratios, 1),
});

it('hand-computed: two updates of one micro-batch each', () => {
  const metrics = new LossMetrics({ low: 0.2, high: 0.3 });
  metrics.startUpdate();
  metrics.add(batchOf([1, 1, 1]), result([1, 1, 1], 2));
  metrics.startUpdate();
  // Up with A > 0: clipped; down with A < 0: clipped; up within the range.
  metrics.add(batchOf([1.5, 0.5, 1.25]), result([1.5, 0.5, 1.25], 4));
  const figures = metrics.figures();
  expect(figures).toMatchObject({
    loss: 3,
    updates: 2,
    entropy: 2,
    next_token_loss: 4,
    ratio_min: 0.5,
    ratio_max: 1.5,
  });
  expect(figures.ratio_mean).toBeCloseTo((3 + 3.25) / 6, 6);
  expect(figures['clip_ratio/high_mean']).toBeCloseTo(1 / 6, 12);
  expect(figures['clip_ratio/low_mean']).toBeCloseTo(1 / 6, 12);
  expect(figures['clip_ratio/region_mean']).toBeCloseTo(2 / 6, 12);
  expect(figures.kl).toBeCloseTo(2 - 1 - Math.log(2), 6);
  // The first update alone: there the two agree.
  expect(figures['sampling/sampling_logp_difference/max']).toBeLessThan(1e-6);
});

it('without a thought the entropy is that of the text; without an update there is a loss of 0', () => {
  const text = new LossMetrics({ low: 0.2, high: 0.2 });
  text.startUpdate();
  const batch = buildTreeBatch([{ trunk: [6], losses: [{ token: 0, target: 7, nllWeight: 1 }], branches: [] }]);
  const one = (value: number) => Float32Array.of(value);
  text.add(batch, { loss: 4, logProbs: one(-4), entropy: one(1.5), ratio: one(1) });
  expect(text.figures()).toEqual({ loss: 4, updates: 1, entropy: 1.5 });
  expect(new LossMetrics({ low: 0.2, high: 0.2 }).figures()).toEqual({ loss: 0, updates: 0 });
});
