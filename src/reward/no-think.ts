import { microBatches } from '../micro-batches.ts';
import { buildTreeBatch, type TreeBatch, type TreeDocument } from '../tree-batch.ts';
import type { BaselineRequest } from './baseline.ts';

/** Runs a batch through a decoder and returns log p(target) of its loss rows, nats. */
export type ScoreBatch = (batch: TreeBatch) => Promise<{ logProbs: Float32Array }>;

/**
 * log p(x_t ... x_t+h-1 | the tokens before each), without a thought: one trunk pass a document, however many positions.
 * @param tokenBudget padded tokens of a run
 * @returns by document, position: `horizon` log-probs in nats
 */
export async function noThinkLogProbs(
  scoreBatch: ScoreBatch,
  requests: readonly BaselineRequest[],
  horizon: number,
  tokenBudget: number,
): Promise<Float32Array[][]> {
  const trees = requests.map(({ tokens, positions }): TreeDocument => {
    const end = Math.max(...positions) + horizon - 1; // the last target needs no hidden state of its own
    const losses = positions.flatMap((position) =>
      Array.from({ length: horizon }, (_, i) => ({ token: position + i - 1, target: tokens[position + i] })),
    );
    return { trunk: Array.from(tokens).slice(0, end), losses, branches: [] };
  });
  const scores: Float32Array[][] = [];
  for (const batch of microBatches(trees, tokenBudget)) {
    const { logProbs } = await scoreBatch(buildTreeBatch(batch));
    let row = 0;
    for (const { losses } of batch) {
      const perPosition: Float32Array[] = [];
      for (let i = 0; i < losses.length; i += horizon) perPosition.push(logProbs.slice(row + i, row + i + horizon));
      row += losses.length;
      scores.push(perPosition);
    }
  }
  return scores;
}
