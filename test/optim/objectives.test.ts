import { describe, expect, it } from 'vitest';
import { cptDocument, rlpDocument } from '../../src/optim/index.ts';

describe('rlpDocument', () => {
  const text = [10, 11, 12, 13, 14];
  const OPEN = 7;
  const CLOSE = 8;

  it('puts each thought on a branch after its prefix, with gradient on the sampled tokens only', () => {
    const thoughts = [
      { position: 1, tokens: [20, CLOSE], logProbs: [-1, -2], advantage: 0.5 },
      { position: 3, tokens: [30, 31, 32, 33], logProbs: [-3, -4, -5, -6], advantage: -0.5 },
    ];
    // 8 thoughts in the step: weights are 1 / (2 * 8) and 1 / (4 * 8).
    expect(rlpDocument(text, thoughts, OPEN, 8)).toEqual({
      trunk: [10, 11, 12], // the longest prefix: x_t itself is never read
      losses: [],
      branches: [
        {
          trunkLength: 1,
          tokens: [OPEN, 20], // the last token of a thought predicts nothing that is trained
          losses: [
            { token: 0, target: 20, oldLogProb: -1, advantage: 0.5, policyWeight: 1 / 16 },
            { token: 1, target: CLOSE, oldLogProb: -2, advantage: 0.5, policyWeight: 1 / 16 },
          ],
        },
        {
          trunkLength: 3,
          tokens: [OPEN, 30, 31, 32],
          losses: [
            { token: 0, target: 30, oldLogProb: -3, advantage: -0.5, policyWeight: 1 / 32 },
            { token: 1, target: 31, oldLogProb: -4, advantage: -0.5, policyWeight: 1 / 32 },
            { token: 2, target: 32, oldLogProb: -5, advantage: -0.5, policyWeight: 1 / 32 },
            { token: 3, target: 33, oldLogProb: -6, advantage: -0.5, policyWeight: 1 / 32 },
          ],
        },
      ],
    });
  });

  it('predicts the first token of a thought from the last of an opening delimiter of several', () => {
    const thought = { position: 1, tokens: [20, CLOSE], logProbs: [-1, -2], advantage: 1 };
    const [{ tokens, losses }] = rlpDocument(text, [thought], [5, 6, OPEN], 1).branches;
    expect(tokens).toEqual([5, 6, OPEN, 20]);
    expect(losses.map(({ token, target }) => [token, target])).toEqual([
      [2, 20],
      [3, CLOSE],
    ]);
  });

  it('gives every thought the same weight, however long, and all thoughts of the step together 1', () => {
    const thoughts = [1, 3, 5].map((length) => ({
      position: 2,
      tokens: Array.from({ length }, () => 20),
      logProbs: Array.from({ length }, () => -1),
      advantage: 1,
    }));
    const sums = rlpDocument(text, thoughts, OPEN, 3).branches.map(({ losses }) =>
      losses.reduce((sum, { policyWeight = 0 }) => sum + policyWeight, 0),
    );
    for (const sum of sums) expect(sum).toBeCloseTo(1 / 3, 12);
  });
});

describe('cptDocument', () => {
  it('makes every token after the first a target, the mean over the targets of the step', () => {
    expect(cptDocument(Int32Array.of(5, 6, 7), 4)).toEqual({
      trunk: Int32Array.of(5, 6, 7),
      losses: [
        { token: 0, target: 6, nllWeight: 0.25 },
        { token: 1, target: 7, nllWeight: 0.25 },
      ],
      branches: [],
    });
  });
});
