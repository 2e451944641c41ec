import { Random, type Seed } from '../random.ts';
import type { LossRow, TreeDocument } from '../tree-batch.ts';

/** How the documents of one rollout batch are gone through. */
export interface MinibatchOptions {
  /** Times that every document is trained on. */
  epochs: number;
  /** Optimizer updates an epoch; no more than there are documents. */
  minibatches: number;
  seed: Seed;
  step: number;
}

/**
 * The documents of each optimizer update, epochs x minibatches of them (PPO, arXiv 1707.06347). Each epoch has an order of its
 * own, a function of seed, step and epoch; one minibatch keeps the given order. Sizes differ by at most one.
 *
 * The weights of the loss rows divide by the whole step; a minibatch of d of D documents multiplies them by D/d, so that its
 * gradient is an unbiased estimate of the step's. One minibatch and one epoch is the step itself.
 */
export function minibatches(documents: readonly TreeDocument[], options: MinibatchOptions): TreeDocument[][] {
  const { epochs, seed, step } = options;
  const count = Math.min(options.minibatches, documents.length);
  if (count <= 1) return Array.from({ length: documents.length === 0 ? 0 : epochs }, () => [...documents]);
  return Array.from({ length: epochs }, (_, epoch) => {
    const order = new Random(seed, `minibatches/${step}/${epoch}`).shuffle([...documents]);
    const bound = (i: number) => Math.floor((i * order.length) / count);
    return Array.from({ length: count }, (_, i) => {
      const part = order.slice(bound(i), bound(i + 1));
      return part.map((document) => scaled(document, order.length / part.length));
    });
  }).flat();
}

function scaled(document: TreeDocument, factor: number): TreeDocument {
  const times = (weight: number | undefined) => (weight === undefined ? undefined : weight * factor);
  const rows = (losses: readonly LossRow[]) =>
    losses.map((row) => ({
      ...row,
      policyWeight: times(row.policyWeight),
      nllWeight: times(row.nllWeight),
      klWeight: times(row.klWeight),
    }));
  return {
    trunk: document.trunk,
    losses: rows(document.losses),
    branches: document.branches.map((branch) => ({ ...branch, losses: rows(branch.losses) })),
  };
}
