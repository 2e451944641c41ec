import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { realpath } from 'node:fs/promises';
import { checkRolloutPath, partialPath, type RolloutFile, RolloutWriter, readRollouts } from './arrow.ts';
import { CheckpointScorer } from './checkpoint-scorer.ts';
import { type RecordedRun, type RescoreConfig, recordedRunSchema } from './config.ts';
import { RunError, UserError } from './errors.ts';
import { fileError } from './file-error.ts';
import { type OpenModel, openModel } from './model-directory.ts';
import { checkParent, withParents } from './output.ts';
import { type Asking, type PayRules, payGroups } from './pay.ts';
import type { RunHooks } from './progress.ts';
import type { RolloutRecord } from './records.ts';
import { completionRewards, paidBy, type ReadAgain, recordedVerifier } from './rescore-completions.ts';
import { RescoreData } from './rescore-data.ts';
import {
  completes,
  type Delimiters,
  type DocumentText,
  documentText,
  groupRows,
  type RowGroup,
  rescoredBaseline,
  rescoredThoughts,
  rewardInputs,
} from './rescore-rows.ts';
import { type CustomReward, type GivenRewards, loadRewardModule } from './reward/index.ts';
import type { RolloutDocument } from './rollout/index.ts';
import type { SessionOptions } from './runtime/index.ts';
import { sessionOptionsOf } from './session-options.ts';
import { checkSameTokenizer } from './thought-data.ts';

/** What a call of runRescore wrote. */
export interface RescoreSummary {
  out: string;
  /** The file whose thoughts were scored. */
  source: string;
  /** Thoughts written by this call; the means are over them, and left out if there were none. */
  rows: number;
  reward?: number;
  /** As the source has it. */
  rewardBefore?: number;
  /** Per target token; the second is left out without a baseline. */
  reasonedCrossEntropy?: number;
  noThinkCrossEntropy?: number;
  seconds: number;
}

/** Models that score in place of what the file says. */
interface Scorers extends Disposable {
  delimiters: Delimiters;
  thoughts: CheckpointScorer | undefined;
  baseline: CheckpointScorer;
}

/**
 * Scores the thoughts of a rollout file again, without sampling: their tokens and targets under another model, the targets under
 * another baseline, or with another reward. Writes a file of the same thoughts in the same batches; rewards and advantages are
 * made anew by the rules of the run that the file came from.
 * @throws UserError for bad input, before anything is written; RunError when it is interrupted
 */
