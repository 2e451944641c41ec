import { readFile, rm } from 'node:fs/promises';
import { readRollouts } from '../../src/arrow.ts';
import { CheckpointScorer } from '../../src/checkpoint-scorer.ts';
import { rolloutSchema } from '../../src/config.ts';
import { loadTokenizer, tokenizeDocument } from '../../src/data/index.ts';
import { openModel } from '../../src/model-directory.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { runRollout } from '../../src/rollout-run.ts';
import { familyOf } from './data.ts';
import { DECLARED } from './declared.ts';
import type { RawDocument } from './families.ts';
import { groupBy } from './statistics.ts';

/** What a model is worth on held-out questions of one family. "Unopened": given that the next token opens no thought. */
export interface FamilyScore {
  /** Probability that an answer sampled after a sampled thought is exact; mean over questions and thoughts. */
  thinking: number;
  /** Probability that an answer sampled without a thought is exact, unopened. */
  direct: number;
  /** Probability that the model opens a thought before the answer by itself. */
  opens: number;
  /** log p(answer | thought) - log p(answer) under the same weights, nats: what RLP pays, with its own weights as the baseline. */
  gain: number;
  /** log p(answer | thought) - log p(answer, unopened), nats: without what log p(answer) loses to the opening delimiter. */
  gainUnopened: number;
  /** Mean tokens of a thought. */
  thoughtTokens: number;
  /** Share of thoughts that did not close. */
  unclosed: number;
  /** `thinking` of every question, the mean over its thoughts, in the order of the data. */
  questions: number[];
}

export interface Evaluation {
  families: Record<string, FamilyScore>;
  /** Cross-entropy of the held-out text without thoughts, nats a token. */
  textCrossEntropy: number;
  /** The same, unopened at every token. */
  textCrossEntropyUnopened: number;
}

export interface EvaluationOptions {
  /** Held-out documents, one JSON object a line. */
  data: string;
  /** Arrow file for the thoughts. */
  out: string;
  /** A question, or a position. */
  thoughts: number;
  maxThoughtTokens: number;
  threads: number;
}

/** The same evaluation for every arm: thoughts at temperature 1, the same noise, and the exact answer's probability. */
export async function evaluate(model: string, options: EvaluationOptions): Promise<Evaluation> {
  const rows = await think(model, options, 'column');
  const families = groupBy(rows, ({ documentId }) => familyOf(documentId));
  const scores = await scoreText(model, await readDocuments(model, options.data), options.threads);
  const tokens = scores.flatMap(({ logProbs, opening }) =>
    logProbs.map((logProb, i) => ({ logProb, open: opening[i] })),
  );
  const mean = (figure: (token: (typeof tokens)[number]) => number) =>
    tokens.reduce((sum, token) => sum + figure(token), 0) / tokens.length;
  const opening = new Map(scores.map(({ document, opening: of }) => [document.id, of[document.question]]));
  return {
    families: Object.fromEntries([...families].map(([family, own]) => [family, familyScore(own, opening)])),
    textCrossEntropy: mean(({ logProb }) => -logProb),
    textCrossEntropyUnopened: mean(({ logProb, open }) => Math.log1p(-open) - logProb),
  };
}

const sum = (values: ArrayLike<number>) => Array.from(values).reduce((a, b) => a + b, 0);

function familyScore(rows: readonly RolloutRecord[], opening: ReadonlyMap<string, number>): FamilyScore {
  const mean = (figure: (row: RolloutRecord) => number, of = rows) =>
    of.reduce((a, row) => a + figure(row), 0) / of.length;
  const opens = ({ documentId }: RolloutRecord) => opening.get(documentId) as number; // the same data
  const exact = (row: RolloutRecord) => Math.exp(sum(row.reasonedLogProbs));
  const byQuestion = groupBy(rows, ({ documentId }) => documentId);
  return {
    thinking: mean(exact),
    direct: mean((row) => Math.exp(sum(row.baselineLogProbs)) / (1 - opens(row))),
    opens: mean(opens),
    gain: mean((row) => row.reward),
    gainUnopened: mean((row) => row.reward + Math.log1p(-opens(row))),
    thoughtTokens: mean((row) => row.thoughtTokens.length),
    unclosed: mean((row) => (row.finishReason === 'closed' ? 0 : 1)),
    questions: [...byQuestion.values()].map((own) => mean(exact, own)),
  };
}

/** Thinks at the answers (`column`), or at every position of the documents; leaves the thoughts in `out`. */
export async function think(
  model: string,
  { data, out, thoughts, maxThoughtTokens, threads }: EvaluationOptions,
  positionStrategy: 'column' | 'every',
): Promise<RolloutRecord[]> {
  await rm(out, { force: true });
  await rm(`${out}.partial`, { force: true }); // of an evaluation that was killed
  await runRollout(
    rolloutSchema.parse({
      ...{ model, data: [data], out, threads, positionStrategy, maxThoughtTokens, temperature: 1 },
      ...{ groupSize: thoughts, documentsPerBatch: 32, seed: DECLARED.evaluationSeed },
    }),
  );
  const rows: RolloutRecord[] = [];
  for await (const batch of await readRollouts(out)) rows.push(...batch);
  return rows;
}

export interface Document {
  id: string;
  text: string;
  tokens: Int32Array;
  /** Index of the token before the answer. */
  question: number;
}

export async function readDocuments(directory: string, data: string): Promise<Document[]> {
  const tokenizer = await loadTokenizer(directory);
  const lines = (await readFile(data, 'utf8')).split('\n').filter((line) => line !== '');
  return lines.map((line, row) => {
    const { id, text, positions } = JSON.parse(line) as RawDocument; // written by this experiment
    const document = tokenizeDocument({ id, text, positions, source: { file: data, row } }, tokenizer);
    return { id, text, tokens: document.tokens, question: (document.listedPositions?.[0] ?? 0) - 1 };
  });
}

/** Of each token of a document that has one after it: log p of that one, and the probability of the opening delimiter instead. */
export interface TextScore {
  document: Document;
  logProbs: number[];
  opening: number[];
}

export async function scoreText(
  directory: string,
  documents: readonly Document[],
  threads: number,
): Promise<TextScore[]> {
  const model = await openModel(directory);
  const open = (await loadTokenizer(directory)).thinkTokens().open[0];
  using scorer = await CheckpointScorer.create(model, { intraOpThreads: threads });
  const rows = await scorer.rowLogProbs(
    documents.map(({ tokens }) => ({
      trunk: tokens,
      branches: [],
      losses: Array.from(tokens.subarray(1), (next, token) =>
        [next, open].map((target) => ({ token, target, nllWeight: 1 })),
      ).flat(),
    })),
  );
  let n = 0;
  return documents.map((document) => {
    const own = Array.from(rows.subarray(n, n + 2 * (document.tokens.length - 1)));
    n += own.length;
    return {
      document,
      logProbs: own.filter((_, i) => i % 2 === 0),
      opening: own.filter((_, i) => i % 2 === 1).map(Math.exp),
    };
  });
}
