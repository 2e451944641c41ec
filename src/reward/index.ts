import { internal } from '../errors.ts';
import { groupRelativeAdvantages } from './advantage.ts';
import { checkFinite } from './finite.ts';
import { type HorizonReduction, informationGain, score } from './information-gain.ts';

export { groupRelativeAdvantages } from './advantage.ts';
export {
  Baseline,
  type BaselineOptions,
  type BaselineRequest,
  type BaselineState,
  type NoThinkScorer,
} from './baseline.ts';
export { type HorizonReduction, informationGain, score } from './information-gain.ts';
export { noThinkLogProbs, type ScoreBatch } from './no-think.ts';

/** What the reward needs to know of a thought. */
export interface ScoredThought {
  /** log p_theta(target token | prefix, thought) of the h target tokens, nats, temperature 1. */
  reasonedLogProbs: ArrayLike<number>;
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

/** How rewards are computed, and how errors name a thought. */
export interface RewardOptions {
  reduction?: HorizonReduction;
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

/** Spread below this counts as none, as in TRL. */
const ZERO_STD = 1e-8;

const meanOf = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
const shareOf = (flags: readonly boolean[]): number => flags.filter(Boolean).length / flags.length;

/**
 * Information-gain rewards and group-relative advantages of B groups (RLP, arXiv 2510.01265).
 *
 * The advantages, and the two spread metrics, come from S_pred alone: the baseline is one number per group and cancels, so
 * leaving it out makes them the same bits whatever the baseline.
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
  const rewards: Float64Array[] = [];
  const advantages: Float64Array[] = [];
  const deviations: number[] = [];
  const gains: number[] = [];
  for (const [b, group] of thoughts.entries()) {
    const noThink = baseline?.[b];
    if (noThink !== undefined) checkFinite(noThink, 'baseline', nameRow(b, 0));
    for (const [g, { reasonedLogProbs }] of group.entries()) {
      checkFinite(reasonedLogProbs, 'reasoned', nameRow(b, g));
      if (noThink !== undefined) gains.push(informationGain(reasonedLogProbs, noThink));
    }
    const scores = Float64Array.from(group, ({ reasonedLogProbs }) => score(reasonedLogProbs, reduction));
    const common = noThink === undefined ? 0 : score(noThink, reduction);
    rewards.push(scores.map((value) => value - common));
    const advantage = groupRelativeAdvantages(scores);
    advantages.push(advantage);
    // A = G/(G-1) (s - mean), so that the sum of squared deviations is ((G-1)/G)^2 sum A^2.
    const size = group.length;
    const squares = advantage.reduce((sum, value) => sum + value * value, 0);
    deviations.push(Math.sqrt((squares * (size - 1)) / (size * size)));
  }
  const metrics: RewardMetrics = {
    reward: meanOf(rewards.flatMap((group) => [...group])),
    reward_std: meanOf(deviations),
    frac_reward_zero_std: shareOf(deviations.map((deviation) => deviation < ZERO_STD)),
  };
  if (baseline !== null) {
    metrics.information_gain = meanOf(gains);
    metrics.information_gain_positive = shareOf(gains.map((gain) => gain > 0));
  }
  return { reward: rewards, advantage: advantages, metrics };
}
