import { microBatches } from '../micro-batches.ts';
import { buildTreeBatch, type TreeBatch, type TreeDocument } from '../tree-batch.ts';

/**
 * What is measured of each token's prediction.
 * - entropy: of the distribution over the next token, nats; it does not know which token came
 * - surprise: -log p of the token that came, nats
 *
 * Entropy is RPT's choice (arXiv 2506.08007), surprise is ours. Both are 0 where the model is certain of one token, of which surprise
 * is infinite where another came.
 */
export type PositionScore = 'entropy' | 'surprise';

/** Runs a batch through a decoder. */
export type MeasureBatch = (batch: TreeBatch) => Promise<{ logProbs: Float32Array; entropy: Float32Array }>;

/**
 * How uncertain the prediction of each token is, given the tokens before it and no thought: one trunk pass a document.
 * @param documents of at least 2 tokens
 * @param tokenBudget padded tokens of a run
 * @returns by document: [tokens], nats; entry 0 is 0, since nothing predicts the first token
 */
export async function positionScores(
  measure: MeasureBatch,
  documents: readonly ArrayLike<number>[],
  kind: PositionScore,
  tokenBudget: number,
): Promise<Float32Array[]> {
  const trees = documents.map((tokens): TreeDocument => {
    const losses = Array.from({ length: tokens.length - 1 }, (_, token) => ({ token, target: tokens[token + 1] }));
    return { trunk: Array.from(tokens).slice(0, -1), losses, branches: [] };
  });
  const scores: Float32Array[] = [];
  for (const batch of microBatches(trees, tokenBudget)) {
    const { logProbs, entropy } = await measure(buildTreeBatch(batch));
    let row = 0;
    for (const { losses } of batch) {
      const ofDocument = new Float32Array(losses.length + 1);
      for (let i = 0; i < losses.length; i++, row++)
        ofDocument[i + 1] = kind === 'entropy' ? entropy[row] : -logProbs[row];
      scores.push(ofDocument);
    }
  }
  return scores;
}
