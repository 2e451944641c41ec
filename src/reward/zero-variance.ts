import { ZERO_STD } from './spread.ts';

/**
 * What becomes of groups without a gradient.
 * - keep: they count in the mean over thoughts (RLP, arXiv 2510.01265), so that a step with many of them is a small one
 * - drop: they are left out of the mean, and the step is as large as that of the groups that have something to tell
 */
export type ZeroVariance = 'keep' | 'drop';

/**
 * Whether a group gives a gradient: max_i |A_i| >= 1e-8. With A_i = r_i minus the mean of the others this is a group whose
 * rewards are not all equal; it holds of the advantages, after comparison, scale and sign, because they are what the loss sees.
 *
 * Degenerate: a group of one thought that takes part has A = 0 and gives none; so does a group in which every thought is
 * excluded. Under rewards that are all equal no group gives any, and with 'drop' there is no update.
 * @param advantages of the thoughts of one group
 * @see DAPO, arXiv 2503.14476, eq. 11 (dynamic sampling): the same condition for rewards of 0 and 1, 0 < number right < G. There
 *   the batch is then filled up with other prompts (src/train/dynamic-sampling.ts); 'drop' leaves it smaller
 */
export const givesGradient = (advantages: ArrayLike<number>): boolean =>
  Array.from(advantages).some((advantage) => Math.abs(advantage) >= ZERO_STD);
