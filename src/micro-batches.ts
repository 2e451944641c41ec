import type { TreeDocument } from './tree-batch.ts';

/** Padded tokens that go through the training graph at once, by default: more take more memory, and are no faster. */
export const MICRO_BATCH_TOKENS = 4096;

/** Padded tokens of a pass without gradients: enough for the products to be large. */
export const SCORE_TOKENS = 8192;

/** The same where the memory of a training run is bounded by the tokens of a micro-batch. */
export const scoreTokens = ({ microBatchTokens }: { microBatchTokens: number }): number =>
  Math.min(SCORE_TOKENS, microBatchTokens);

/** Padded tokens of a batch: D trunks of P tokens and D*R branches of L; the one token that stands for no branches does not count. */
export function paddedTokens(documents: readonly TreeDocument[]): number {
  const max = (sizes: number[]) => Math.max(0, ...sizes);
  const P = Math.max(1, max(documents.map(({ trunk }) => trunk.length)));
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

/**
 * Packs documents into micro-batches of at most `tokenBudget` padded tokens, for a sum over them in which their order does not
 * matter. Documents of like shape go together, so that little is padding; one over the budget is cut into several with
 * the same trunk and some of its branches each, as far as that helps.
 */
export function packMicroBatches(documents: readonly TreeDocument[], tokenBudget: number): TreeDocument[][] {
  const cut = documents.flatMap((document) => cutBranches(document, tokenBudget));
  const shaped = cut.map((document) => ({ document, size: paddedTokens([document]), trunk: document.trunk.length }));
  shaped.sort((a, b) => b.trunk - a.trunk || b.size - a.size);
  return microBatches(
    shaped.map(({ document }) => document),
    tokenBudget,
  );
}

/**
 * A document over the budget in parts with the same trunk and some of its branches each, in their order. The trunk's own loss
 * goes with the first part.
 */
export function cutBranches(document: TreeDocument, tokenBudget: number): TreeDocument[] {
  const { trunk, losses, branches } = document;
  if (paddedTokens([document]) <= tokenBudget || branches.length < 2) return [document];
  const longest = branches.reduce((most, { tokens }) => Math.max(most, tokens.length), 1);
  const count = Math.max(1, Math.floor((tokenBudget - trunk.length) / longest));
  return Array.from({ length: Math.ceil(branches.length / count) }, (_, i) => ({
    trunk,
    losses: i === 0 ? losses : [],
    branches: branches.slice(i * count, (i + 1) * count),
  }));
}
