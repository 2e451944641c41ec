import { type PayRules, payGroups } from './pay.ts';
import type { RolloutRecord } from './records.ts';
import type {
  Baseline,
  BaselineRequest,
  CustomReward,
  RewardInput,
  RewardMetrics,
  UnpaidRecord,
} from './reward/index.ts';
import type { DocumentRollouts, RolloutDocument, Thought } from './rollout/index.ts';

/** The thoughts at one position of a document. */
export interface ThoughtGroup {
  document: RolloutDocument;
  position: number;
  thoughts: Thought[];
  /** log p_phi(target | prefix), nats; undefined without a baseline. */
  baselineLogProbs: Float32Array | undefined;
}

/** The same, and what they were paid. */
export interface PaidGroup extends ThoughtGroup {
  rewards: Float64Array;
  advantages: Float64Array;
  /** Thoughts that take no part in the loss. */
  excluded: boolean[];
}

/** How thoughts are paid; what is left out is as in RLP. */
export interface PayOptions extends PayRules {
  /** Target tokens. */
  horizon: number;
  /** Whether the baseline reads the prompt before the text; default false. */
  baselinePrompt?: boolean;
}

/** A reward function in place of the information gain, and what turns thoughts into the rows that it sees. */
export interface CustomPay {
  reward: CustomReward;
  decode: Decode;
  versions: RecordVersions;
}

/** Scores the no-think baseline for documents that were thought about, and turns both scores into rewards and advantages. */
export async function payThoughts(
  rollouts: readonly DocumentRollouts[],
  baseline: Baseline,
  options: PayOptions,
  custom?: CustomPay,
): Promise<{ groups: PaidGroup[]; metrics: RewardMetrics }> {
  const requests = rollouts.map(({ document, noThink }) => {
    const request = noThinkRequest(document, options.baselinePrompt ?? false);
    // What the engine scored has all of the document before it, the prompt included.
    return noThink !== undefined && request.tokens === document.tokens ? { ...request, known: noThink } : request;
  });
  const baselineScores = await baseline.score(requests, options.horizon);
  const groups = rollouts.flatMap(({ document, thoughts }, d) =>
    document.positions.map(
      (position, p): ThoughtGroup => ({
        document,
        position,
        thoughts: thoughts.filter((thought) => thought.position === position),
        baselineLogProbs: baselineScores?.[d][p],
      }),
    ),
  );
  const { rewards, advantages, excluded, metrics } = await payGroups(
    groups.map((group) => ({ ...group, documentId: group.document.id })),
    options,
    custom && { reward: custom.reward, describe: rewardInputs(groups, custom) },
  );
  return {
    groups: groups.map((group, b) => ({
      ...group,
      rewards: rewards[b],
      advantages: advantages[b],
      excluded: excluded[b],
    })),
    metrics,
  };
}

/** The rows of groups before they are paid, with the text around the thoughts; a document's is decoded once. */
export function rewardInputs(
  groups: readonly ThoughtGroup[],
  { decode, versions }: Pick<CustomPay, 'decode' | 'versions'>,
): (group: number) => Omit<RewardInput, 'builtInReward'>[] {
  const texts = new Map<RolloutDocument, string>();
  return (b) => {
    const { document, position } = groups[b];
    const text = Array.from(document.tokens).slice(document.promptTokens ?? 0);
    const whole = texts.get(document) ?? decode(text);
    texts.set(document, whole);
    const prefix = decode(text.slice(0, position - (document.promptTokens ?? 0)));
    return unpaidRecords(groups[b], decode, versions).map((record) => ({ ...record, document: whole, prefix }));
  };
}

/** What the baseline reads: the text as it is, or with the prompt before it. */
export function noThinkRequest(
  { id, tokens, positions, promptTokens = 0 }: RolloutDocument,
  prompted: boolean,
): BaselineRequest {
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

type Decode = (tokens: readonly number[]) => string;

/** Rows of the rollout file, one a thought. */
export function toRecords(groups: readonly PaidGroup[], decode: Decode, versions: RecordVersions): RolloutRecord[] {
  return groups.flatMap((group) =>
    unpaidRecords(group, decode, versions).map((record, g) => ({
      ...record,
      reward: group.rewards[g],
      advantage: group.advantages[g],
    })),
  );
}

/** The end of the text before a position, without the prompt. */
export function contextOf({ tokens, promptTokens = 0 }: RolloutDocument, position: number, decode: Decode): string {
  const start = Math.max(promptTokens, position - CONTEXT_TOKENS);
  return decode(Array.from({ length: position - start }, (_, i) => tokens[start + i]));
}

function unpaidRecords(group: ThoughtGroup, decode: Decode, versions: RecordVersions): UnpaidRecord[] {
  const { document, position, thoughts, baselineLogProbs = [] } = group;
  const { promptTokens = 0 } = document;
  const context = contextOf(document, position, decode);
  return thoughts.map((thought) => ({
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
    baselineLogProbs: Float32Array.from(baselineLogProbs),
    finishReason: thought.finishReason,
  }));
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
