import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { TrainingSession } from '../../src/optim/index.ts';
import { type BaselineRequest, noThinkLogProbs } from '../../src/reward/index.ts';
import { buildTreeBatch, type TreeBatch } from '../../src/tree-batch.ts';
import { TINY_MODEL } from '../fixtures/tiny-model.ts';
import { tinySession } from '../fixtures/training.ts';

const REQUESTS: BaselineRequest[] = [
  { document: 'a', tokens: [3, 14, 15, 9, 26, 5, 35, 8], positions: [5, 1, 3] },
  { document: 'b', tokens: Int32Array.of(27, 18, 28, 18), positions: [2] },
  { document: 'c', tokens: [2, 7, 1, 8, 2, 8], positions: [1, 4] },
];

let session: TrainingSession;
beforeAll(async () => {
  session = await tinySession();
});
afterAll(() => session.release());

/** log p(token i | the tokens before it), each prefix a sequence of its own. */
async function flat(tokens: ArrayLike<number>, i: number): Promise<number> {
  const trunk = Array.from(tokens).slice(0, i);
  const batch = buildTreeBatch([{ trunk, losses: [{ token: i - 1, target: tokens[i] }], branches: [] }]);
  return (await session.runEvalStep(batch)).logProbs[0];
}

describe('noThinkLogProbs', () => {
  it.each([1, 2])('are the log-probs of the flat prefixes, horizon %i', async (horizon) => {
    const scores = await noThinkLogProbs((batch) => session.runEvalStep(batch), REQUESTS, horizon, 1000);
    expect(scores.map((positions) => positions.length)).toEqual([3, 1, 2]);
    for (const [d, { tokens, positions }] of REQUESTS.entries()) {
      for (const [p, position] of positions.entries()) {
        expect(scores[d][p]).toHaveLength(horizon);
        for (let h = 0; h < horizon; h++) {
          expect(scores[d][p][h]).toBeCloseTo(await flat(tokens, position + h), 5);
        }
      }
    }
    expect(Math.abs(scores[0][0][0] - Math.log(1 / TINY_MODEL.vocabSize))).toBeGreaterThan(1e-3);
  });

  it('runs within the token budget, one trunk a document, and reads no token after the last target', async () => {
    const batches: TreeBatch[] = [];
    const fake = async (batch: TreeBatch) => {
      batches.push(batch);
      return { logProbs: Float32Array.from(batch.target_ids, Number) };
    };
    // Trunks of 6, 3 and 5 tokens: 2 (6 + 1) = 14 fit into 16, three do not.
    const scores = await noThinkLogProbs(fake, REQUESTS, 2, 16);
    expect(batches.map(({ dims }) => [dims.D, dims.P])).toEqual([
      [2, 6],
      [1, 5],
    ]);
    // The fake log-prob of a target is its id.
    expect(scores.map((positions) => positions.map((values) => [...values]))).toEqual([
      [
        [5, 35],
        [14, 15],
        [9, 26],
      ],
      [[28, 18]],
      [
        [7, 1],
        [2, 8],
      ],
    ]);
  });
});
