import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';

/** What the loss does with each row's log-prob. */
export interface RowLosses {
  /** Per row, to be summed, [N]. */
  losses: Value;
  /** rho = exp(logp - old), [N]. */
  ratio: Value;
}

/**
 * The loss of every objective, row by row: no row's loss depends on another row. Declares the inputs old_log_probs,
 * advantages, policy_weights, nll_weights float32 [N] and clip_low, clip_high float32 [].
 *
 *   policy_weight * -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A) + nll_weight * -logp
 *
 * @param logProb log p(target) in nats at temperature 1, float32 [N]
 * @see Schulman et al., arXiv 1707.06347, eq. 7; RLP, arXiv 2510.01265
 */
export function rowLosses(b: GraphBuilder, logProb: Value): RowLosses {
  const perRow = (name: string) => b.input(name, 'float32', ['N']);
  const ratio = b.exp(b.sub(logProb, perRow('old_log_probs')));
  const surrogate = clippedSurrogate(b, ratio, perRow('advantages'));
  const gain = b.add(b.mul(perRow('policy_weights'), surrogate), b.mul(perRow('nll_weights'), logProb));
  return { losses: b.neg(gain), ratio };
}

/** min(rho A, clip(rho) A), [N]. Inside the clip range both are equal and min's gradient goes to its first operand. */
function clippedSurrogate(b: GraphBuilder, ratio: Value, advantage: Value): Value {
  const low = b.sub(1, b.input('clip_low', 'float32', []));
  const high = b.add(1, b.input('clip_high', 'float32', []));
  const clipped = b.min(b.max(ratio, low), high);
  return b.min(b.mul(ratio, advantage), b.mul(clipped, advantage));
}
