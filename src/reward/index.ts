import { internal } from '../errors.ts';
import { assertGroup } from './advantage.ts';
import { checkFinite } from './finite.ts';
import { type AdvantageOptions, groupAdvantages, type RewardedGroup } from './group-advantages.ts';
import { type HorizonReduction, informationGain, score } from './information-gain.ts';
import { standardDeviation, ZERO_STD } from './spread.ts';

export { groupRelativeAdvantages } from './advantage.ts';
export { type AdvantageScale, scaleAdvantages } from './advantage-scale.ts';
export {
  Baseline,
  type BaselineOptions,
  type BaselineRequest,
  type BaselineState,
  type NoThinkScorer,
} from './baseline.ts';
export { type AdvantageOptions, groupAdvantages, type RewardedGroup } from './group-advantages.ts';
export { type HorizonReduction, informationGain, score } from './information-gain.ts';
export { noThinkLogProbs, type ScoreBatch } from './no-think.ts';
export type { AdvantageGroup } from './pooling.ts';
export { type MeasureBatch, type PositionScore, positionScores } from './position-scores.ts';
export type { RewardSign } from './reward-sign.ts';
export { standardDeviation, ZERO_STD } from './spread.ts';
export { type UnclosedThoughts, unclosedRule } from './unclosed.ts';

/** What the reward needs to know of a thought. */
export interface ScoredThought {
  /** log p_theta(target token | prefix, thought) of the h target tokens, nats, temperature 1. */
  reasonedLogProbs: ArrayLike<number>;
  /** Taken off the reward, nats; default 0. */
  penalty?: number;
  /** Paid, but compared with no other: its advantage is 0, and the others do not see it. Default false. */
  excluded?: boolean;
}

/** Named as TRL names them where TRL has them; means are over thoughts, or over groups where said. */
export interface RewardMetrics {
  /** Mean reward. */
  reward: number;
  /** Mean over groups of the standard deviation (n - 1) of the rewards of a group. */
  reward_std: number;
  /** Share of groups without spread, which give no gradient. */
  frac_reward_zero_std: number;
  /** Mean over thoughts of the summed gain in nats, whatever the reduction; absent without a baseline. */
  information_gain?: number;
  /** Share of thoughts that helped (gain > 0); absent without a baseline. */
  information_gain_positive?: number;
}

/** How rewards and advantages are computed, and how errors name a thought. */
export interface RewardOptions {
  reduction?: HorizonReduction;
  advantage?: AdvantageOptions;
  /** [B] the document of each group, told apart by identity: for advantages across positions. Default: one for all. */
  documents?: readonly unknown[];
  /** How errors name thought `rollout` of group `group`; by default 'group 3, rollout 1'. */
  nameRow?: (group: number, rollout: number) => string;
}

/** Rewards and advantages by group and thought, and their figures. */
export interface RewardResult {
  /** [B][G] float64, nats. */
  reward: Float64Array[];
  /** [B][G] float64, nats. */
  advantage: Float64Array[];
  metrics: RewardMetrics;
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const shareOf = (flags: readonly boolean[]): number => flags.filter(Boolean).length / flags.length;

/**
 * Information-gain rewards and group-relative advantages of B groups (RLP, arXiv 2510.01265).
 *
 * Where thoughts are compared with those at the same position only, advantages and the two spread metrics come from S_pred
 * alone: the baseline is one number per group and cancels, so leaving it out makes them the same bits whatever the baseline.
 *
 * @param thoughts [B][G >= 2] thoughts; a group holds the thoughts at one position of one document
 * @param baseline [B] no-think log-probs of the same h target tokens, or null: then the reward is S_pred
 * @throws Error naming the row if a log-prob is not finite; UserError if a group has fewer than 2 thoughts
 */
export function reward(
  thoughts: readonly (readonly ScoredThought[])[],
  baseline: readonly ArrayLike<number>[] | null,
  options: RewardOptions = {},
): RewardResult {
  const { reduction = 'sum', nameRow = (group, rollout) => `group ${group}, rollout ${rollout}` } = options;
  if (thoughts.length === 0) throw internal('rewards of no groups');
  if (baseline !== null && baseline.length !== thoughts.length) {
    throw internal(`${thoughts.length} groups against ${baseline.length} baselines`);
  }
  const gains: number[] = [];
  const groups = thoughts.map((group, b) => {
    assertGroup(group.length);
    const noThink = baseline?.[b];
    if (noThink !== undefined) checkFinite(noThink, 'baseline', nameRow(b, 0));
    for (const [g, { reasonedLogProbs }] of group.entries()) {
      checkFinite(reasonedLogProbs, 'reasoned', nameRow(b, g));
      if (noThink !== undefined) gains.push(informationGain(reasonedLogProbs, noThink));
    }
    const scores = Float64Array.from(
      group,
      (thought) => score(thought.reasonedLogProbs, reduction) - (thought.penalty ?? 0),
    );
    const common = noThink === undefined ? 0 : score(noThink, reduction);
    return {
      document: options.documents?.[b],
      scores,
      rewards: scores.map((value) => value - common),
      excluded: group.map(({ excluded = false }) => excluded),
    } satisfies RewardedGroup;
  });
  const deviations = groups.map(({ scores }) => standardDeviation(scores));
  const metrics: RewardMetrics = {
    reward: meanOf(groups.flatMap(({ rewards }) => [...rewards])),
    reward_std: meanOf(deviations),
    frac_reward_zero_std: shareOf(deviations.map((deviation) => deviation < ZERO_STD)),
  };
  if (baseline !== null) {
    metrics.information_gain = meanOf(gains);
    metrics.information_gain_positive = shareOf(gains.map((gain) => gain > 0));
  }
  return {
    reward: groups.map(({ rewards }) => rewards),
    advantage: groupAdvantages(groups, options.advantage),
    metrics,
  };
}
