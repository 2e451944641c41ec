import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TrainingSession } from '../src/optim/index.ts';
import { buildTreeBatch, type TreeDocument } from '../src/tree-batch.ts';
import type { TreeResult } from '../src/tree-model.ts';
import { TINY_MODEL } from './fixtures/tiny-model.ts';
import { randomTrees, relativeDistance, tinySession } from './fixtures/training.ts';

/** Every branch as a document of its own, its prefix copied before it: what a model without trees is trained on. */
function flatten(documents: readonly TreeDocument[]): TreeDocument[] {
  return documents.flatMap(({ trunk, losses, branches }) => [
    { trunk, losses, branches: [] },
    ...branches.map(({ trunkLength, tokens, losses: own }) => ({
      trunk: [...Array.from(trunk).slice(0, trunkLength), ...Array.from(tokens)],
      losses: own.map((loss) => ({ ...loss, token: trunkLength + loss.token })),
      branches: [],
    })),
  ]);
}

let session: TrainingSession;
beforeAll(async () => {
  session = await tinySession();
});
afterAll(() => session.release());

async function lossAndGradients(documents: readonly TreeDocument[]) {
  session.lazyResetGrad();
  const result: TreeResult = await session.runTrainStep(buildTreeBatch(documents), { low: 0.2, high: 0.3 });
  return { result, gradients: new Map([...session.weights.keys()].map((name) => [name, session.gradient(name)])) };
}

describe('a prefix tree', () => {
  const trees = randomTrees(TINY_MODEL.vocabSize, 4, 5);

  it('has loss, log-probs and gradients of its flattened sequences', async () => {
    const tree = await lossAndGradients(trees);
    const flat = await lossAndGradients(flatten(trees));
    expect(Math.abs(tree.result.loss / flat.result.loss - 1)).toBeLessThan(1e-5);
    for (const kind of ['logProbs', 'entropy', 'ratio'] as const) {
      expect(relativeDistance(tree.result[kind], flat.result[kind]), kind).toBeLessThan(1e-5);
    }
    for (const [name, gradient] of flat.gradients) {
      expect(relativeDistance(tree.gradients.get(name) ?? [], gradient), name).toBeLessThan(1e-4);
    }
    // The surrogate took part: some ratios lie outside the clip range, on either side.
    expect(Math.max(...tree.result.ratio)).toBeGreaterThan(1.3);
    expect(Math.min(...tree.result.ratio)).toBeLessThan(0.8);
  });

  it('gives no gradient from the padding: documents alone and padded by a longer one are the same', async () => {
    const [long] = randomTrees(TINY_MODEL.vocabSize, 1, 9);
    const silent = {
      trunk: [...Array.from(long.trunk), ...Array.from(long.trunk)],
      losses: [{ token: 0, target: 0 }], // weights 0
      branches: Array.from({ length: 6 }, () => ({ trunkLength: 3, tokens: [1, 2, 3, 4, 5, 6, 7, 8, 9], losses: [] })),
    };
    const alone = await lossAndGradients(trees);
    const padded = await lossAndGradients([...trees, silent]);
    expect(Math.abs(padded.result.loss / alone.result.loss - 1)).toBeLessThan(1e-5);
    for (const [name, gradient] of alone.gradients) {
      expect(relativeDistance(padded.gradients.get(name) ?? [], gradient), name).toBeLessThan(1e-4);
    }
  });
});

describe('the loss', () => {
  it('is -sum w min(rho A, clip(rho) A) - sum w log p, by hand from log-probs', async () => {
    const [tree] = randomTrees(TINY_MODEL.vocabSize, 1, 3);
    const { logProbs: free } = await session.runEvalStep(buildTreeBatch([tree]));
    const at = tree.losses.length; // first loss row of the first branch
    const [branch] = tree.branches;
    const [row] = branch.losses;
    // rho = e^0.5 = 1.649 (above 1.3) and e^-0.5 = 0.607 (below 0.8).
    const loss = async (shift: number, advantage: number) => {
      const losses = [{ ...row, oldLogProb: free[at] - shift, advantage, policyWeight: 2 }];
      const document = { ...tree, losses: [], branches: [{ ...branch, losses }] };
      return (await session.runEvalStep(buildTreeBatch([document]), 'weights', { low: 0.2, high: 0.3 })).loss;
    };
    expect(await loss(0.5, 3)).toBeCloseTo(-2 * 1.3 * 3, 4); // clipped: min takes the bound
    expect(await loss(0.5, -3)).toBeCloseTo(2 * Math.exp(0.5) * 3, 4); // not clipped: min takes the larger loss
    expect(await loss(-0.5, 3)).toBeCloseTo(-2 * Math.exp(-0.5) * 3, 4);
    expect(await loss(-0.5, -3)).toBeCloseTo(2 * 0.8 * 3, 4);
    const text = { ...tree, losses: [{ ...tree.losses[0], nllWeight: 0.5 }], branches: [] };
    expect((await session.runEvalStep(buildTreeBatch([text]))).loss).toBeCloseTo(-0.5 * free[0], 5);
  });

  it('pushes nothing through clipped tokens', async () => {
    const [tree] = randomTrees(TINY_MODEL.vocabSize, 1, 3);
    const [branch] = tree.branches;
    const clipped = branch.losses.map((loss) => ({ ...loss, oldLogProb: -20, advantage: 1 })); // rho is e^16
    const { gradients } = await lossAndGradients([{ ...tree, losses: [], branches: [{ ...branch, losses: clipped }] }]);
    for (const gradient of gradients.values()) expect(gradient.every((value) => value === 0)).toBe(true);
  });
});
