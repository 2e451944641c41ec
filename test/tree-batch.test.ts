import { describe, expect, it } from 'vitest';
import { buildTreeBatch, type TreeDocument, treeBatchShapes } from '../src/tree-batch.ts';

const numbers = (values: BigInt64Array) => Array.from(values, Number);

/** Two documents: 5 trunk tokens with branches of 2 and 1 tokens, 2 trunk tokens without a branch. */
const DOCUMENTS: TreeDocument[] = [
  {
    trunk: [5, 6, 7, 3, 4],
    losses: [{ token: 1, target: 7, nllWeight: 0.5 }],
    branches: [
      {
        trunkLength: 2,
        tokens: [20, 21],
        losses: [
          {
            token: 1,
            target: 22,
            oldLogProb: -1.5,
            advantage: 0.25,
            policyWeight: 2,
            referenceLogProb: -1.25,
            klWeight: 0.125,
          },
        ],
      },
      { trunkLength: 3, tokens: [30], losses: [{ token: 0, target: 31 }] },
    ],
  },
  { trunk: [8, 9], losses: [{ token: 0, target: 9, nllWeight: 0.75 }], branches: [] },
];

describe('buildTreeBatch', () => {
  const batch = buildTreeBatch(DOCUMENTS);

  it('pads trunks and branches to the longest, rows to the most', () => {
    expect(batch.dims).toEqual({ D: 2, P: 5, R: 2, L: 2, N: 4 });
    expect(numbers(batch.trunk_ids)).toEqual([5, 6, 7, 3, 4, 8, 9, 0, 0, 0]);
    expect(numbers(batch.branch_ids)).toEqual([20, 21, 30, 0, 0, 0, 0, 0]);
  });

  it("counts a branch's positions on from its prefix", () => {
    expect(numbers(batch.trunk_positions)).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 3, 4]);
    expect(numbers(batch.branch_positions).slice(0, 3)).toEqual([2, 3, 3]);
    expect(numbers(batch.branch_trunk_lengths)).toEqual([2, 3, 0, 0]); // padding sees nothing
  });

  it('points at token rows: trunks first, then branches', () => {
    // Trunk rows 0..9, branch rows 10 + 2 r + l.
    expect(numbers(batch.loss_rows)).toEqual([1, 11, 12, 5]);
    expect(numbers(batch.target_ids)).toEqual([7, 22, 31, 9]);
    expect([...batch.old_log_probs]).toEqual([0, -1.5, 0, 0]);
    expect([...batch.advantages]).toEqual([0, 0.25, 0, 0]);
    expect([...batch.policy_weights]).toEqual([0, 2, 0, 0]);
    expect([...batch.nll_weights]).toEqual([0.5, 0, 0, 0.75]);
    expect([...batch.reference_log_probs]).toEqual([0, -1.25, 0, 0]);
    expect([...batch.kl_weights]).toEqual([0, 0.125, 0, 0]);
  });

  it('has the shapes it says', () => {
    for (const [name, shape] of Object.entries(treeBatchShapes(batch))) {
      const { length } = batch[name as keyof ReturnType<typeof treeBatchShapes>];
      expect(shape.reduce((a, b) => a * b, 1)).toBe(length);
    }
  });

  it('has room for one branch where no document has any, and a trunk of as many tokens as the graphs need', () => {
    const { dims, branch_trunk_lengths } = buildTreeBatch([DOCUMENTS[1]]);
    expect(dims).toEqual({ D: 1, P: 4, R: 1, L: 1, N: 1 });
    expect(numbers(branch_trunk_lengths)).toEqual([0]);
  });

  it.each([
    [
      'a loss row outside its trunk',
      [{ ...DOCUMENTS[1], losses: [{ token: 2, target: 1 }] }],
      'loss row at token 2 of 2',
    ],
    ['a prefix longer than the trunk', [{ ...DOCUMENTS[0], trunk: [5, 6] }], 'branch after 3 of 2'],
    ['nothing to learn', [{ ...DOCUMENTS[1], losses: [] }], '1 documents and 0 loss rows'],
    ['no documents', [], '0 documents'],
  ])('refuses %s', (_, documents, message) => {
    expect(() => buildTreeBatch(documents)).toThrow(message);
  });
});
