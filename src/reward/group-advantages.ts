import { internal } from '../errors.ts';
import { groupRelativeAdvantages } from './advantage.ts';
import { type AdvantageScale, scaleAdvantages } from './advantage-scale.ts';
import { type AdvantageGroup, type PoolMember, poolGroups } from './pooling.ts';
import { comparedReward, filterBySign, type RewardSign } from './reward-sign.ts';

/** How rewards become advantages; what is left out is as in RLP. */
export interface AdvantageOptions {
  /** Thoughts that are compared with each other; default 'position'. */
  group?: AdvantageGroup;
  /** What advantages are divided by; default 'none'. */
  scale?: AdvantageScale;
  /** What the sign of a reward decides; default 'any'. */
  sign?: RewardSign;
  /** G/(G-1): a thought is compared with the mean of the others, not with one that it is part of. Default true. */
  leaveOneOut?: boolean;
}

/** Thoughts at one position and what is known of their worth. */
export interface RewardedGroup extends PoolMember {
  /** Rewards, one a thought. */
  rewards: ArrayLike<number>;
  /**
   * Rewards up to a number that is the same for the whole group, where that is free of rounding: S_pred for r = S_pred - S.
   * Used where only thoughts of this group are compared, so that the baseline cancels to the last bit.
   */
  scores?: ArrayLike<number>;
  /** Thoughts that take no part: they enter no mean and have advantage 0. */
  excluded?: readonly boolean[];
}

/**
 * Advantages of a step's groups: pool, compare, scale, filter, in this order.
 *
 * Degenerate: a thought with no other to compare with has advantage 0; so have all where the rewards are equal.
 * @returns by group and thought, float64
 */
export function groupAdvantages(groups: readonly RewardedGroup[], options: AdvantageOptions = {}): Float64Array[] {
  const { group: kind = 'position', scale = 'none', sign = 'any', leaveOneOut = true } = options;
  const exact = kind === 'position' && sign !== 'clip';
  const pools = poolGroups(groups, kind).map((members) =>
    members.flatMap((b) => {
      const { rewards, scores, excluded } = groups[b];
      if (scores !== undefined && scores.length !== rewards.length)
        throw internal('scores and rewards differ in length');
      const compared = exact ? (scores ?? rewards) : Array.from(rewards, (r) => comparedReward(r, sign));
      const thoughts = Array.from(compared, (value, g) => ({ b, g, value }));
      return thoughts.filter(({ g }) => !excluded?.[g]);
    }),
  );
  const values = pools.map((pool) => pool.map(({ value }) => value));
  const centred = values.map((pool) => {
    if (pool.length < 2) return new Float64Array(pool.length);
    const advantages = groupRelativeAdvantages(pool);
    return leaveOneOut ? advantages : advantages.map((value) => (value * (pool.length - 1)) / pool.length);
  });
  const scaled = scaleAdvantages(centred, values, scale);
  const result = groups.map(({ rewards }) => new Float64Array(rewards.length));
  for (const [p, pool] of pools.entries()) {
    for (const [i, { b, g }] of pool.entries()) result[b][g] = filterBySign(scaled[p][i], groups[b].rewards[g], sign);
  }
  return result;
}
