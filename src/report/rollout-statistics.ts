import type { FinishReason, RolloutRecord } from '../records.ts';

/** What a report needs of a rollout; without the per-token columns, a large file fits into memory. */
export interface ThoughtRow
  extends Pick<
    RolloutRecord,
    | 'step'
    | 'documentId'
    | 'position'
    | 'rollout'
    | 'context'
    | 'thought'
    | 'target'
    | 'reward'
    | 'advantage'
    | 'finishReason'
  > {
  /** Tokens. */
  thoughtLength: number;
}

export function thoughtRow(record: RolloutRecord): ThoughtRow {
  const { step, documentId, position, rollout, context, thought, target, reward, advantage, finishReason } = record;
  const thoughtLength = record.thoughtTokens.length;
  return {
    step,
    documentId,
    position,
    rollout,
    context,
    thought,
    target,
    reward,
    advantage,
    finishReason,
    thoughtLength,
  };
}

export interface Distribution {
  mean: number;
  /** Standard deviation of the population (divides by the count). */
  std: number;
  min: number;
  max: number;
}

export interface RolloutStatistics {
  rows: number;
  documents: number;
  /** Groups: (step, document, position) with their thoughts. */
  positions: number;
  /** Information gain in nats, or what a reward module paid. */
  reward: Distribution;
  /** Share of thoughts with a reward above 0: under the information gain, they made the text more likely. */
  sharePositive: number;
  /** Share of groups whose rewards are all equal: they teach nothing. */
  shareWithoutSpread: number;
  /** Tokens. */
  thoughtLength: Distribution;
  finishReasons: Record<FinishReason, number>;
}

/** Mean, spread and range of a sample; all NaN when it is empty. Not finite values make the mean not finite: they show. */
export function distribution(values: readonly number[]): Distribution {
  if (values.length === 0) return { mean: Number.NaN, std: Number.NaN, min: Number.NaN, max: Number.NaN };
  let sum = 0;
  let min = Number.POSITIVE_INFINITY;
  let max = Number.NEGATIVE_INFINITY;
  for (const value of values) {
    sum += value;
    min = Math.min(min, value);
    max = Math.max(max, value);
  }
  const mean = sum / values.length;
  let squares = 0;
  for (const value of values) squares += (value - mean) ** 2;
  return { mean, std: Math.sqrt(squares / values.length), min, max };
}

/** Statistics over the thoughts of a rollout file. */
export function rolloutStatistics(rows: readonly ThoughtRow[]): RolloutStatistics {
  const rewards = rows.map((row) => row.reward);
  const groups = new Map<string, number[]>();
  const finishReasons: Record<FinishReason, number> = { closed: 0, length: 0, eos: 0 };
  for (const row of rows) {
    const key = JSON.stringify([row.step, row.documentId, row.position]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [row.reward]);
    else group.push(row.reward);
    finishReasons[row.finishReason]++;
  }
  const flat = [...groups.values()].filter((group) => group.every((reward) => reward === group[0])).length;
  return {
    rows: rows.length,
    documents: new Set(rows.map((row) => row.documentId)).size,
    positions: groups.size,
    reward: distribution(rewards),
    sharePositive: rewards.filter((reward) => reward > 0).length / rows.length,
    shareWithoutSpread: flat / groups.size,
    thoughtLength: distribution(rows.map((row) => row.thoughtLength)),
    finishReasons,
  };
}
