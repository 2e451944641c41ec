import { internal } from '../errors.ts';

/**
 * How the h target tokens of a horizon become one number.
 * - sum: log p(x_t .. x_t+h-1 | ...), the log-probability of the whole continuation
 * - mean: the same by h, the negative cross-entropy a token, whose scale does not grow with h
 *
 * RLP (arXiv 2510.01265) has h = 1, where the two agree; longer horizons are an extension of ours; that the
 * log-probability of a whole answer pays a thought is in JEPO (Tang et al., arXiv 2503.19618).
 */
export type HorizonReduction = 'sum' | 'mean';

/** S = log-prob of the target tokens, summed over the horizon or per token; nats, in float64. */
export function score(logProbs: ArrayLike<number>, reduction: HorizonReduction = 'sum'): number {
  if (logProbs.length === 0) throw internal('a score needs at least one target token');
  let sum = 0;
  for (let i = 0; i < logProbs.length; i++) sum += logProbs[i];
  return reduction === 'sum' ? sum : sum / logProbs.length;
}

/**
 * The reward of RLP (arXiv 2510.01265): how much the thought c raised the log-likelihood of the observed tokens over the
 * no-think baseline,
 *
 *     r(c) = log p_theta(x_t .. x_t+h-1 | x_<t, c) - log p_phi(x_t .. x_t+h-1 | x_<t)
 *
 * Its mean over x_t ~ p* is the drop in cross-entropy, CE(p*, p_phi) - CE(p*, p_theta(.|c)).
 *
 * @param reasoned h log-probs with the thought, teacher forced
 * @param baseline h log-probs of the same tokens without it
 */
export function informationGain(
  reasoned: ArrayLike<number>,
  baseline: ArrayLike<number>,
  reduction: HorizonReduction = 'sum',
): number {
  if (reasoned.length !== baseline.length) {
    throw internal(`${reasoned.length} reasoned log-probs against ${baseline.length} of the baseline`);
  }
  return score(reasoned, reduction) - score(baseline, reduction);
}
