import type { TreeDocument } from './tree-batch.ts';

/** Padded tokens of a batch: D trunks of P tokens and D*R branches of L. */
export function paddedTokens(documents: readonly TreeDocument[]): number {
  const max = (sizes: number[]) => Math.max(1, ...sizes);
  const P = max(documents.map(({ trunk }) => trunk.length));
  const R = max(documents.map(({ branches }) => branches.length));
  const L = max(documents.flatMap(({ branches }) => branches.map(({ tokens }) => tokens.length)));
  return documents.length * (P + R * L);
}

/**
 * Cuts documents, in their order, into micro-batches of at most `tokenBudget` padded tokens. A document over the budget by
 * itself is a micro-batch of its own.
 */
export function microBatches(documents: readonly TreeDocument[], tokenBudget: number): TreeDocument[][] {
  const batches: TreeDocument[][] = [];
  let current: TreeDocument[] = [];
  for (const document of documents) {
    const grown = [...current, document];
    if (current.length > 0 && paddedTokens(grown) > tokenBudget) {
      batches.push(current);
      current = [document];
    } else {
      current = grown;
    }
  }
  if (current.length > 0) batches.push(current);
  return batches;
}
