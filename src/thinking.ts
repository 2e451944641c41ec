import type { RolloutRecord } from './records.ts';
import { type Baseline, type RewardMetrics, reward } from './reward/index.ts';
import type { DocumentRollouts, RolloutDocument, Thought } from './rollout/index.ts';

/** The thoughts at one position of a document, and what they were paid. */
export interface PaidGroup {
  document: RolloutDocument;
  position: number;
  thoughts: Thought[];
  /** log p_phi(target | prefix), nats; undefined without a baseline. */
  baselineLogProbs: Float32Array | undefined;
  rewards: Float64Array;
  advantages: Float64Array;
}

/** Scores the no-think baseline for documents that were thought about, and turns both scores into rewards and advantages. */
export async function payThoughts(
  rollouts: readonly DocumentRollouts[],
  baseline: Baseline,
  horizon: number,
): Promise<{ groups: PaidGroup[]; metrics: RewardMetrics }> {
  const requests = rollouts.map(({ document }) => ({ ...document, document: document.id }));
  const baselineScores = await baseline.score(requests, horizon);
  const groups = rollouts.flatMap(({ document, thoughts }, d) =>
    document.positions.map((position, p) => ({
      document,
      position,
      thoughts: thoughts.filter((thought) => thought.position === position),
      baselineLogProbs: baselineScores?.[d][p],
    })),
  );
  const noThink = baselineScores?.flat() ?? null;
  const paid = reward(
    groups.map(({ thoughts }) => thoughts),
    noThink,
    {
      nameRow: (group, rollout) =>
        `document ${groups[group].document.id}, position ${groups[group].position}, rollout ${rollout}`,
    },
  );
  return {
    groups: groups.map((group, i) => ({ ...group, rewards: paid.reward[i], advantages: paid.advantage[i] })),
    metrics: paid.metrics,
  };
}

/** Tokens of the prefix that a record shows. */
const CONTEXT_TOKENS = 64;

export interface RecordVersions {
  step: number;
  policyVersion: number;
  baselineVersion: number;
}

/** Rows of the rollout file, one a thought. */
export function toRecords(
  groups: readonly PaidGroup[],
  decode: (tokens: readonly number[]) => string,
  versions: RecordVersions,
): RolloutRecord[] {
  return groups.flatMap(({ document, position, thoughts, baselineLogProbs, rewards, advantages }) => {
    const prefix = Array.from({ length: position }, (_, i) => document.tokens[i]);
    const context = decode(prefix.slice(-CONTEXT_TOKENS));
    return thoughts.map(
      (thought, g): RolloutRecord => ({
        ...versions,
        documentId: document.id,
        position,
        rollout: thought.rollout,
        context,
        thought: decode(thought.tokens),
        thoughtTokens: Int32Array.from(thought.tokens),
        thoughtLogProbs: Float32Array.from(thought.logProbs),
        samplingLogProbs: Float32Array.from(thought.samplingLogProbs),
        target: decode(thought.targets),
        targetTokens: Int32Array.from(thought.targets),
        reasonedLogProbs: Float32Array.from(thought.reasonedLogProbs),
        baselineLogProbs: baselineLogProbs ?? new Float32Array(0),
        reward: rewards[g],
        advantage: advantages[g],
        finishReason: thought.finishReason,
      }),
    );
  });
}

/** Figures about the thoughts themselves, by TRL's names; lengths in tokens. */
export function thoughtMetrics(groups: readonly PaidGroup[]): Record<string, number> {
  const thoughts = groups.flatMap((group) => group.thoughts);
  const lengths = thoughts.map(({ tokens }) => tokens.length);
  const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
  const reasoned = thoughts.map(({ reasonedLogProbs }) => sum(reasonedLogProbs) / reasonedLogProbs.length);
  const noThink = groups.flatMap(({ baselineLogProbs }) =>
    baselineLogProbs === undefined ? [] : [sum([...baselineLogProbs]) / baselineLogProbs.length],
  );
  return {
    'completions/mean_length': sum(lengths) / lengths.length,
    'completions/min_length': Math.min(...lengths),
    'completions/max_length': Math.max(...lengths),
    'completions/clipped_ratio':
      thoughts.filter(({ finishReason }) => finishReason === 'length').length / thoughts.length,
    reasoned_cross_entropy: -sum(reasoned) / reasoned.length,
    ...(noThink.length > 0 && { baseline_cross_entropy: -sum(noThink) / noThink.length }),
  };
}
