import { checkRolloutPath, partialPath, RolloutWriter } from './arrow.ts';
import { writeBadRows } from './bad-rows-file.ts';
import { CheckpointScorer } from './checkpoint-scorer.ts';
import { NO_BFLOAT16, type RolloutConfig, rolloutSchema } from './config.ts';
import { recordedSettings } from './config-resolve.ts';
import { type BadRows, badRowsNotice, resumeInput, type TokenizedDocument } from './data/index.ts';
import { RunError, UserError } from './errors.ts';
import { openModel } from './model-directory.ts';
import { checkParent, withParents } from './output.ts';
import type { RunHooks } from './progress.ts';
import { Baseline, type CustomReward, loadRewardModule } from './reward/index.ts';
import { type DocumentRollouts, RolloutEngine, type StepProgress, truncationFor } from './rollout/index.ts';
import { transfers } from './runtime/index.ts';
import { sessionOptionsOf } from './session-options.ts';
import { payThoughts, toRecords } from './thinking.ts';
import { checkSameTokenizer, ThoughtData } from './thought-data.ts';

/** What a call of runRollout wrote. */
export interface RolloutSummary {
  out: string;
  /** Thoughts written by this call. */
  rows: number;
  documents: number;
  /** Documents too short to think about. */
  skipped: number;
  /** Documents cut to what the model's positions hold beside a thought. */
  truncated: number;
  /** Rows left out because they cannot be read, if there are any. */
  badRows?: BadRows;
  /** Means over this call's thoughts; left out if there were none. */
  reward?: number;
  reasonedCrossEntropy?: number;
  noThinkCrossEntropy?: number;
  /** Sampled tokens, and how many a second, scoring included. */
  tokens: number;
  tokensPerSecond: number;
  seconds: number;
  /** Bytes that crossed between the host and the device; left out on the CPU. */
  bytesToDevice?: number;
  bytesToHost?: number;
}

/**
 * Thinks before positions of documents and writes one row a thought. The no-think score is that of the same weights, unless
 * `baselineModel` names others.
 * @throws UserError for bad input, before anything is written; RunError when it is interrupted
 */
export async function runRollout(config: RolloutConfig, hooks: RunHooks = {}): Promise<RolloutSummary> {
  // From what is quick to tell to what takes long: paths, headers, data, weights. Then the first byte is written.
  await checkRolloutPath(config.out, config);
  await checkParent(config.out);
  if (config.dtype === 'bfloat16' && !config.device.startsWith('cuda')) throw new UserError(`--dtype: ${NO_BFLOAT16}`);
  const options = sessionOptionsOf(config, hooks);
  const before = transfers();
  const custom = config.reward === undefined ? undefined : await loadRewardModule(config.reward);
  const { dtype, entropyTopK } = config;
  const onCpu = options.device?.kind === 'cpu';
  const model = await openModel(config.model, {
    ...{ dtype, entropyTopK, truncation: truncationFor(config, onCpu) },
    forCpu: onCpu,
  });
  const data = await ThoughtData.open(model, config);
  const baselineModel =
    config.baselineModel === undefined ? undefined : await openModel(config.baselineModel, { dtype, entropyTopK });
  if (baselineModel !== undefined) await checkSameTokenizer(model, baselineModel);
  const source = await data.documents(config.data);
  for (const notice of [...data.notices, ...source.notices]) hooks.onNotice?.(notice);
  const badRowsPath = `${config.out}.bad-rows.jsonl`;
  const notice = badRowsNotice(source.badRows, badRowsPath);
  if (notice !== undefined) hooks.onNotice?.(notice);
  // That none is of use shows here, before the work.
  await source.documents().documents.next();
  // Of a file that may be continued: not where it lies, nor on what machine it was made.
  const {
    device: _device,
    threads: _threads,
    gpuMemoryLimit: _limit,
    gpuArena: _arena,
    cudaGraphs: _graphs,
    out: _out,
    ...recorded
  } = config;
  const settings = {
    ...recordedSettings(rolloutSchema, recorded),
    ...{ dataHash: source.hash, textHash: source.textHash, tokenizerHash: source.tokenizerHash },
    rewardHash: custom?.hash,
    baselineModelHash: await baselineModel?.hash(),
  };
  const metadata = { config: settings, modelHash: await model.hash() };

  await model.checkFinite();
  await baselineModel?.checkFinite();
  // What the weights that think score themselves needs no second copy of them; other baselines, prompts that the baseline does
  // not see and positions that depend on the text do.
  using scorer = CheckpointScorer.onDemand(baselineModel ?? model, options);
  const baseline = new Baseline({ kind: 'frozen' }, scorer);
  using engine = await RolloutEngine.create(model.rolloutGraphs, { ...options, externalDataFolder: model.directory });
  return await withParents(config.out, async () => {
    await using writer = await RolloutWriter.open(config.out, metadata, { resume: config.resume });
    await writeBadRows(badRowsPath, source.badRows);
    // A batch of the file is a batch of documents, so what is there says where to go on.
    const first = writer.batches * config.documentsPerBatch;
    const { documents, tokenizing } = source.documents();
    const told = tellOfTruncation(documents, tokenizing, (id) => hooks.onNotice?.(data.truncationNotice(id)));
    const placed = data.place(skip(told, first), config.step, scorer.positionScores);
    // The weights that think read the text anyway: as their own baseline they need no pass of their own.
    const noThink = baselineModel === undefined;
    const sampling = { ...data.rolloutOptions(config.step), noThink };
    const rollouts = (onStep: (step: StepProgress) => void) => engine.generate(placed, { ...sampling, onStep });
    // Of the documents, those too short to think about are found as they come up.
    const total = () => source.size - tokenizing.skipped;
    const { written, ...totals } = await writeRollouts({
      ...{ config, hooks, writer, data, baseline, custom, total, first, rollouts },
    });
    await writer.finish();
    const { skipped, truncated } = tokenizing;
    const bad = source.badRows.count > 0 && { badRows: source.badRows };
    const now = transfers();
    const crossed = options.device?.kind !== 'cpu' && {
      bytesToDevice: now.toDevice - before.toDevice,
      bytesToHost: now.toHost - before.toHost,
    };
    return { out: config.out, documents: written, skipped, truncated, ...bad, ...totals, ...crossed };
  });
}