export async function runRescore(config: RescoreConfig, hooks: RunHooks = {}): Promise<RescoreSummary> {
  // From what is quick to tell to what takes long, as runRollout does.
  await checkNotSource(config);
  await checkRolloutPath(config.out, config);
  await checkParent(config.out);
  const options = sessionOptionsOf(config, hooks);
  const source = await readRollouts(config.rescore);
  if (source.rows === 0) throw new UserError(`${config.rescore}: holds no thoughts`);
  const run = recordedRun(source);
  if (completes(run) && config.baselineModel !== undefined) {
    throw new UserError(
      `--baseline-model ${config.baselineModel}: ${config.rescore} comes from --objective ${run.objective}, which has no score without a ` +
        'thought; leave it out',
    );
  }
  const module = paidBy(run);
  if (module !== undefined && config.reward === undefined) {
    const own = completes(run) ? `the reward of --objective ${run.objective}` : 'the information gain';
    hooks.onNotice?.(
      `${config.rescore}: was paid by the reward module ${module}; what it is paid now is ${own}. To keep the module: --reward ${module}`,
    );
  }
  const custom = config.reward === undefined ? undefined : await loadRewardModule(config.reward);
  const models = await openModels(config);
  const data = models && (await RescoreData.open({ path: config.rescore, run }, models.any, config.data));
  const metadata = {
    ...source.metadata,
    config: { ...(source.metadata.config as object), rescored: await provenance(config, source, models, custom?.hash) },
  };
  const delimiters = run.withoutThought ? { open: [], close: [] } : data?.thoughts.delimiters;
  using scorers = models && delimiters && (await openScorers(options, models, delimiters));
  const verifier = data && completes(run) ? recordedVerifier(run, data) : undefined;

  return await withParents(config.out, async () => {
    await using writer = await RolloutWriter.open(config.out, metadata, { resume: config.resume });
    const totals = { rows: 0, reward: 0, rewardBefore: 0, targets: 0, reasoned: 0, noThinkTargets: 0, noThink: 0 };
    const start = performance.now();
    const report = () =>
      hooks.onProgress?.({
        ...{ stage: 'rescore', done: writer.rows, total: source.rows, unit: 'thoughts' },
        ...(totals.rows > 0 && { figures: { reward: totals.reward / totals.rows } }),
      });
    const stopIfInterrupted = () => {
      if (!hooks.signal?.aborted || writer.rows === source.rows) return;
      const kept = `; ${writer.rows} of ${source.rows} thoughts are kept in ${partialPath(config.out)}`;
      throw new RunError(`interrupted${writer.rows > 0 ? kept : ''}; to go on: the same command with --resume`);
    };
    report();
    stopIfInterrupted();
    const first = writer.batches; // those before are of an interrupted call
    let batch = 0;
    for await (const rows of source) {
      if (batch++ < first) continue;
      const documents = await data?.documentsOf(rows);
      const scored = scorers && documents ? await rescore(rows, documents, scorers, run) : rows;
      const textOf = documents && data && documentText(documents, data.thoughts.decode);
      const paid = completes(run)
        ? await payCompletionRows(
            scored,
            run,
            verifier && documents && textOf && { verifier, documents, textOf },
            custom,
          )
        : await payRows(scored, run, custom && { reward: custom, textOf });
      await writer.append(paid);
      const sum = (values: Float32Array) => values.reduce((a, b) => a + b, 0);
      for (const [i, { reward, reasonedLogProbs, baselineLogProbs }] of paid.entries()) {
        totals.rows++;
        totals.reward += reward;
        totals.rewardBefore += rows[i].reward;
        totals.targets += reasonedLogProbs.length;
        totals.reasoned -= sum(reasonedLogProbs);
        totals.noThinkTargets += baselineLogProbs.length;
        totals.noThink -= sum(baselineLogProbs);
      }
      report();
      stopIfInterrupted();
    }
    await writer.finish();
    return {
      ...{ out: config.out, source: config.rescore, rows: totals.rows },
      ...(totals.rows > 0 && {
        reward: totals.reward / totals.rows,
        rewardBefore: totals.rewardBefore / totals.rows,
        ...(totals.targets > 0 && { reasonedCrossEntropy: totals.reasoned / totals.targets }),
        ...(totals.noThinkTargets > 0 && { noThinkCrossEntropy: totals.noThink / totals.noThinkTargets }),
      }),
      seconds: (performance.now() - start) / 1000,
    };
  });
}

async function rescore(
  rows: readonly RolloutRecord[],
  documents: ReadonlyMap<string, RolloutDocument>,
  scorers: Scorers,
  run: RecordedRun,
): Promise<RolloutRecord[]> {
  const { thoughts, delimiters } = scorers;
  const scored = thoughts ? await rescoredThoughts(rows, documents, delimiters, thoughts) : [...rows];
  if (completes(run)) return scored;
  return await rescoredBaseline(scored, documents, run, scorers.baseline);
}

/** The rows with rewards and advantages by the rules of the run, or by a reward function under these rules. */
async function payRows(
  rows: readonly RolloutRecord[],
  run: RecordedRun,
  custom: { reward: CustomReward; textOf: DocumentText | undefined } | undefined,
): Promise<RolloutRecord[]> {
  const groups = groupRows(rows);
  const advantage = { group: run.compareWithin, scale: run.advantageScale, sign: run.rewardSign };
  const describe = (b: number) => rewardInputs(groups[b].rows, custom?.textOf);
  return paidRows(groups, { ...run, advantage }, custom && { reward: custom.reward, describe });
}

/** The same for completions, which are paid by the objective's own rule or by a reward function. */
async function payCompletionRows(
  rows: readonly RolloutRecord[],
  run: RecordedRun,
  read: ReadAgain | undefined,
  custom: CustomReward | undefined,
): Promise<RolloutRecord[]> {
  const groups = groupRows(rows);
  const given = await completionRewards(groups, run, read, custom);
  // As the objective compares them: with the mean of all, itself included.
  const advantage = { group: run.compareWithin, scale: run.advantageScale, leaveOneOut: false };
  return paidRows(groups, { ...run, advantage }, given);
}

