import { cutBranches, microBatches } from '../micro-batches.ts';
import { buildTreeBatch, type LossRow, type TreeBatch, type TreeDocument } from '../tree-batch.ts';

/**
 * log p(target) of every loss row of the documents under some weights, in the order of the rows: for each document its
 * trunk's, then each branch's.
 * @param run a forward pass under these weights
 * @param tokenBudget padded tokens of a run
 */
export async function rowLogProbs(
  documents: readonly TreeDocument[],
  run: (batch: TreeBatch) => Promise<{ logProbs: Float32Array }>,
  tokenBudget: number,
): Promise<Float32Array> {
  const parts: Float32Array[] = [];
  const cut = documents.flatMap((document) => cutBranches(document, tokenBudget));
  for (const batch of microBatches(cut, tokenBudget)) parts.push((await run(buildTreeBatch(batch))).logProbs);
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let start = 0;
  for (const part of parts) {
    all.set(part, start);
    start += part.length;
  }
  return all;
}

/** The documents with every loss row replaced; `n` counts the rows as rowLogProbs does. */
export function mapRows(
  documents: readonly TreeDocument[],
  change: (row: LossRow, n: number) => LossRow,
): TreeDocument[] {
  let n = 0;
  const rows = (losses: readonly LossRow[]) => losses.map((row) => change(row, n++));
  return documents.map(({ trunk, losses, branches }) => ({
    trunk,
    losses: rows(losses),
    branches: branches.map((branch) => ({ ...branch, losses: rows(branch.losses) })),
  }));
}

/**
 * Adds beta * KL(pi || pi_ref) to the loss: every policy row gets the reference's log-prob and beta times its own policy
 * weight, so that the KL is averaged as the surrogate is. Degenerate: beta = 0 changes nothing but the logged `kl`.
 * @param referenceLogProbs of rowLogProbs under pi_ref
 * @see DeepSeekMath, arXiv 2402.03300, eq. 3
 */
export const withKl = (
  documents: readonly TreeDocument[],
  referenceLogProbs: Float32Array,
  beta: number,
): TreeDocument[] =>
  mapRows(documents, (row, n) =>
    row.policyWeight === undefined
      ? row
      : { ...row, referenceLogProb: referenceLogProbs[n], klWeight: beta * row.policyWeight },
  );
