import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { buildEvalModel, buildTrainingModel, type TrainingGraphOptions } from '../../src/export/training-graphs.ts';
import { inputWeights } from '../../src/export/weights.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { Random } from '../../src/random.ts';
import { type HostWeights, randomWeights } from '../fixtures/tiny-model.ts';
import { float32, int64, largestDifference, openFlatReference, randomTokens, VARIANTS } from './decoder-graphs.ts';
import { openGraph, type Tensor } from './run-graph.ts';

const D = 2; // documents
const P = 7; // trunk tokens
const R = 3; // branches of a document
const L = 4; // branch tokens
/** [D, R]; the last row of the second document is padding. */
const TRUNK_LENGTHS = [7, 1, 4, 2, 7, 0];
const PADDING = 5;

interface Batch {
  trunks: number[][];
  branches: number[][];
  feeds: Record<string, Tensor>;
}

function batchOf(config: ModelConfig): Batch {
  const trunks = Array.from({ length: D }, (_, i) => randomTokens(P, config, `trunk ${i}`));
  const branches = TRUNK_LENGTHS.map((_, i) => randomTokens(L, config, `branch ${i}`));
  const indices = (length: number, from = 0) => Array.from({ length }, (_, i) => from + i);
  const feeds = {
    trunk_ids: int64([D, P], trunks.flat()),
    trunk_positions: int64(
      [D, P],
      trunks.flatMap(() => indices(P)),
    ),
    branch_ids: int64([D, R, L], branches.flat()),
    branch_positions: int64(
      [D, R, L],
      TRUNK_LENGTHS.flatMap((length) => indices(L, length)),
    ),
    branch_trunk_lengths: int64([D, R], TRUNK_LENGTHS),
  };
  return { trunks, branches, feeds };
}

interface LossRow {
  row: number;
  target: number;
  old?: number;
  advantage?: number;
  policyWeight?: number;
  nllWeight?: number;
  reference?: number;
  klWeight?: number;
}

function lossFeeds(rows: readonly LossRow[], clipLow = 0.2, clipHigh = 0.3): Record<string, Tensor> {
  const per = (of: (row: LossRow) => number | undefined) =>
    float32(
      [rows.length],
      rows.map((row) => of(row) ?? 0),
    );
  return {
    loss_rows: int64(
      [rows.length],
      rows.map(({ row }) => row),
    ),
    target_ids: int64(
      [rows.length],
      rows.map(({ target }) => target),
    ),
    old_log_probs: per(({ old }) => old),
    advantages: per(({ advantage }) => advantage),
    policy_weights: per(({ policyWeight }) => policyWeight),
    nll_weights: per(({ nllWeight }) => nllWeight),
    reference_log_probs: per(({ reference }) => reference),
    kl_weights: per(({ klWeight }) => klWeight),
    clip_low: float32([], [clipLow]),
    clip_high: float32([], [clipHigh]),
  };
}

function open(
  build: typeof buildEvalModel | typeof buildTrainingModel,
  config: ModelConfig,
  options: TrainingGraphOptions = {},
  recompute = false,
) {
  const builder = new GraphBuilder('training');
  build({ builder, config, weight: inputWeights(builder, config), flavor: 'fused', recompute }, options);
  return openGraph(builder.graph);
}

const weightFeeds = (weights: HostWeights): Record<string, Tensor> =>
  Object.fromEntries([...weights].map(([name, { shape, data }]) => [name, float32(shape, Array.from(data))]));

