import type { CheckpointScorer } from './checkpoint-scorer.ts';
import type { RecordedRun } from './config.ts';
import { internal, UserError } from './errors.ts';
import type { RolloutRecord } from './records.ts';
import { Baseline, type RewardInput } from './reward/index.ts';
import type { RolloutDocument } from './rollout/index.ts';
import { noThinkRequest } from './thinking.ts';
import type { LossRow, TreeBranch } from './tree-batch.ts';

/** Whether a row of the run is a completion: a thought with a sampled answer. */
export const completes = ({ objective }: RecordedRun): boolean => objective === 'rpt' || objective === 'grpo';

/** Thoughts at one position. */
export interface RowGroup {
  /** The same object for all groups of a document. */
  document: object;
  rows: RolloutRecord[];
}

/** The groups of a batch of a file, in its order. No step draws a document twice. */
export function groupRows(rows: readonly RolloutRecord[]): RowGroup[] {
  const groups: RowGroup[] = [];
  let before: RolloutRecord | undefined;
  for (const row of rows) {
    const group = groups.at(-1);
    const sameDocument = row.documentId === before?.documentId && row.step === before.step;
    if (group !== undefined && sameDocument && row.position === before?.position) group.rows.push(row);
    else groups.push({ document: group !== undefined && sameDocument ? group.document : {}, rows: [row] });
    before = row;
  }
  return groups;
}

/** Tokens around a thought. */
export interface Delimiters {
  open: readonly number[];
  close: readonly number[];
}

export const documentOf = (documents: ReadonlyMap<string, RolloutDocument>, id: string): RolloutDocument => {
  const document = documents.get(id);
  if (document === undefined) throw internal(`document ${id} was not read`);
  return document;
};

/** The rows with the log-probs of thought and targets under other weights, teacher forced; one trunk pass a document. */
export async function rescoredThoughts(
  rows: readonly RolloutRecord[],
  documents: ReadonlyMap<string, RolloutDocument>,
  delimiters: Delimiters,
  scorer: Pick<CheckpointScorer, 'rowLogProbs'>,
): Promise<RolloutRecord[]> {
  const byDocument = new Map<string, number[]>();
  for (const [i, { documentId }] of rows.entries()) {
    const indices = byDocument.get(documentId);
    if (indices === undefined) byDocument.set(documentId, [i]);
    else indices.push(i);
  }
  const trees = [...byDocument].map(([id, indices]) => {
    const { tokens, promptTokens = 0 } = documentOf(documents, id);
    const branches = indices.map((i) => branchOf(rows[i], tokens, promptTokens, delimiters));
    const longest = indices.reduce((most, i) => Math.max(most, promptTokens + rows[i].position), 0);
    return { trunk: Array.from(tokens).slice(0, longest), losses: [], branches };
  });
  const logProbs = await scorer.rowLogProbs(trees);
  const scored = [...rows];
  let start = 0;
  const take = (count: number) => {
    start += count;
    return logProbs.slice(start - count, start);
  };
  for (const i of [...byDocument.values()].flat()) {
    const { thoughtTokens, targetTokens } = rows[i];
    const thoughtLogProbs = take(thoughtTokens.length);
    scored[i] = { ...rows[i], thoughtLogProbs, reasonedLogProbs: take(targetTokens.length) };
  }
  return scored;
}

/** What the sampler fed for a thought: see BranchRow. Without delimiters the token before the position begins the branch. */
function branchOf(
  row: RolloutRecord,
  tokens: ArrayLike<number>,
  promptTokens: number,
  { open, close }: Delimiters,
): TreeBranch {
  const { thoughtTokens, targetTokens, finishReason } = row;
  const position = promptTokens + row.position;
  const begin = open.length > 0 ? open : [tokens[position - 1]];
  const thought = [...begin, ...thoughtTokens];
  const closed = finishReason === 'closed' ? thought : [...thought, ...close];
  const rowsAfter = (tokens: readonly number[], targets: Int32Array) =>
    Array.from(targets, (target, i): LossRow => ({ token: tokens.length - 1 + i, target }));
  return {
    trunkLength: open.length > 0 ? position : position - 1,
    tokens: [...closed, ...targetTokens.subarray(0, -1)],
    losses: [...rowsAfter(begin, thoughtTokens), ...rowsAfter(closed, targetTokens)],
  };
}

