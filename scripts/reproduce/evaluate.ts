import { readFile, rm } from 'node:fs/promises';
import { readRollouts } from '../../src/arrow.ts';
import { rolloutSchema } from '../../src/config.ts';
import { loadTokenizer, tokenizeDocument } from '../../src/data/index.ts';
import { microBatches } from '../../src/micro-batches.ts';
import { openModel } from '../../src/model-directory.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { runRollout } from '../../src/rollout-run.ts';
import { Value } from '../../src/runtime/index.ts';
import { buildTreeBatch, type TreeDocument } from '../../src/tree-batch.ts';
import { TreeModel } from '../../src/tree-model.ts';
import type { RawDocument } from './families.ts';

/** What a model is worth on held-out questions of one family. */
export interface FamilyScore {
  /** Probability that an answer sampled after a sampled thought is exact; mean over questions and thoughts. */
  thinking: number;
  /** Probability that an answer sampled without a thought is exact, given that no thought is opened. */
  direct: number;
  /** Probability that the model opens a thought before the answer by itself. */
  opens: number;
  /** log p(answer | thought) - log p(answer) under the same weights, nats. */
  gain: number;
  /** Mean tokens of a thought. */
  thoughtTokens: number;
  /** Share of thoughts that did not close. */
  unclosed: number;
}

export interface Evaluation {
  families: Record<string, FamilyScore>;
  /** Cross-entropy of the held-out text without thoughts, nats a token. */
  textCrossEntropy: number;
}

export interface EvaluationOptions {
  /** Held-out documents, one JSON object a line. */
  data: string;
  /** Arrow file for the thoughts. */
  out: string;
  thoughts: number;
  maxThoughtTokens: number;
  threads: number;
}

/** The same evaluation for every arm: thoughts at temperature 1, the same noise, and the exact answer's probability. */
export async function evaluate(model: string, options: EvaluationOptions): Promise<Evaluation> {
  await rm(options.out, { force: true });
  await runRollout(
    rolloutSchema.parse({
      ...{ model, data: [options.data], out: options.out, threads: options.threads },
      ...{ groupSize: options.thoughts, maxThoughtTokens: options.maxThoughtTokens, temperature: 1 },
      ...{ positionStrategy: 'column', documentsPerBatch: 16, seed: 1 },
    }),
  );
  const rows: RolloutRecord[] = [];
  for await (const batch of await readRollouts(options.out)) rows.push(...batch);
  const families = new Map<string, RolloutRecord[]>();
  for (const row of rows) {
    const family = row.documentId.split('-')[0];
    families.set(family, [...(families.get(family) ?? []), row]);
  }
  const documents = await readDocuments(model, options.data);
  const opening = await openingProbabilities(model, documents, options);
  return {
    families: Object.fromEntries([...families].map(([family, own]) => [family, familyScore(own, opening)])),
    textCrossEntropy: await textCrossEntropy(model, documents, options),
  };
}

const sum = (values: Float32Array) => values.reduce((a, b) => a + b, 0);

function familyScore(rows: readonly RolloutRecord[], opening: ReadonlyMap<string, number>): FamilyScore {
  const mean = (figure: (row: RolloutRecord) => number) => rows.reduce((a, row) => a + figure(row), 0) / rows.length;
  const opens = ({ documentId }: RolloutRecord) => opening.get(documentId) as number; // the same data
  return {
    thinking: mean((row) => Math.exp(sum(row.reasonedLogProbs))),
    direct: mean((row) => Math.exp(sum(row.baselineLogProbs)) / (1 - opens(row))),
    opens: mean(opens),
    gain: mean((row) => row.reward),
    thoughtTokens: mean((row) => row.thoughtTokens.length),
    unclosed: mean((row) => (row.finishReason === 'closed' ? 0 : 1)),
  };
}

const PADDED_TOKENS = 8192;

interface Document {
  id: string;
  tokens: Int32Array;
  /** Index of the token before the answer. */
  question: number;
}

async function readDocuments(directory: string, data: string): Promise<Document[]> {
  const tokenizer = await loadTokenizer(directory);
  const lines = (await readFile(data, 'utf8')).trimEnd().split('\n');
  return lines.map((line, row) => {
    const { id, text, positions } = JSON.parse(line) as RawDocument; // written by this experiment
    const document = tokenizeDocument({ id, text, positions, source: { file: data, row } }, tokenizer);
    return { id, tokens: document.tokens, question: (document.listedPositions?.[0] ?? 0) - 1 };
  });
}

/** Probability of the opening delimiter right before each document's answer. */
async function openingProbabilities(directory: string, documents: readonly Document[], options: EvaluationOptions) {
  const target = (await loadTokenizer(directory)).thinkTokens().open[0];
  const logProbs = await score(
    directory,
    documents.map(({ tokens, question }) => ({ trunk: tokens, losses: [{ token: question, target, nllWeight: 1 }] })),
    options,
  );
  return new Map(documents.map(({ id }, i) => [id, Math.exp(logProbs[i])]));
}

async function textCrossEntropy(directory: string, documents: readonly Document[], options: EvaluationOptions) {
  const logProbs = await score(
    directory,
    documents.map(({ tokens }) => ({
      trunk: tokens,
      losses: Array.from({ length: tokens.length - 1 }, (_, i) => ({ token: i, target: tokens[i + 1], nllWeight: 1 })),
    })),
    options,
  );
  return -logProbs.reduce((a, b) => a + b, 0) / logProbs.length;
}

/** log-probs of the loss rows of all documents, in their order. */
async function score(
  directory: string,
  documents: readonly Omit<TreeDocument, 'branches'>[],
  { threads }: EvaluationOptions,
): Promise<number[]> {
  const model = await openModel(directory);
  using tree = await TreeModel.create(model.trainingArtifacts.evalModel, { intraOpThreads: threads });
  const weights = [...(await model.loadWeights())].map(
    ([name, { shape, data: values }]) => [name, Value.from('float32', shape, values)] as const,
  );
  try {
    const logProbs: number[] = [];
    for (const batch of microBatches(
      documents.map((document) => ({ ...document, branches: [] })),
      PADDED_TOKENS,
    )) {
      logProbs.push(...(await tree.run(buildTreeBatch(batch), new Map(weights))).logProbs);
    }
    return logProbs;
  } finally {
    for (const [, value] of weights) value.dispose();
  }
}