/** Tells of the first document that is cut; how many are is known at the end. */
async function* tellOfTruncation(
  documents: AsyncIterable<TokenizedDocument>,
  tokenizing: { truncated: number },
  tell: (id: string) => void,
): AsyncGenerator<TokenizedDocument> {
  let told = false;
  for await (const document of documents) {
    if (!told && tokenizing.truncated > 0) tell(document.id);
    told = tokenizing.truncated > 0;
    yield document;
  }
}

async function* skip<T>(items: AsyncIterable<T>, count: number): AsyncGenerator<T> {
  let passed = 0;
  for await (const item of items) if (passed++ >= count) yield item;
}

interface WriteInput {
  config: RolloutConfig;
  hooks: RunHooks;
  writer: RolloutWriter;
  data: ThoughtData;
  baseline: Baseline;
  custom: CustomReward | undefined;
  /** Documents in all, as far as it is known; the first `first` are in the file. */
  total: () => number;
  first: number;
  /** Of the others, in their order. */
  rollouts: (onStep: (step: StepProgress) => void) => AsyncIterable<DocumentRollouts>;
}

/** Pays the thoughts and appends them batch by batch. */
async function writeRollouts(
  input: WriteInput,
): Promise<{ written: number } & Omit<RolloutSummary, 'out' | 'documents' | 'skipped' | 'truncated'>> {
  const { config, hooks, writer, data, baseline, custom, total, first } = input;
  const start = performance.now();
  const totals = { rows: 0, reward: 0, reasoned: 0, noThink: 0, tokens: 0 };
  const batch: DocumentRollouts[] = [];
  let done = Math.min(first, total());
  const before = done;
  let thought = 0; // documents, in parts
  let kept = done;
  const report = () => {
    const figures = {
      ...(totals.rows > 0 && { reward: totals.reward / totals.rows }),
      ...(totals.tokens > 0 && { 'tokens/s': (1000 * totals.tokens) / (performance.now() - start) }),
    };
    const inFlight = Math.max(0, thought - (done - before));
    hooks.onProgress?.({ stage: 'rollout', done, total: total(), inFlight, unit: 'documents', figures });
  };
  const writeBatch = async () => {
    const { decode } = data;
    const versions = { step: config.step, policyVersion: 0, baselineVersion: baseline.version };
    const pay = custom && { reward: custom, decode, versions };
    const { groups } = await payThoughts(batch.splice(0), baseline, config, pay);
    const records = toRecords(groups, decode, versions);
    await writer.append(records);
    kept = done;
    const sum = (values: Float32Array) => values.reduce((a, b) => a + b, 0);
    for (const record of records) {
      totals.rows++;
      totals.reward += record.reward;
      totals.reasoned -= sum(record.reasonedLogProbs);
      totals.noThink -= sum(record.baselineLogProbs);
    }
  };
  report();
  // An interruption finishes the batch, so that its thoughts are kept: what is not in the file is thought again.
  const stopIfInterrupted = () => {
    if (!hooks.signal?.aborted || kept === total()) return;
    const where = kept > 0 ? `; ${kept} of ${total()} documents are kept in ${partialPath(config.out)}` : '';
    throw new RunError(`interrupted${where}; to go on: the same command with --resume${resumeInput(config.data)}`);
  };
  stopIfInterrupted();
  const onStep = ({ sampled, documents }: StepProgress) => {
    totals.tokens += sampled;
    thought += documents;
    report();
  };
  for await (const rollouts of input.rollouts(onStep)) {
    batch.push(rollouts);
    done++;
    if (batch.length < config.documentsPerBatch) {
      report();
      continue;
    }
    await writeBatch();
    report();
    stopIfInterrupted();
  }
  if (batch.length > 0) {
    await writeBatch();
    report();
  }
  const seconds = (performance.now() - start) / 1000;
  return {
    written: done - before,
    rows: totals.rows,
    ...(totals.rows > 0 && {
      reward: totals.reward / totals.rows,
      reasonedCrossEntropy: totals.reasoned / totals.rows / config.horizon,
      noThinkCrossEntropy: totals.noThink / totals.rows / config.horizon,
    }),
    tokens: totals.tokens,
    tokensPerSecond: totals.tokens / seconds,
    seconds,
  };
}
