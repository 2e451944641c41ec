import { describe, expect, it } from 'vitest';
import { nextTokenRows, withImportanceWeights, withKl } from '../../src/optim/index.ts';
import type { PaidGroup } from '../../src/thinking.ts';
import { type ThoughtLossOptions, thoughtLoss, withForwardPasses } from '../../src/train/thought-documents.ts';
import type { TreeBatch } from '../../src/tree-batch.ts';

const OPEN = [90];
const OPTIONS: ThoughtLossOptions = {
  zeroVariance: 'keep',
  lengthNormalization: 'thought',
  maxThoughtTokens: 8,
  nextTokenCoefficient: 0,
};

/** A group at one position; a thought of n tokens has ids 20 .. 20 + n - 1 and log-probs -1, -2 ... */
function group(
  document: PaidGroup['document'],
  position: number,
  lengths: readonly number[],
  advantages: readonly number[],
  excluded = lengths.map(() => false),
): PaidGroup {
  const thoughts = lengths.map((length, rollout) => {
    const each = (of: (u: number) => number) => Array.from({ length }, (_, u) => of(u));
    return {
      ...{
        document: document.id,
        position,
        rollout,
        finishReason: 'length' as const,
        targets: [1],
        reasonedLogProbs: [-1],
      },
      ...{ tokens: each((u) => 20 + u), logProbs: each((u) => -1 - u), samplingLogProbs: each((u) => -0.5 - u) },
    };
  });
  return {
    ...{ document, position, thoughts, excluded, baselineLogProbs: undefined },
    ...{ rewards: Float64Array.from(advantages), advantages: Float64Array.from(advantages) },
  };
}
const DOCUMENTS = ['a', 'b'].map((id) => ({ id, tokens: [10, 11, 12, 13, 14], positions: [2, 3] }));
const [a, b] = DOCUMENTS;

describe('thoughtLoss', () => {
  const weightsOf = (groups: readonly PaidGroup[], more: Partial<ThoughtLossOptions> = {}) =>
    thoughtLoss(groups, OPEN, { ...OPTIONS, ...more }).documents.map(({ branches }) =>
      branches.map(({ losses }) => losses.map(({ policyWeight }) => policyWeight)),
    );

  it('weighs the tokens of all thoughts of the step', () => {
    const groups = [group(a, 2, [1, 2], [1, -1]), group(b, 3, [4], [0.5])];
    expect(weightsOf(groups)).toEqual([[[1 / 3], [1 / 6, 1 / 6]], [[1 / 12, 1 / 12, 1 / 12, 1 / 12]]]);
    expect(weightsOf(groups, { lengthNormalization: 'token' }).flat(2)).toEqual(Array(7).fill(1 / 7));
    expect(weightsOf(groups, { lengthNormalization: 'limit' }).flat(2)).toEqual(Array(7).fill(1 / 24));
    const { samplingLogProbs, rolloutLogProbs } = thoughtLoss(groups, OPEN, OPTIONS);
    expect(samplingLogProbs).toEqual([-0.5, -0.5, -1.5, -0.5, -1.5, -2.5, -3.5]);
    expect(rolloutLogProbs).toEqual([-1, -1, -2, -1, -2, -3, -4]);
  });

  it('counts the sampled tokens of an answer with those of its thought, and none that was forced', () => {
    const one = group(a, 2, [1, 2], [1, -1]);
    const answer = (tokens: number[], forced: number[] = []) => ({
      ...{ tokens, forced, finishReason: 'stop' as const },
      ...{ logProbs: tokens.map(() => -3), samplingLogProbs: tokens.map(() => -2.5) },
    });
    const [first, second] = one.thoughts;
    const completed = {
      ...one,
      thoughts: [
        { ...first, answer: answer([7, 8, 9], [91]) },
        { ...second, answer: answer([]) },
      ],
    };
    // 1 + 3 and 2 + 0 tokens of two completions, at most 8 each.
    expect(weightsOf([completed])).toEqual([[Array(4).fill(1 / 8), Array(2).fill(1 / 4)]]);
    expect(weightsOf([completed], { lengthNormalization: 'token' }).flat(2)).toEqual(Array(6).fill(1 / 6));
    expect(weightsOf([completed], { lengthNormalization: 'limit' }).flat(2)).toEqual(Array(6).fill(1 / 16));
    const { documents, samplingLogProbs, rolloutLogProbs } = thoughtLoss([completed], OPEN, OPTIONS);
    expect(documents[0].branches[0].tokens).toEqual([90, 20, 91, 7, 8]);
    expect(documents[0].branches[0].losses.map(({ token, target }) => [token, target])).toEqual([
      [0, 20],
      [2, 7],
      [3, 8],
      [4, 9],
    ]);
    expect(samplingLogProbs).toEqual([-0.5, -2.5, -2.5, -2.5, -0.5, -1.5]);
    expect(rolloutLogProbs).toEqual([-1, -3, -3, -3, -1, -2]);
  });

  it('leaves out thoughts that take no part, and groups without a gradient where asked to', () => {
    const groups = [group(a, 2, [1, 1], [1, 0], [false, true]), group(b, 3, [1, 1], [0, 0])];
    expect(weightsOf(groups)).toEqual([[[1 / 3]], [[1 / 3], [1 / 3]]]);
    expect(weightsOf(groups, { zeroVariance: 'drop' })).toEqual([[[1]]]);
    expect(thoughtLoss([groups[1]], OPEN, { ...OPTIONS, zeroVariance: 'drop' }).documents).toEqual([]);
  });

  it('adds the next-token loss of the text before the last position, and of the token there', () => {
    const prompted = { ...b, promptTokens: 2 };
    const groups = [group(a, 2, [1], [1]), group(a, 3, [1], [1]), group(prompted, 3, [1], [0])];
    const { documents } = thoughtLoss(groups, OPEN, { ...OPTIONS, nextTokenCoefficient: 0.5, zeroVariance: 'drop' });
    // Targets: 11, 12, 13 of a; 12, 13 of b, whose first two tokens are the prompt. 0.5 / 5 each.
    const row = (token: number, target: number) => ({ token, target, nllWeight: 0.1 });
    expect(documents.map(({ trunk, losses }) => ({ trunk, losses }))).toEqual([
      { trunk: [10, 11, 12], losses: [row(0, 11), row(1, 12), row(2, 13)] },
      { trunk: [10, 11, 12], losses: [row(1, 12), row(2, 13)] },
    ]);
    expect(documents.map(({ branches }) => branches.map(({ trunkLength }) => trunkLength))).toEqual([[2, 3], []]);
  });
});

