import { UserError } from '../errors.ts';

/**
 * Group-relative advantages with the corrected inclusive mean (RLP, arXiv 2510.01265):
 *
 *     A_i = G / (G - 1) * (s_i - mean_j s_j)  =  s_i - mean_{j != i} s_j
 *
 * The factor undoes the share that s_i has in the mean, which makes it the leave-one-out baseline (RLOO): unbiased, and
 * not divided by the standard deviation. Anything that all scores of a group have in common drops out, the no-think
 * baseline among it: give S_pred here, not the reward, and the advantages are the same bits whatever the baseline is.
 *
 * @param scores one per thought of a group, nats; G >= 2
 * @returns float64, one per thought; they sum to 0, and are exactly 0 when all scores are equal
 */
export function groupRelativeAdvantages(scores: ArrayLike<number>): Float64Array {
  const size = scores.length;
  assertGroup(size);
  // Differences to the first score: equal scores give exact zeros, and a large common part costs no digits.
  const relative = Float64Array.from(scores, (score) => score - scores[0]);
  const mean = relative.reduce((sum, value) => sum + value, 0) / size;
  return relative.map((value) => (size / (size - 1)) * (value - mean));
}

/** @throws UserError if a group has too few thoughts to compare */
export function assertGroup(size: number): void {
  if (size >= 2) return;
  throw new UserError(
    `group of ${size} thought${size === 1 ? '' : 's'}: a group-relative advantage needs at least 2; raise the group size`,
  );
}
