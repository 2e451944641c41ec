import { describe, expect, it } from 'vitest';
import { minibatches, rowLogProbs, tokenWeights, truncatedImportanceWeights, withKl } from '../../src/optim/index.ts';
import { buildTreeBatch, type TreeDocument } from '../../src/tree-batch.ts';
import { randomTrees, relativeDistance, tinySession } from '../fixtures/training.ts';

describe('tokenWeights: thoughts of 1 and 3 tokens, at most 4', () => {
  it.each([
    ['thought', [1 / 2, 1 / 6]],
    ['token', [1 / 4, 1 / 4]],
    ['limit', [1 / 8, 1 / 8]],
  ] as const)('%s', (kind, expected) => {
    expect(tokenWeights([1, 3], kind, 4)).toEqual(expected);
  });

  it('thoughts of one length weigh the same under thought and token', () => {
    expect(tokenWeights([5, 5, 5], 'thought', 9)).toEqual(tokenWeights([5, 5, 5], 'token', 9));
  });

  it('refuses a thought without tokens', () => {
    expect(() => tokenWeights([2, 0], 'thought', 4)).toThrow('internal: a thought of 0 tokens');
  });
});

describe('truncatedImportanceWeights', () => {
  it('hand-computed: ratios 1, 1/2 and 3 under a cap of 2', () => {
    const sampler = [-1, -1, -1];
    const trainer = [-1, -1 - Math.log(2), -1 + Math.log(3)];
    const [same, less, more] = truncatedImportanceWeights(trainer, sampler, 2);
    expect(same).toBe(1);
    expect(less).toBeCloseTo(0.5, 12);
    expect(more).toBe(2);
  });

  it('a token that the sampler took for impossible is capped', () => {
    expect([...truncatedImportanceWeights([-1], [Number.NEGATIVE_INFINITY], 2)]).toEqual([2]);
  });
});

const document = (name: number, count = 1): TreeDocument => ({
  trunk: [name],
  losses: [{ token: 0, target: 1, nllWeight: 0.5 }],
  branches: [
    {
      trunkLength: 1,
      tokens: [2],
      losses: Array.from({ length: count }, () => ({ token: 0, target: 3, policyWeight: 1, klWeight: 2 })),
    },
  ],
});

describe('minibatches', () => {
  const documents = [1, 2, 3, 4, 5].map((name) => document(name));
  const names = (batches: readonly TreeDocument[][]) => batches.map((batch) => batch.map(({ trunk }) => trunk[0]));
  const order = { seed: 1, step: 1 };

  it('one minibatch is the documents themselves, once an epoch', () => {
    expect(minibatches(documents, { ...order, epochs: 2, minibatches: 1 })).toEqual([documents, documents]);
    expect(minibatches([], { ...order, epochs: 2, minibatches: 3 })).toEqual([]);
  });

  it('every epoch has each document once, in an order of its own that seed and step decide', () => {
    const options = { ...order, epochs: 3, minibatches: 2 };
    const found = names(minibatches(documents, options));
    expect(found.map(({ length }) => length)).toEqual([2, 3, 2, 3, 2, 3]);
    const epochs = [0, 2, 4].map((i) => [...found[i], ...found[i + 1]]);
    for (const epoch of epochs) expect([...epoch].sort()).toEqual([1, 2, 3, 4, 5]);
    expect(new Set(epochs.map(String)).size).toBeGreaterThan(1);
    expect(names(minibatches(documents, options))).toEqual(found);
    expect(names(minibatches(documents, { ...options, step: 2 }))).not.toEqual(found);
  });

  it('weights add up to the same per minibatch as those of the whole step', () => {
    const batches = minibatches(documents, { ...order, epochs: 1, minibatches: 2 });
    for (const batch of batches) {
      expect(batch.reduce((sum, { losses }) => sum + (losses[0].nllWeight ?? 0), 0)).toBeCloseTo(2.5, 12);
      const rows = batch.flatMap(({ branches }) => branches[0].losses);
      expect(rows.reduce((sum, row) => sum + (row.policyWeight ?? 0), 0)).toBeCloseTo(5, 12);
      expect(rows.reduce((sum, row) => sum + (row.klWeight ?? 0), 0)).toBeCloseTo(10, 12);
    }
  });

  it('more minibatches than documents: one document each', () => {
    expect(
      names(minibatches(documents.slice(0, 2), { ...order, epochs: 1, minibatches: 9 })).map((x) => x.length),
    ).toEqual([1, 1]);
  });
});

describe('withKl', () => {
  it('gives policy rows their reference, in the order of the rows, and leaves the others', () => {
    const [first, second] = withKl([document(1, 2), document(2)], Float32Array.of(-1, -2, -3, -4, -5), 0.25);
    expect(first.losses).toEqual([{ token: 0, target: 1, nllWeight: 0.5 }]);
    expect(first.branches[0].losses.map((row) => [row.referenceLogProb, row.klWeight])).toEqual([
      [-2, 0.25],
      [-3, 0.25],
    ]);
    expect(second.branches[0].losses.map((row) => [row.referenceLogProb, row.klWeight])).toEqual([[-5, 0.25]]);
  });

  it('to the policy itself gives no loss and no gradient, to another one both', async () => {
    using session = await tinySession();
    using other = await tinySession(2);
    const policyOnly = (documents: readonly TreeDocument[]) =>
      documents.map(({ trunk, branches }) => ({
        trunk,
        losses: [],
        branches: branches.map((branch) => ({
          ...branch,
          losses: branch.losses.map((row) => ({ ...row, advantage: 0 })),
        })),
      }));
    const trees = policyOnly(randomTrees(48, 3));
    const lossAndGradient = async (reference: Float32Array) => {
      session.lazyResetGrad();
      const { loss } = await session.runTrainStep(buildTreeBatch(withKl(trees, reference, 1)));
      return { loss, gradient: [...session.weights.keys()].flatMap((name) => [...session.gradient(name)]) };
    };
    const own = await rowLogProbs(trees, (batch) => session.runEvalStep(batch), 16);
    const same = await lossAndGradient(own);
    const theirs = await rowLogProbs(trees, (batch) => other.runEvalStep(batch), 1000);
    const different = await lossAndGradient(theirs);
    // k3 of every row, from the two log-probs and the weight 0.1.
    const expected = own.reduce((sum, p, n) => sum + 0.1 * (Math.exp(theirs[n] - p) - 1 - (theirs[n] - p)), 0);
    expect(expected).toBeGreaterThan(0.01);
    expect(different.loss).toBeCloseTo(expected, 5);
    expect(Math.abs(same.loss)).toBeLessThan(1e-6);
    expect(Math.hypot(...same.gradient)).toBeLessThan(1e-5 * Math.hypot(...different.gradient));
    expect(relativeDistance(different.gradient, same.gradient)).toBeGreaterThan(1);
  });
});
