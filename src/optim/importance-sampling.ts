import { internal } from '../errors.ts';
import type { TreeDocument } from '../tree-batch.ts';
import { mapRows } from './reference.ts';

/**
 * Truncated importance weights, a factor of each token's policy weight and no part of the gradient:
 *
 *     w_u = min(pi_old(c_u) / mu(c_u), cap)
 *
 * pi_old is the policy before the update as the training graph computes it, mu what the token was drawn from. Degenerate: the
 * two agree and every weight is 1.
 * @param trainer log pi_old of each token, nats
 * @param sampler log mu of each token, nats
 * @see Yao et al., "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (2025)
 */
export function truncatedImportanceWeights(
  trainer: ArrayLike<number>,
  sampler: ArrayLike<number>,
  cap: number,
): Float64Array {
  if (trainer.length !== sampler.length) throw internal(`${trainer.length} log-probs against ${sampler.length}`);
  return Float64Array.from(trainer, (logProb, u) => Math.min(Math.exp(logProb - sampler[u]), cap));
}

/**
 * Which disagreement the weights correct.
 * - none: no weights (RLP, arXiv 2510.01265)
 * - mismatch: mu is the rollout graph's own log-prob at temperature 1, so only what the two graphs disagree about
 * - behavior: mu is the distribution drawn from, with its temperature and cuts
 */
export type ImportanceSampling = 'none' | 'mismatch' | 'behavior';

/**
 * The documents with the policy before the update as the training graph computes it (`old_log_probs`), and every policy weight
 * times its importance weight. KL and next-token weights stay.
 * @param trainer of rowLogProbs under the policy's weights: one a loss row
 * @param weights one a policy row, in their order
 */
export function withImportanceWeights(
  documents: readonly TreeDocument[],
  trainer: Float32Array,
  weights: ArrayLike<number>,
): TreeDocument[] {
  let u = 0;
  const weighted = mapRows(documents, (row, n) =>
    row.policyWeight === undefined
      ? row
      : { ...row, oldLogProb: trainer[n], policyWeight: row.policyWeight * weights[u++] },
  );
  if (u !== weights.length) throw internal(`${weights.length} importance weights for ${u} policy rows`);
  return weighted;
}