async function paidRows(
  groups: readonly RowGroup[],
  rules: PayRules,
  source?: Asking | GivenRewards,
): Promise<RolloutRecord[]> {
  const { rewards, advantages } = await payGroups(
    groups.map(({ document, rows: [first], rows: thoughts }) => ({
      ...{ document, documentId: first.documentId, position: first.position, thoughts },
      baselineLogProbs: first.baselineLogProbs.length === 0 ? undefined : first.baselineLogProbs,
    })),
    rules,
    source,
  );
  return groups.flatMap(({ rows: thoughts }, b) =>
    thoughts.map((row, g) => ({ ...row, reward: rewards[b][g], advantage: advantages[b][g] })),
  );
}

interface OpenModels {
  thoughts: OpenModel | undefined;
  baseline: OpenModel;
  /** Whose tokenizer reads the data. */
  any: OpenModel;
}

/** Undefined where the scores stay as they are. */
async function openModels(config: RescoreConfig): Promise<OpenModels | undefined> {
  const thoughts = config.model === undefined ? undefined : await openModel(config.model);
  const other = config.baselineModel === undefined ? undefined : await openModel(config.baselineModel);
  if (thoughts !== undefined && other !== undefined) await checkSameTokenizer(thoughts, other);
  const baseline = other ?? thoughts;
  return baseline && { thoughts, baseline, any: thoughts ?? baseline };
}

async function openScorers(options: SessionOptions, models: OpenModels, delimiters: Delimiters): Promise<Scorers> {
  const thoughts = models.thoughts && (await CheckpointScorer.create(models.thoughts, options));
  const baseline =
    thoughts !== undefined && models.baseline === models.thoughts
      ? thoughts
      : await CheckpointScorer.create(models.baseline, options);
  return {
    ...{ delimiters, thoughts, baseline },
    [Symbol.dispose]() {
      if (thoughts !== undefined && thoughts !== baseline) thoughts[Symbol.dispose]();
      baseline[Symbol.dispose]();
    },
  };
}

/** The settings of the run that made the file. UserError where they are not those of a run that thinks. */
function recordedRun({ path, metadata }: RolloutFile): RecordedRun {
  const parsed = recordedRunSchema.safeParse(metadata.config);
  if (!parsed.success) {
    const [{ path: key, message }] = parsed.error.issues;
    throw new UserError(`${path}: the recorded setting ${key.join('.')} is not what rlp-ort writes (${message})`);
  }
  if (parsed.data.objective !== 'rlp' && !completes(parsed.data)) {
    throw new UserError(
      `${path}: comes from --objective ${parsed.data.objective}; only thoughts of rlp, rpt and grpo can be scored again`,
    );
  }
  return parsed.data;
}

/** What scored the thoughts again, for the metadata. */
async function provenance(
  { rescore: file, data, model, baselineModel, reward }: RescoreConfig,
  source: RolloutFile,
  models: OpenModels | undefined,
  rewardHash: string | undefined,
): Promise<object> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file)) hash.update(chunk);
  } catch (thrown) {
    throw fileError('cannot read', file, thrown);
  }
  const { rescored: before } = source.metadata.config as { rescored?: unknown };
  return {
    ...{ file, sha256: hash.digest('hex'), data },
    ...{ model, modelHash: await models?.thoughts?.hash() },
    ...{ baselineModel, baselineModelHash: baselineModel && (await models?.baseline.hash()) },
    ...{ reward, rewardHash, before },
  };
}

/** A resume would go on with FILE itself, were it OUT. */
async function checkNotSource({ rescore, out }: RescoreConfig): Promise<void> {
  const real = (path: string) => realpath(path).catch(() => undefined);
  const source = await real(rescore);
  for (const path of [out, partialPath(out)]) {
    if (source !== undefined && source === (await real(path))) {
      throw new UserError(`--out ${out}: is the file to score; choose another path`);
    }
  }
}