describe.each(VARIANTS)('eval_model.onnx, %s', (_name, config) => {
  const V = config.vocabSize;
  const weights = randomWeights(config);
  const { trunks, branches, feeds } = batchOf(config);
  const session = open(buildEvalModel, config);

  it('has the log-probs and entropy of every token of the flat sequences', async () => {
    const flat = await openFlatReference(config, weights);
    const onTrunks = await Promise.all(trunks.map(flat));
    const onBranches = await Promise.all(
      branches.map(async (tokens, i) => {
        const prefix = trunks[Math.floor(i / R)].slice(0, TRUNK_LENGTHS[i]);
        return (await flat([...prefix, ...tokens])).slice(prefix.length);
      }),
    );
    const expected = [...onTrunks, ...onBranches].flat();
    const rows = expected.flatMap((_, row) => Array.from({ length: V }, (_, target) => ({ row, target })));
    const outputs = await (await session).run({ ...weightFeeds(weights), ...feeds, ...lossFeeds(rows) });
    expect(expected).toHaveLength(D * (P + R * L));
    expect(largestDifference(outputs.log_probs, expected.flat())).toBeLessThan(1e-5);
    const entropy = expected.map((table) => -table.reduce((sum, x) => sum + Math.exp(x) * x, 0));
    expect(
      largestDifference(
        outputs.entropy.filter((_, i) => i % V === 0),
        entropy,
      ),
    ).toBeLessThan(1e-5);
    expect(outputs.loss[0]).toBeCloseTo(0, 12); // no weight on any row
  });

  it('has the loss of the formula, on either side of the clip', async () => {
    const run = await session;
    const base = { row: 3, target: 5 };
    const at = async (rows: LossRow[]) => run.run({ ...weightFeeds(weights), ...feeds, ...lossFeeds(rows) });
    const [logProb] = (await at([base])).log_probs;
    const old = (ratio: number) => logProb - Math.log(ratio);
    // [ratio, advantage, min(rho A, clip(rho, 0.8, 1.3) A)]
    const cases = [
      [1, 2, 2],
      [1.1, 2, 2.2],
      [1.5, 2, 2.6],
      [0.5, 2, 1],
      [1.5, -2, -3],
      [0.5, -2, -1.6],
    ];
    for (const [ratio, advantage, surrogate] of cases) {
      const row = { ...base, old: old(ratio), advantage, policyWeight: 0.25, nllWeight: 0.5 };
      const result = await at([row, { ...base, nllWeight: 2 }]);
      expect(result.ratio[0]).toBeCloseTo(ratio, 5);
      expect(result.loss[0]).toBeCloseTo(-0.25 * surrogate - 2.5 * logProb, 5);
    }
  });

  it('has the k3 estimate of the KL divergence, finite wherever the reference is', async () => {
    const run = await session;
    const at = async (row: Partial<LossRow>) =>
      (await run.run({ ...weightFeeds(weights), ...feeds, ...lossFeeds([{ row: 3, target: 5, ...row }]) })).loss[0];
    const logProb = -(await at({ nllWeight: 1 }));
    // [pi_ref / pi, pi_ref / pi - 1 - log(pi_ref / pi)]
    const cases = [
      [1, 0],
      [2, 1 - Math.log(2)],
      [0.5, Math.log(2) - 0.5],
    ];
    for (const [ratio, k3] of cases) {
      expect(await at({ reference: logProb + Math.log(ratio), klWeight: 4 })).toBeCloseTo(4 * k3, 4);
    }
    expect(await at({ reference: 200, klWeight: 0 })).toBe(0);
    expect(await at({ reference: -200, klWeight: 1 })).toBeCloseTo(199 + logProb, 3);
  });
});

/** Ratios on both sides of the clip range [0.8, 1.3] and inside it, so far from its ends that a small step crosses none. */
const RATIOS = [0.6, 1, 1.6];

