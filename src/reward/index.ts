import { internal } from '../errors.ts';
import { assertGroup } from './advantage.ts';
import { checkedRewards, type GivenRewards } from './custom.ts';
import { checkFinite } from './finite.ts';
import { type AdvantageOptions, groupAdvantages, type RewardedGroup } from './group-advantages.ts';
import { type HorizonReduction, informationGain, score } from './information-gain.ts';
import { standardDeviation, ZERO_STD } from './spread.ts';

export {
  type AnswerEquality,
  type AnswerRules,
  answerReward,
  answersMatch,
  extractAnswer,
  lastBoxed,
  referenceAnswer,
} from '../answer-match.ts';
export { groupRelativeAdvantages } from './advantage.ts';
export { type AdvantageScale, scaleAdvantages } from './advantage-scale.ts';
export {
  Baseline,
  type BaselineOptions,
  type BaselineRequest,
  type BaselineState,
  type NoThinkScorer,
} from './baseline.ts';
export {
  askReward,
  type CustomReward,
  type GivenRewards,
  nameOf,
  type RewardFunction,
  type RewardInput,
  type UnpaidRecord,
} from './custom.ts';
export { type AdvantageOptions, groupAdvantages, type RewardedGroup } from './group-advantages.ts';
export { type HorizonReduction, informationGain, score } from './information-gain.ts';
export { loadRewardModule, type RewardModule } from './module.ts';
export { noThinkLogProbs, type ScoreBatch } from './no-think.ts';
export type { AdvantageGroup } from './pooling.ts';
export { type MeasureBatch, type PositionScore, positionScores } from './position-scores.ts';
export { prefixMatchReward, statedText } from './prefix-match.ts';
export type { RewardSign } from './reward-sign.ts';
export { standardDeviation, ZERO_STD } from './spread.ts';
export { type UnclosedThoughts, unclosedRule } from './unclosed.ts';
export { givesGradient, type ZeroVariance } from './zero-variance.ts';

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
  /** Of given rewards, before penalties: rewards/NAME/mean and rewards/NAME/std (n - 1) over all thoughts. */
  [name: `rewards/${string}`]: number;
}

/** How rewards and advantages are computed, and how errors name a thought. */
export interface RewardOptions {
  reduction?: HorizonReduction;
  advantage?: AdvantageOptions;
  /** [B] the document of each group, told apart by identity: for advantages across positions. Default: one for all. */
  documents?: readonly unknown[];
  /** Paid in place of the information gain, penalties still taken off; in whatever unit. */
  given?: GivenRewards;
  /** How errors name thought `rollout` of group `group`; by default 'group 3, rollout 1'. */
  nameRow?: (group: number, rollout: number) => string;
}

/** Rewards and advantages by group and thought, and their figures. */
export interface RewardResult {
  /** [B][G] float64; nats, or the unit of the given rewards. */
  reward: Float64Array[];
  /** [B][G] float64, in the same unit. */
  advantage: Float64Array[];
  metrics: RewardMetrics;
}

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const shareOf = (flags: readonly boolean[]): number => flags.filter(Boolean).length / flags.length;

/**
 * Information-gain rewards, or given ones, and group-relative advantages of B groups (RLP, arXiv 2510.01265).
 *
 * Where thoughts are compared with those at the same position only, advantages and the two spread metrics come from S_pred
 * alone: the baseline is one number per group and cancels, so leaving it out makes them the same bits whatever the baseline.
 *
 * @param thoughts [B][G >= 2] thoughts; a group holds the thoughts at one position of one document
 * @param baseline [B] no-think log-probs of the same h target tokens, or null: then the reward is S_pred
 * @throws Error naming the row if a log-prob is not finite; UserError if a group has fewer than 2 thoughts, or
 * a given reward is not a finite number
 */
export function reward(
  thoughts: readonly (readonly ScoredThought[])[],
  baseline: readonly ArrayLike<number>[] | null,
  options: RewardOptions = {},
): RewardResult {
  const { reduction = 'sum', given, nameRow = (group, rollout) => `group ${group}, rollout ${rollout}` } = options;
  if (thoughts.length === 0) throw internal('rewards of no groups');
  if (baseline !== null && baseline.length !== thoughts.length) {
    throw internal(`${thoughts.length} groups against ${baseline.length} baselines`);
  }
  const gains: number[] = [];
  const unpenalized: number[] = [];
  const groups = thoughts.map((group, b): RewardedGroup & { scores: Float64Array; rewards: Float64Array } => {
    assertGroup(group.length);
    const noThink = baseline?.[b];
    if (noThink !== undefined) checkFinite(noThink, 'baseline', nameRow(b, 0));
    for (const [g, { reasonedLogProbs }] of group.entries()) {
      checkFinite(reasonedLogProbs, 'reasoned', nameRow(b, g));
      if (noThink !== undefined) gains.push(informationGain(reasonedLogProbs, noThink));
    }
    const penalties = group.map(({ penalty = 0 }) => penalty);
    const common = {
      document: options.documents?.[b],
      excluded: group.map(({ excluded = false }) => excluded),
    };
    if (given !== undefined) {
      const paid = checkedRewards(given, b, group.length, nameRow);
      unpenalized.push(...paid);
      const rewards = paid.map((value, g) => value - penalties[g]);
      return { ...common, scores: rewards, rewards };
    }
    const scores = Float64Array.from(group, (thought, g) => score(thought.reasonedLogProbs, reduction) - penalties[g]);
    const shared = noThink === undefined ? 0 : score(noThink, reduction);
    return { ...common, scores, rewards: scores.map((value) => value - shared) };
  });
  // Of S_pred where the information gain is paid: the baseline cancels here, too.
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
  if (given !== undefined) {
    metrics[`rewards/${given.name}/mean`] = meanOf(unpenalized);
    metrics[`rewards/${given.name}/std`] = standardDeviation(unpenalized);
  }
  return {
    reward: groups.map(({ rewards }) => rewards),
    advantage: groupAdvantages(groups, options.advantage),
    metrics,
  };
}
