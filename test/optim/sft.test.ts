import { describe, expect, it } from 'vitest';
import { sftDocuments } from '../../src/optim/index.ts';

describe('sftDocuments', () => {
  it('puts the loss on the targets, each predicted by the token before it', () => {
    // Two responses of 2 and 1 tokens: the mean over 3 tokens, not over 2 responses.
    const sequences = [
      { tokens: [1, 2, 3, 4], targets: [2, 3] },
      { tokens: [9, 8, 7], targets: [1] },
    ];
    expect(sftDocuments(sequences, 1 / 3)).toEqual([
      {
        trunk: [1, 2, 3, 4],
        losses: [
          { token: 1, target: 3, nllWeight: 1 / 3 },
          { token: 2, target: 4, nllWeight: 1 / 3 },
        ],
        branches: [],
      },
      { trunk: [9, 8, 7], losses: [{ token: 0, target: 8, nllWeight: 1 / 3 }], branches: [] },
    ]);
  });

  it('computes a context once for all responses to it, and for those to its beginning', () => {
    const documents = sftDocuments(
      [
        { tokens: [1, 2, 3, 4, 5], targets: [3, 4] },
        { tokens: [1, 2, 3, 6, 7], targets: [3] },
        { tokens: [1, 2, 8], targets: [2] },
      ],
      0.25,
    );
    expect(documents).toHaveLength(1);
    const [{ trunk, losses, branches }] = documents;
    expect(trunk).toEqual([1, 2]); // token 3 predicts the first target: each branch has its own
    expect(losses).toEqual([]);
    expect(branches).toHaveLength(3);
    expect(branches).toContainEqual({
      trunkLength: 2,
      tokens: [3, 4],
      losses: [
        { token: 0, target: 4, nllWeight: 0.25 },
        { token: 1, target: 5, nllWeight: 0.25 },
      ],
    });
    expect(branches).toContainEqual({
      trunkLength: 2,
      tokens: [3],
      losses: [{ token: 0, target: 6, nllWeight: 0.25 }],
    });
    expect(branches).toContainEqual({
      trunkLength: 1,
      tokens: [2],
      losses: [{ token: 0, target: 8, nllWeight: 0.25 }],
    });
  });

  it('keeps apart what only looks alike', () => {
    const documents = sftDocuments(
      [
        { tokens: [1, 2, 3, 4], targets: [3] },
        { tokens: [1, 5, 3, 4], targets: [3] },
      ],
      0.5,
    );
    expect(documents).toHaveLength(2);
  });
});
