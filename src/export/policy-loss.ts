import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';

/** What the loss does with each row's log-prob. */
export interface RowLosses {
  /** Per row, to be summed, [N]. */
  losses: Value;
  /** rho = exp(logp - old), [N]. */
  ratio: Value;
}

/** What the loss takes per row: graph inputs, float32 [N]. A row of zeros has no loss and no gradient. */
export const LOSS_INPUTS = [
  'old_log_probs',
  'advantages',
  'policy_weights',
  'nll_weights',
  'reference_log_probs',
  'kl_weights',
] as const;
/** Name of a per-row input. */
export type LossInput = (typeof LOSS_INPUTS)[number];

/**
 * The loss of every objective, row by row: no row's loss depends on another row, so it is computed on a few rows at a time.
 * Declares the inputs clip_low, clip_high float32 [].
 *
 *   policy_weight * -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) + nll_weight * -logp + kl_weight * k3
 *
 * @param logProb log p(target) in nats at temperature 1, float32 [N]
 * @param rows the per-row inputs of these rows, float32 [N]
 * @see Schulman et al., arXiv 1707.06347, eq. 7; RLP, arXiv 2510.01265
 */
export function rowLosses(b: GraphBuilder, logProb: Value, rows: Readonly<Record<LossInput, Value>>): RowLosses {
  const ratio = b.exp(b.sub(logProb, rows.old_log_probs));
  const surrogate = clippedSurrogate(b, ratio, rows.advantages);
  const gain = b.add(b.mul(rows.policy_weights, surrogate), b.mul(rows.nll_weights, logProb));
  const kl = klEstimate(b, b.sub(rows.reference_log_probs, logProb));
  return { losses: b.sub(b.mul(rows.kl_weights, kl), gain), ratio };
}

/** log(pi_ref / pi) above this counts as this, so that exp stays finite; rows without a reference get here, too. */
const MAX_LOG_RATIO = 20;

/**
 * The estimator k3 of KL(pi || pi_ref) from a token drawn from pi, with d = log pi_ref(token) - log pi(token), [N]:
 *
 *   k3 = exp(d) - 1 - d,  never negative; its gradient is (1 - exp(d)) grad log pi
 *
 * The value is unbiased for KL(pi || pi_ref); the gradient, taken through the term as in GRPO, is in expectation that of
 * KL(pi_ref || pi). Degenerate: pi = pi_ref gives 0 and no gradient.
 * @see Schulman, "Approximating KL Divergence" (2020); DeepSeekMath, arXiv 2402.03300, eq. 4
 */
function klEstimate(b: GraphBuilder, logRatio: Value): Value {
  const d = b.min(logRatio, MAX_LOG_RATIO);
  return b.sub(b.sub(b.exp(d), 1), d);
}

/**
 * min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), [N]. Inside the clip range both are equal and min's gradient goes to its
 * first operand.
 *
 * One epsilon on both sides is PPO (arXiv 1707.06347, eq. 7); clip_high > clip_low is DAPO's clip-higher (arXiv 2503.14476,
 * eq. 10), which leaves unlikely tokens more room to rise. Degenerate: with one update a batch rho is 1 and nothing is clipped;
 * clip_low = 1 never clips a token that is pushed down; A = 0 gives no gradient whatever rho is.
 */
function clippedSurrogate(b: GraphBuilder, ratio: Value, advantage: Value): Value {
  const low = b.sub(1, b.input('clip_low', 'float32', []));
  const high = b.add(1, b.input('clip_high', 'float32', []));
  const clipped = b.min(b.max(ratio, low), high);
  return b.min(b.mul(ratio, advantage), b.mul(clipped, advantage));
}
