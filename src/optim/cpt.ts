import type { TreeDocument } from '../tree-batch.ts';

/**
 * Continued pretraining: next-token loss over a block of text, each token after the first a target.
 * @param targetsInStep number of targets over which the step's loss is the mean
 */
export function cptDocument(tokens: ArrayLike<number>, targetsInStep: number): TreeDocument {
  const losses = Array.from({ length: tokens.length - 1 }, (_, i) => ({
    token: i,
    target: tokens[i + 1],
    nllWeight: 1 / targetsInStep,
  }));
  return { trunk: tokens, losses, branches: [] };
}
