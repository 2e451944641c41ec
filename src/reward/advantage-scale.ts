import { standardDeviation } from './spread.ts';

/**
 * What advantages are divided by.
 * - none: nothing (RLP, arXiv 2510.01265; Dr. GRPO, arXiv 2503.20783)
 * - group: the standard deviation of the rewards that were compared (GRPO, arXiv 2402.03300)
 * - step: the root mean square of all advantages of the step (Liu et al., arXiv 2508.08221: centre by group, scale by batch)
 */
export type AdvantageScale = 'none' | 'group' | 'step';

/** Added to the divisor, as in TRL: groups that hardly differ are not blown up. */
const EPSILON = 1e-4;

/**
 * Scaled advantages by group. Degenerate: rewards that are all equal have advantages 0 and keep them.
 * @param advantages by group and thought
 * @param rewards the rewards that were compared, same shape
 */
export function scaleAdvantages(
  advantages: readonly Float64Array[],
  rewards: readonly ArrayLike<number>[],
  kind: AdvantageScale,
): Float64Array[] {
  if (kind === 'none') return [...advantages];
  if (kind === 'group') {
    return advantages.map((group, i) => {
      const divisor = standardDeviation(rewards[i]) + EPSILON;
      return group.map((value) => value / divisor);
    });
  }
  const all = advantages.flatMap((group) => [...group]);
  const divisor = Math.sqrt(all.reduce((sum, value) => sum + value * value, 0) / all.length) + EPSILON;
  return advantages.map((group) => group.map((value) => value / divisor));
}
