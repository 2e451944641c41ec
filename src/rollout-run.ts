import { RolloutWriter } from './arrow.ts';
import { parseDevice, type RolloutConfig } from './config.ts';
import { openModel } from './model-directory.ts';
import type { RunHooks } from './progress.ts';
import { Baseline, noThinkLogProbs } from './reward/index.ts';
import { type DocumentRollouts, RolloutEngine } from './rollout/index.ts';
import { Value } from './runtime/index.ts';
import { payThoughts, toRecords } from './thinking.ts';
import { ThoughtData } from './thought-data.ts';
import { TreeModel } from './tree-model.ts';

/** What a call of runRollout wrote. */
export interface RolloutSummary {
  out: string;
  /** Thoughts written by this call. */
  rows: number;
  documents: number;
  /** Documents too short to think about. */
  skipped: number;
  /** Means over this call's thoughts. */
  reward: number;
  reasonedCrossEntropy: number;
  noThinkCrossEntropy: number;
  /** Sampled tokens, and how many a second, scoring included. */
  tokens: number;
  tokensPerSecond: number;
  seconds: number;
}

/** Padded tokens of a no-think pass. */
const SCORE_TOKENS = 8192;

/**
 * Thinks before positions of documents and writes one row a thought. The no-think score is that of the same weights.
 * @throws UserError for bad input, before anything is written
 */
export async function runRollout(
  config: RolloutConfig,
  { onProgress, signal }: RunHooks = {},
): Promise<RolloutSummary> {
  const model = await openModel(config.model);
  const data = await ThoughtData.open(model, config);
  const { documents: tokenized, skipped } = await data.read(config.data);
  const documents = tokenized.map((document) => data.withPositions(document, config.step));

  const options = { device: parseDevice(config.device), intraOpThreads: config.threads };
  using engine = await RolloutEngine.create(model.rolloutGraphs, { ...options, externalDataFolder: model.directory });
  using evaluation = await TreeModel.create(model.trainingArtifacts.evalModel, options);
  const weights = new Map(
    [...(await model.loadWeights())].map(([name, { shape, data: values }]) => [
      name,
      Value.from('float32', shape, values),
    ]),
  );
  const baseline = new Baseline(
    { kind: 'frozen' },
    {
      copyFromPolicy: async () => {},
      score: (requests, horizon) =>
        noThinkLogProbs((batch) => evaluation.run(batch, weights), requests, horizon, SCORE_TOKENS),
    },
  );

  const { device: _device, threads: _threads, out: _out, resume, ...recorded } = config;
  await using writer = await RolloutWriter.open(config.out, { config: recorded, modelHash: model.hash }, { resume });
  const start = performance.now();
  // A batch of the file is a batch of documents, so what is there says where to go on.
  const first = writer.batches * config.documentsPerBatch;
  const totals = { rows: 0, reward: 0, reasoned: 0, noThink: 0, tokens: 0 };
  const batch: DocumentRollouts[] = [];
  let done = first;
  for await (const rollouts of engine.generate(documents.slice(first), data.rolloutOptions(config.step))) {
    batch.push(rollouts);
    done++;
    if (batch.length < config.documentsPerBatch && done < documents.length) continue;
    const { groups } = await payThoughts(batch.splice(0), baseline, config.horizon);
    const records = toRecords(groups, data.decode, {
      step: config.step,
      policyVersion: 0,
      baselineVersion: baseline.version,
    });
    await writer.append(records);
    const sum = (values: Float32Array) => values.reduce((a, b) => a + b, 0);
    for (const record of records) {
      totals.rows++;
      totals.reward += record.reward;
      totals.reasoned -= sum(record.reasonedLogProbs);
      totals.noThink -= sum(record.baselineLogProbs);
      totals.tokens += record.thoughtTokens.length;
    }
    const figures = {
      reward: totals.reward / totals.rows,
      'tokens/s': (1000 * totals.tokens) / (performance.now() - start),
    };
    onProgress?.({ stage: 'rollout', done, total: documents.length, unit: 'documents', figures });
    signal?.throwIfAborted();
  }
  await writer.finish();
  for (const value of weights.values()) value.dispose();

  const seconds = (performance.now() - start) / 1000;
  return {
    out: config.out,
    rows: totals.rows,
    documents: documents.length - first,
    skipped,
    reward: totals.reward / totals.rows,
    reasonedCrossEntropy: totals.reasoned / totals.rows / config.horizon,
    noThinkCrossEntropy: totals.noThink / totals.rows / config.horizon,
    tokens: totals.tokens,
    tokensPerSecond: totals.tokens / seconds,
    seconds,
  };
}