/** The rows with the no-think log-probs of other weights. */
export async function rescoredBaseline(
  rows: readonly RolloutRecord[],
  documents: ReadonlyMap<string, RolloutDocument>,
  { horizon, baselinePrompt }: Pick<RecordedRun, 'horizon' | 'baselinePrompt'>,
  scorer: CheckpointScorer,
): Promise<RolloutRecord[]> {
  const all = [...documents.values()];
  const baseline = new Baseline({ kind: 'frozen' }, scorer);
  const requests = all.map((document) => noThinkRequest(document, baselinePrompt));
  const scores = (await baseline.score(requests, horizon)) ?? [];
  const byPlace = new Map(
    all.flatMap(({ id, positions, promptTokens = 0 }, d) =>
      positions.map((position, p) => [`${position - promptTokens} ${id}`, scores[d][p]] as const),
    ),
  );
  return rows.map((row) => {
    const baselineLogProbs = byPlace.get(`${row.position} ${row.documentId}`);
    if (baselineLogProbs === undefined) throw internal(`no baseline of document ${row.documentId}`);
    return { ...row, baselineLogProbs, baselineVersion: baseline.version };
  });
}

/** Text of a document, and of it before a position. */
export type DocumentText = (id: string, position: number) => Pick<RewardInput, 'document' | 'prefix'>;

/** The text of documents that have been read again; a document's is decoded once. */
export function documentText(
  documents: ReadonlyMap<string, RolloutDocument>,
  decode: (tokens: readonly number[]) => string,
): DocumentText {
  const texts = new Map<string, string>();
  return (id, position) => {
    const { tokens, promptTokens = 0 } = documentOf(documents, id);
    const own = Array.from(tokens).slice(promptTokens);
    const document = texts.get(id) ?? decode(own);
    texts.set(id, document);
    return { document, prefix: decode(own.slice(0, position)) };
  };
}

/**
 * What a reward function is told about recorded thoughts at one position. Without their text, asking for it is an error, so
 * that no function takes a part of the text for all of it.
 */
export function rewardInputs(
  rows: readonly RolloutRecord[],
  textOf: DocumentText | undefined,
): Omit<RewardInput, 'builtInReward'>[] {
  const text = textOf?.(rows[0].documentId, rows[0].position);
  return rows.map(({ reward: _reward, advantage: _advantage, ...row }) => {
    const copy = {
      ...row,
      thoughtTokens: row.thoughtTokens.slice(),
      thoughtLogProbs: row.thoughtLogProbs.slice(),
      samplingLogProbs: row.samplingLogProbs.slice(),
      targetTokens: row.targetTokens.slice(),
      reasonedLogProbs: row.reasonedLogProbs.slice(),
      baselineLogProbs: row.baselineLogProbs.slice(),
    };
    return text === undefined ? withoutText(copy) : { ...copy, ...text };
  });
}

function withoutText<T extends object>(row: T): T & Pick<RewardInput, 'document' | 'prefix'> {
  const why =
    'a rollout file does not hold (its `context` is the end of the prefix); add --model, and the data will be read again';
  const properties = { document: unavailable('document', why), prefix: unavailable('prefix', why) };
  return Object.defineProperties(row, properties) as T & Pick<RewardInput, 'document' | 'prefix'>;
}

/** A property that is an error to ask for. @param why it cannot be had: it follows "which" */
export const unavailable = (name: string, why: string): PropertyDescriptor => ({
  get(): never {
    throw new UserError(`asks for \`${name}\`, which ${why}`);
  },
});
