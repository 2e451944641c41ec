import type { FinishReason } from './records.ts';
import {
  type AdvantageOptions,
  askReward,
  type CustomReward,
  type GivenRewards,
  type HorizonReduction,
  type RewardInput,
  type RewardMetrics,
  reward,
  score,
  type UnclosedThoughts,
  unclosedRule,
} from './reward/index.ts';

/** How scored thoughts are paid; what is left out is as in RLP. */
export interface PayRules {
  horizonReduction?: HorizonReduction;
  unclosed?: UnclosedThoughts;
  /** Nats that 'penalize' takes off. */
  unclosedPenalty?: number;
  advantage?: AdvantageOptions;
}

/** The thoughts at one position of a document, scored. */
export interface ScoredGroup {
  /** Told apart by identity. */
  document: unknown;
  /** For errors. */
  documentId: string;
  position: number;
  thoughts: readonly { reasonedLogProbs: ArrayLike<number>; finishReason: FinishReason }[];
  /** log p_phi(target | prefix), nats; undefined without a baseline. */
  baselineLogProbs: ArrayLike<number> | undefined;
}

/** A reward function, and what it is told about the thoughts of a group beyond what they are paid otherwise. */
export interface Asking {
  reward: CustomReward;
  describe: (group: number) => Omit<RewardInput, 'builtInReward'>[];
}

/** What the thoughts of each group were paid. */
export interface Payment {
  rewards: Float64Array[];
  advantages: Float64Array[];
  /** Thoughts that take no part in the loss. */
  excluded: boolean[][];
  metrics: RewardMetrics;
}

/** Turns scores into rewards and advantages: the information gain, or what a reward function says, or rewards that are there. */
export async function payGroups(
  groups: readonly ScoredGroup[],
  rules: PayRules,
  source?: Asking | GivenRewards,
): Promise<Payment> {
  const { horizonReduction: reduction = 'sum', unclosed = 'close', unclosedPenalty = 0, advantage } = rules;
  const baselines = groups.flatMap(({ baselineLogProbs }) =>
    baselineLogProbs === undefined ? [] : [baselineLogProbs],
  );
  const given = source && ('rewards' in source ? source : await ask(source, groups, reduction));
  const unclosedRules = groups.map(({ thoughts }) =>
    thoughts.map(({ finishReason }) => unclosedRule(finishReason, unclosed, unclosedPenalty)),
  );
  const paid = reward(
    groups.map(({ thoughts }, b) =>
      thoughts.map(({ reasonedLogProbs }, g) => ({ reasonedLogProbs, ...unclosedRules[b][g] })),
    ),
    baselines.length === 0 ? null : baselines,
    {
      reduction,
      ...(advantage !== undefined && { advantage }),
      ...(given !== undefined && { given }),
      documents: groups.map(({ document }) => document),
      nameRow: (b, rollout) => `document ${groups[b].documentId}, position ${groups[b].position}, rollout ${rollout}`,
    },
  );
  return {
    rewards: paid.reward,
    advantages: paid.advantage,
    excluded: unclosedRules.map((ofGroup) => ofGroup.map(({ excluded }) => excluded)),
    metrics: paid.metrics,
  };
}

const ask = ({ reward: custom, describe }: Asking, groups: readonly ScoredGroup[], reduction: HorizonReduction) =>
  askReward(
    custom,
    groups.map((group, b) => withBuiltInReward(describe(b), group, reduction)),
  );

function withBuiltInReward(
  thoughts: readonly Omit<RewardInput, 'builtInReward'>[],
  { baselineLogProbs }: ScoredGroup,
  reduction: HorizonReduction,
): RewardInput[] {
  const noThink = baselineLogProbs === undefined ? 0 : score(baselineLogProbs, reduction);
  // Assigned, not spread: what is not at hand may be a getter that says so.
  return thoughts.map((thought) =>
    Object.assign(thought, { builtInReward: score(thought.reasonedLogProbs, reduction) - noThink }),
  );
}
