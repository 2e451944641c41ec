/**
 * What the sign of a reward decides beyond the comparison within the group. These are extensions of ours: with group-relative
 * advantages the best of four harmful thoughts is encouraged, and the worst of four helpful ones discouraged.
 * - any: nothing (RLP, arXiv 2510.01265)
 * - positive: only thoughts with r > 0 get a gradient
 * - agree: only thoughts whose advantage has the sign of their reward get a gradient
 * - clip: max(r, 0) is compared instead of r, so that harmful thoughts are all the same
 */
export type RewardSign = 'any' | 'positive' | 'agree' | 'clip';

/** What is compared within a group. Degenerate: under `clip` a group in which no thought helps gives no gradient. */
export const comparedReward = (reward: number, kind: RewardSign): number =>
  kind === 'clip' ? Math.max(0, reward) : reward;

/** The advantage after the filter: 0 where the thought shall give no gradient. A reward of 0 is neither good nor bad. */
export function filterBySign(advantage: number, reward: number, kind: RewardSign): number {
  if (kind === 'positive') return reward > 0 ? advantage : 0;
  if (kind === 'agree') return advantage * reward > 0 ? advantage : 0;
  return advantage;
}