describe('nextTokenRows', () => {
  it('targets first .. last, never the first token', () => {
    expect(nextTokenRows([5, 6, 7, 8], 0, 2, 0.25)).toEqual([
      { token: 0, target: 6, nllWeight: 0.25 },
      { token: 1, target: 7, nllWeight: 0.25 },
    ]);
    expect(nextTokenRows([5, 6], 1, 0, 1)).toEqual([]);
  });
});

describe('withImportanceWeights', () => {
  const { documents } = thoughtLoss([group(a, 2, [1], [1])], OPEN, { ...OPTIONS, nextTokenCoefficient: 1 });

  it('takes over the log-probs of training and scales policy rows only', () => {
    // Rows in their order: three next tokens, then the thought's token.
    const [weighted] = withImportanceWeights(documents, Float32Array.of(-7, -8, -9, -1.25), [1.5]);
    expect(weighted.losses).toEqual(documents[0].losses);
    expect(weighted.branches[0].losses).toEqual([
      { token: 0, target: 20, oldLogProb: -1.25, advantage: 1, policyWeight: 1.5 },
    ]);
  });

  it('leaves the KL as it is', () => {
    const held = withKl(documents, Float32Array.of(0, 0, 0, -2), 0.5);
    const [weighted] = withImportanceWeights(held, Float32Array.of(-7, -8, -9, -1.25), [1.5]);
    expect(weighted.branches[0].losses).toMatchObject([{ policyWeight: 1.5, klWeight: 0.5, referenceLogProb: -2 }]);
  });

  it('refuses another number of weights', () => {
    expect(() => withImportanceWeights(documents, new Float32Array(4), [1, 1])).toThrow(
      'internal: 2 importance weights for 1',
    );
  });
});

describe('withForwardPasses', () => {
  /** A policy that gives the loss rows these log-probs, in their order. */
  const policy = (...logProbs: number[]) => ({
    runEvalStep: async ({ dims: { N } }: TreeBatch) => {
      const none = new Float32Array(N);
      return { loss: 0, entropy: none, ratio: none, logProbs: Float32Array.from(logProbs) };
    },
  });
  const loss = thoughtLoss([group(a, 2, [2, 1], [1, -1])], OPEN, { ...OPTIONS, nextTokenCoefficient: 1 });
  const reference = { rowLogProbs: () => Promise.reject(new Error('a pass')) };
  const settings = { klCoefficient: 0, importanceCap: 2, microBatchTokens: 100 };

  it.each([
    ['mismatch', [Math.exp(-0.5), Math.exp(0.25), 2]],
    ['behavior', [Math.exp(-1), Math.exp(-0.25), Math.exp(0.5)]],
  ] as const)(
    '%s: what training and sampling disagree about is of the policy and the log-probs of the rollout',
    async (importanceSampling, weights) => {
      // Two next tokens, then those of the thoughts: sampled with -1, -2 and -1; drawn with 0.5 more.
      const session = policy(-7, -7, -7, -1.5, -1.75, 0);
      const { documents, tokens, metrics } = await withForwardPasses(loss, {
        config: { ...settings, importanceSampling },
        ...{ session, reference },
      });
      expect(tokens).toBe(3 + 2 + 1); // the trunk, and both thoughts behind the delimiter, less the last token of each
      expect(metrics['sampling/sampling_logp_difference/mean']).toBeCloseTo((0.5 + 0.25 + 1) / 3, 6);
      expect(metrics['sampling/sampling_logp_difference/max']).toBeCloseTo(1, 6);
      expect(metrics['sampling/importance_sampling_ratio/mean']).toBeCloseTo(
        weights.reduce((sum, weight) => sum + weight) / 3,
        6,
      );
      expect(documents[0].branches[0].losses.map(({ oldLogProb }) => oldLogProb)).toEqual([-1.5, -1.75]);
    },
  );

  it('runs nothing where nothing is asked for', async () => {
    const session = { runEvalStep: () => Promise.reject(new Error('a pass')) };
    const config = { ...settings, importanceSampling: 'none' } as const;
    expect(await withForwardPasses(loss, { config, session, reference })).toEqual({
      documents: loss.documents,
      tokens: 0,
      metrics: {},
    });
  });
});