describe.each(VARIANTS)('training_model.onnx, %s', (_name, config) => {
  const weights = randomWeights(config);
  const { feeds } = batchOf(config);

  /** Policy rows on branches, a third of them at each ratio; next tokens on trunks. */
  async function lossRows(): Promise<LossRow[]> {
    const random = new Random(0, 'losses');
    const rows = Array.from({ length: D * P + PADDING * L }, (_, row) => ({
      row,
      target: random.integer(config.vocabSize),
    }));
    const evaluation = await open(buildEvalModel, config);
    const { log_probs: logProbs } = await evaluation.run({ ...weightFeeds(weights), ...feeds, ...lossFeeds(rows) });
    return rows.map((row, i) => {
      if (row.row < D * P) return { ...row, nllWeight: 0.1 };
      const old = logProbs[i] - Math.log(RATIOS[i % RATIOS.length]);
      const reference = logProbs[i] + random.float() - 0.5;
      return { ...row, old, advantage: random.float() < 0.5 ? -1 : 1, policyWeight: 0.2, reference, klWeight: 0.1 };
    });
  }
  const prepared = lossRows();

  const buffers = (value: number) =>
    Object.fromEntries(
      [...weights].map(([name, { shape, data }]) => [
        `${name}.grad`,
        float32(shape, Array<number>(data.length).fill(value)),
      ]),
    );

  it('has the loss of the eval model, and its slope along a random direction of every weight', async () => {
    const training = await open(buildTrainingModel, config);
    const rows = await prepared;
    const batch = { ...feeds, ...lossFeeds(rows) };
    const evaluation = await open(buildEvalModel, config);
    const lossAt = async (changed: Record<string, Tensor>) =>
      (await evaluation.run({ ...weightFeeds(weights), ...changed, ...batch }, ['loss'])).loss[0];
    const result = await training.run({ ...weightFeeds(weights), ...buffers(0), ...batch });
    expect(result.loss[0]).toBeCloseTo(await lossAt({}), 6);
    const random = new Random(0, 'directions');
    for (const [name, { shape, data }] of weights) {
      const direction = Array.from(data, () => (random.float() < 0.5 ? -1 : 1));
      const gradient = result[`${name}.grad.out`];
      const slope = gradient.reduce((sum, g, i) => sum + g * direction[i], 0);
      const step = 2e-3;
      const moved = (steps: number) => ({
        [name]: float32(
          shape,
          Array.from(data, (w, i) => w + steps * step * direction[i]),
        ),
      });
      const apart = async (k: number) => (await lossAt(moved(k))) - (await lossAt(moved(-k)));
      const difference = (8 * (await apart(1)) - (await apart(2))) / (12 * step); // of fourth order
      // The second term: a loss near 8 is rounded by some 5e-7, which the division by the step magnifies.
      const norm = Math.hypot(...gradient);
      expect(Math.abs(slope - difference), name).toBeLessThan(5e-4 * norm + 1e-3);
    }
  });

  it('adds to the gradients it is given', async () => {
    const training = await open(buildTrainingModel, config);
    const rows = await prepared;
    const batch = { ...feeds, ...lossFeeds(rows) };
    const once = await training.run({ ...weightFeeds(weights), ...buffers(0), ...batch });
    const added = await training.run({ ...weightFeeds(weights), ...buffers(0.25), ...batch });
    for (const name of weights.keys()) {
      const sum = once[`${name}.grad.out`].map((g) => Math.fround(0.25 + g));
      expect(largestDifference(added[`${name}.grad.out`], sum), name).toBeLessThan(1e-6);
    }
  });

  it.each([1, 4, 7])('is the same with %i rows at a time through the LM head', async (headRows) => {
    const rows = await prepared;
    expect(rows.length % 4).not.toBe(0); // the last chunk is padded
    const given = { ...weightFeeds(weights), ...feeds, ...lossFeeds(rows) };
    for (const build of [buildEvalModel, buildTrainingModel]) {
      const extra = build === buildTrainingModel ? buffers(0.25) : {};
      const whole = await (await open(build, config)).run({ ...given, ...extra });
      const inChunks = await (await open(build, config, { headRows })).run({ ...given, ...extra });
      expect(Object.keys(inChunks)).toEqual(Object.keys(whole));
      for (const name of Object.keys(whole)) {
        expect(largestDifference(inChunks[name], whole[name]), name).toBeLessThan(2e-6);
      }
    }
  });

  it('is the same where layers are computed again', async () => {
    const given = { ...weightFeeds(weights), ...buffers(0.25), ...feeds, ...lossFeeds(await prepared) };
    const kept = await (await open(buildTrainingModel, config)).run(given);
    const again = await (await open(buildTrainingModel, config, {}, true)).run(given);
    expect(Object.keys(again)).toEqual(Object.keys(kept));
    for (const name of Object.keys(kept)) {
      expect(largestDifference(again[name], kept[name]), name).toBeLessThan(2e-6);
    }
  });

  it('gives no gradient where no row has a weight', async () => {
    const training = await open(buildTrainingModel, config);
    const unpaid = (await prepared).map(({ policyWeight: _, nllWeight: _nll, klWeight: _kl, ...row }) => row);
    const result = await training.run({ ...weightFeeds(weights), ...buffers(0), ...feeds, ...lossFeeds(unpaid) });
    for (const name of weights.keys()) {
      expect(
        result[`${name}.grad.out`].every((g) => g === 0),
        name,
      ).toBe(true);
    }
  });
});
