import type { RolloutRecord } from './records.ts';
import {
  type AdvantageOptions,
  type Baseline,
  type HorizonReduction,
  type RewardMetrics,
  reward,
  type UnclosedThoughts,
  unclosedRule,
} from './reward/index.ts';
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
  /** Thoughts that take no part in the loss. */
  excluded: boolean[];
}

/** How thoughts are paid; what is left out is as in RLP. */
export interface PayOptions {
  /** Target tokens. */
  horizon: number;
  horizonReduction?: HorizonReduction;
  unclosed?: UnclosedThoughts;
  /** Nats that 'penalize' takes off. */
  unclosedPenalty?: number;
  advantage?: AdvantageOptions;
  /** Whether the baseline reads the prompt before the text; default false. */
  baselinePrompt?: boolean;
}

/** Scores the no-think baseline for documents that were thought about, and turns both scores into rewards and advantages. */
export async function payThoughts(
  rollouts: readonly DocumentRollouts[],
  baseline: Baseline,
  options: PayOptions,
): Promise<{ groups: PaidGroup[]; metrics: RewardMetrics }> {
  const { horizon, horizonReduction, unclosed = 'close', unclosedPenalty = 0, advantage } = options;
  const requests = rollouts.map(({ document }) => noThinkRequest(document, options.baselinePrompt ?? false));
  const baselineScores = await baseline.score(requests, horizon);
  const groups = rollouts.flatMap(({ document, thoughts }, d) =>
    document.positions.map((position, p) => {
      const ofPosition = thoughts.filter((thought) => thought.position === position);
      return {
        document,
        position,
        thoughts: ofPosition,
        rules: ofPosition.map(({ finishReason }) => unclosedRule(finishReason, unclosed, unclosedPenalty)),
        baselineLogProbs: baselineScores?.[d][p],
      };
    }),
  );
  const paid = reward(
    groups.map(({ thoughts, rules }) => thoughts.map(({ reasonedLogProbs }, g) => ({ reasonedLogProbs, ...rules[g] }))),
    baselineScores?.flat() ?? null,
    {
      ...(horizonReduction !== undefined && { reduction: horizonReduction }),
      ...(advantage !== undefined && { advantage }),
      documents: groups.map(({ document }) => document),
      nameRow: (group, rollout) =>
        `document ${groups[group].document.id}, position ${groups[group].position}, rollout ${rollout}`,
    },
  );
  return {
    groups: groups.map(({ rules, ...group }, i) => ({
      ...group,
      rewards: paid.reward[i],
      advantages: paid.advantage[i],
      excluded: rules.map(({ excluded }) => excluded),
    })),
    metrics: paid.metrics,
  };
}

/** What the baseline reads: the text as it is, or with the prompt before it. */
function noThinkRequest({ id, tokens, positions, promptTokens = 0 }: RolloutDocument, prompted: boolean) {
  if (prompted || promptTokens === 0) return { document: id, tokens, positions };
  return {
    document: id,
    tokens: Array.from(tokens).slice(promptTokens),
    positions: positions.map((position) => position - promptTokens),
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
    const { tokens, promptTokens = 0 } = document;
    const start = Math.max(promptTokens, position - CONTEXT_TOKENS);
    const context = decode(Array.from({ length: position - start }, (_, i) => tokens[start + i]));
    return thoughts.map(
      (thought, g): RolloutRecord => ({
        ...versions,
        documentId: document.id,
        position: position - promptTokens,
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

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0);
const mean = (values: ArrayLike<number>) => sum(values) / values.length;

/** Figures about the thoughts themselves, by TRL's names; lengths in tokens. */
export function thoughtMetrics(groups: readonly PaidGroup[]): Record<string, number> {
  const thoughts = groups.flatMap((group) => group.thoughts);
  const lengths = thoughts.map(({ tokens }) => tokens.length);
  const closed = thoughts.filter(({ finishReason }) => finishReason === 'closed').map(({ tokens }) => tokens.length);
  const share = (reason: Thought['finishReason']) =>
    thoughts.filter(({ finishReason }) => finishReason === reason).length / thoughts.length;
  const noThink = groups.flatMap(({ baselineLogProbs }) =>
    baselineLogProbs === undefined ? [] : [mean(baselineLogProbs)],
  );
  return {
    'completions/mean_length': mean(lengths),
    'completions/min_length': lengths.reduce((a, b) => Math.min(a, b)),
    'completions/max_length': lengths.reduce((a, b) => Math.max(a, b)),
    ...(closed.length > 0 && { 'completions/mean_terminated_length': mean(closed) }),
    'completions/clipped_ratio': share('length'),
    'completions/eos_ratio': share('eos'),
    reasoned_cross_entropy: -mean(thoughts.map(({ reasonedLogProbs }) => mean(reasonedLogProbs))),
    ...(noThink.length > 0 && { baseline_cross_entropy: -mean(noThink) }),
  };
}
