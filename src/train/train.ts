import { writeBadRows } from '../bad-rows-file.ts';
import type { TrainConfig } from '../config.ts';
import { BadRows, badRowsNotice, resumeInput } from '../data/index.ts';
import { messageOf, RunError, UserError } from '../errors.ts';
import { packMicroBatches } from '../micro-batches.ts';
import { openModel } from '../model-directory.ts';
import { hostTensors, learningRateAt, minibatches } from '../optim/index.ts';
import type { RunHooks } from '../progress.ts';
import { truncationFor } from '../rollout/index.ts';
import {
  badRowsPath,
  checkIdle,
  checkNewRun,
  isEvaluation,
  type MetricsRow,
  newestCheckpoint,
  RunFolder,
  readMetrics,
} from '../run-folder.ts';
import { sessionOptionsOf } from '../session-options.ts';
import { buildTreeBatch, tokensOf } from '../tree-batch.ts';
import { loadTrainingCheckpoint, saveTrainingCheckpoint } from './checkpoint.ts';
import { openCpt } from './cpt.ts';
import { countsOf } from './data-metrics.ts';
import { type FailedStep, saveFailedStep } from './failed-step.ts';
import { openGrpo } from './grpo.ts';
import { KlReference, openReference } from './kl-reference.ts';
import { availableMemory, besideShapes, checkMemory, describeNeeds } from './memory-plan.ts';
import { LossMetrics, StageTimes, transferFigures } from './metrics.ts';
import { TrainingMonitor } from './monitor.ts';
import {
  type DataCounts,
  keepsEma,
  loraOf,
  type Objective,
  type OpenObjective,
  type StepInput,
  type TrainContext,
} from './objective.ts';
import { checkSameAdapters, createSession } from './open-session.ts';
import { openRlp } from './rlp.ts';
import { openRpt } from './rpt.ts';
import { PolicySampler } from './sampling.ts';
import { openSft } from './sft.ts';

/** What a checkpoint keeps beyond the session's state. */
interface RunState {
  /** Of the model that the run started from. */
  modelHash: string;
  dataHash: string;
  /** Of the reward module, where there is one. */
  rewardHash?: string;
  /** Of the model under --kl-reference, where there is one. */
  referenceHash?: string;
  objective: unknown;
}

/** What a training run came to. */
export interface TrainSummary extends Partial<DataCounts> {
  run: string;
  steps: number;
  /** Hugging Face directory of the trained model, with its graphs. */
  checkpoint: string;
  /** Figures of the last step taken. */
  last: Record<string, number>;
  /** Held-out figures of the run's first and last evaluation. */
  before?: Record<string, unknown>;
  after?: Record<string, unknown>;
}

const OBJECTIVES: Record<TrainConfig['objective'], OpenObjective> = {
  ...{ rlp: openRlp, rpt: openRpt, grpo: openGrpo, cpt: openCpt, sft: openSft },
};

/**
 * Continues the pretraining of a model: at every step the objective turns the next documents into a loss, its gradients
 * are accumulated over micro-batches, and AdamW applies them.
 *
 * A run continued with `resume` takes the steps it would have taken; on the CPU with the same number of threads, bit for bit.
 * @throws UserError for bad input, before anything is written; RunError when training diverges or is interrupted
 */
export async function train(config: TrainConfig, hooks: RunHooks = {}): Promise<TrainSummary> {
  // From what is quick to tell to what takes long: paths, headers, data, weights. Then the first file is written.
  await (config.resume ? checkIdle(config.run) : checkNewRun(config.run));
  const sessionOptions = sessionOptionsOf(config, hooks);
  const onCpu = sessionOptions.device?.kind === 'cpu';
  const lora = loraOf(config);
  const model = await openModel(config.model, {
    lora,
    recompute: config.recompute,
    dtype: config.dtype,
    truncation: truncationFor(config, onCpu),
    entropyTopK: config.proxyModel === undefined ? config.entropyTopK : 0,
    ema: keepsEma(config),
    weightDecayOn: config.weightDecayOn,
    forCpu: onCpu,
  });
  const beside = await besideShapes(config);
  checkMemory(model.config, config, availableMemory(), beside);
  const klReference = await openReference(config, model);
  const {
    dataHash,
    rewardHash,
    data,
    heldOut,
    notices = [],
    stepsPerEpoch,
    makeObjective,
  } = await OBJECTIVES[config.objective](config, model);
  const steps = config.steps ?? Math.ceil((config.epochs ?? 1) * (await stepsPerEpoch()));
  if (config.warmupSteps > steps) {
    throw new UserError(`--warmup-steps ${config.warmupSteps}: the run has ${steps} steps (--epochs ${config.epochs})`);
  }
  if (config.resume) await checkSteps(config.run, steps);
  const badRows = BadRows.of([data, heldOut].flatMap((opened) => opened?.badRows ?? []));
  for (const notice of [...notices, ...data.notices, ...(heldOut?.notices ?? [])]) hooks.onNotice?.(notice);
  const notice = badRowsNotice(badRows, badRowsPath(config.run));
  if (notice !== undefined) hooks.onNotice?.(notice);
  const modelHash = await model.hash();
  const referenceHash = config.klReference === 'start' ? undefined : await klReference?.hash();
  using session = await createSession(model, { lora, seed: config.seed }, sessionOptions);
  using policy = new PolicySampler(model, session, sessionOptions);
  using reference = new KlReference(klReference, session, sessionOptions, config);
  const files = { modelHash, dataHash, rewardHash, referenceHash };
  const context: TrainContext = { config, hooks, model, ...files, session, sessionOptions, policy, reference };
  const objective = makeObjective(context);
  using _objective = { [Symbol.dispose]: () => objective.dispose?.() };

  const { folder, step: done } = config.resume ? await resumeRun(context, objective) : await startRun(config);
  hooks.onNotice?.(describeNeeds(model.config, config, beside));
  await using _folder = folder;
  await writeBadRows(badRowsPath(config.run), badRows);
  await rotate(); // an earlier process may have been killed between a save and this
  let saved = done;
  const before = await readMetrics(config.run);
  const monitor = new TrainingMonitor(config);
  for (const row of before) monitor.observe(row);
  let tokens = tokensSoFar(before);
  let last: Record<string, number> = {};
  // What an interruption saves: a step that is not finished is taken again.
  let safe = { step: done, state: objective.state() };
  hooks.onProgress?.({ stage: 'train', done, total: steps, unit: 'steps' });
  try {
    // An interruption may have come between a step and its evaluation.
    if (!before.some((row) => row.step === done && isEvaluation(row))) await evaluate(done);
    for (let step = done + 1; step <= steps; step++) {
      const tokensBefore = tokens;
      last = await trainStep(context, objective, { step, steps, folder, times: new StageTimes() }, tokensBefore);
      tokens = { all: last.num_tokens, input: last.num_input_tokens };
      await record({ step, ...last });
      safe = { step, state: objective.state() };
      const { loss, reward } = last;
      const figures = {
        loss,
        ...(reward !== undefined && { reward }),
        'tokens/s': (tokens.all - tokensBefore.all) / last.step_time,
      };
      hooks.onProgress?.({ stage: 'train', done: step, total: steps, unit: 'steps', figures });
      await evaluate(step);
      if (step === steps || (config.checkpointEvery > 0 && step % config.checkpointEvery === 0)) await save();
    }
  } catch (thrown) {
    if (!hooks.signal?.aborted || thrown !== hooks.signal.reason) throw thrown;
    if (safe.step > saved) await save();
    const kept = safe.step > 0 ? `after step ${safe.step} of ${steps}, which is saved` : 'in the first step';
    const command = `rlp-ort train --run ${quoted(config.run)} --resume${resumeInput(config.data)}`;
    throw new RunError(`interrupted ${kept}; to go on: ${command}`, { cause: thrown });
  }

  const evaluations = (await readMetrics(config.run)).filter(isEvaluation);
  return {
    run: config.run,
    steps: saved,
    ...countsOf(data),
    checkpoint: folder.checkpointPath(saved),
    last,
    ...(evaluations.length > 0 && { before: evaluations[0], after: evaluations.at(-1) }),
  };

  async function evaluate(step: number): Promise<void> {
    if (step % config.evalEvery !== 0 && step !== steps) return;
    const figures = await objective.evaluate();
    if (figures !== undefined) await record({ step, ...figures });
  }

  /** Appends a row to metrics.jsonl, with the warnings that hold. */
  async function record(row: MetricsRow): Promise<void> {
    for (const { message } of monitor.observe(row)) hooks.onNotice?.(`warning: ${message}`);
    const { active } = monitor;
    await folder.appendMetrics({ ...row, ...(active.length > 0 && { warnings: active.join(' ') }) });
  }

  async function save(): Promise<void> {
    await saveTrainingCheckpoint({
      out: folder.checkpointPath(safe.step),
      source: model.directory,
      dtype: config.checkpointDtype === 'source' ? model.dtypes : config.checkpointDtype,
      session,
      ...(lora !== undefined && { lora }),
      state: {
        ...{ modelHash, dataHash, objective: safe.state },
        ...(rewardHash !== undefined && { rewardHash }),
        ...(referenceHash !== undefined && { referenceHash }),
      } satisfies RunState,
    });
    saved = safe.step;
    await rotate();
  }

  async function rotate(): Promise<void> {
    if (config.keepCheckpoints !== undefined) await folder.keepCheckpoints(config.keepCheckpoints);
  }
}

/**
 * One step: a batch of documents and the optimizer updates on it. Throws the signal's reason when it is aborted before the
 * first update, when nothing but the data's place has changed; an interruption behind it waits for the end of the step.
 * @returns its figures, for metrics.jsonl
 */
async function trainStep(
  context: TrainContext,
  objective: Objective,
  input: StepInput,
  tokensBefore: TokensSoFar,
): Promise<Record<string, number>> {
  const { config, hooks, session } = context;
  const { step, steps, times, folder } = input;
  const start = performance.now();
  const transferred = transferFigures(context.sessionOptions.device);
  hooks.signal?.throwIfAborted();
  const { documents, tokens, metrics } = await objective.prepare(input);

  const clip = { low: config.clipLow, high: config.clipHigh };
  const lossMetrics = new LossMetrics(clip);
  const learningRate = learningRateAt(
    {
      name: config.schedule,
      learningRate: config.learningRate,
      finalLearningRate: config.finalLearningRate,
      warmupSteps: config.warmupSteps,
      totalSteps: steps,
    },
    step,
  );
  const updates = minibatches(documents, {
    epochs: config.epochsPerStep,
    minibatches: config.minibatches,
    seed: config.seed,
    step,
  });
  const { emaDecay } = objective;
  let gradNorms = 0;
  let taken = 0;
  let distance: number | undefined;
  for (const [u, update] of updates.entries()) {
    const losses: number[] = [];
    const { lossScale } = session; // an overflow lowers it
    lossMetrics.startUpdate();
    session.lazyResetGrad();
    await times.time('train', async () => {
      for (const microBatch of packMicroBatches(update, config.microBatchTokens)) {
        if (u === 0) hooks.signal?.throwIfAborted();
        const batch = buildTreeBatch(microBatch);
        const result = await session.runTrainStep(batch, clip);
        lossMetrics.add(batch, result);
        losses.push(result.loss);
      }
    });
    const diverged = (figures: string) => {
      const single = updates.length === 1;
      const reason = single ? figures : `update ${u + 1} of ${updates.length}: ${figures}`;
      const consequence = single
        ? 'the step was not applied'
        : 'the update was not applied, and no checkpoint has any update of this step';
      const batches = packMicroBatches(update, config.microBatchTokens).map(buildTreeBatch);
      const weights = hostTensors(session.weights);
      const graphs = context.model.options;
      return divergence(folder, { step, reason, clip, graphs, lossScale, batches, losses, weights }, consequence);
    };
    // A gradient may be finite where the loss is not.
    if (!Number.isFinite(lossMetrics.loss)) throw await diverged(`loss ${lossMetrics.loss}`);
    const { gradNorm, emaDistance, applied, overflow } = await times.time('optimizer', () =>
      session.runOptimizerStep({ ...config, learningRate, emaDecay }),
    );
    if (!applied && !overflow) throw await diverged(`loss ${lossMetrics.loss}, gradient norm ${gradNorm}`);
    objective.afterUpdate(applied);
    if (applied) {
      gradNorms += gradNorm;
      distance = emaDistance;
      taken++;
    }
    times.count('train', tokensOf(update));
  }

  return {
    ...lossMetrics.figures(),
    ...metrics,
    learning_rate: learningRate,
    grad_norm: taken === 0 ? 0 : gradNorms / taken,
    ...(config.dtype === 'float16' && { loss_scale: session.lossScale, skipped_updates: updates.length - taken }),
    ...(distance !== undefined && { ema_distance: distance }),
    ...transferred(),
    num_tokens: tokensBefore.all + tokens.input + tokens.written,
    num_input_tokens: tokensBefore.input + tokens.input,
    step_time: (performance.now() - start) / 1000,
    ...times.figures(),
  };
}

/** Tokens of all steps of a run: with what was written, and of the data alone. */
interface TokensSoFar {
  all: number;
  input: number;
}

/** As the last step's row has them. */
function tokensSoFar(rows: readonly MetricsRow[]): TokensSoFar {
  const last = rows.findLast((row) => 'num_tokens' in row);
  return { all: Number(last?.num_tokens ?? 0), input: Number(last?.num_input_tokens ?? 0) };
}

/** A path as a shell takes it. */
const quoted = (path: string) => (/^[\w./~:@%+=,-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

/** Keeps what a step that is not finite was given, and says so. */
async function divergence(folder: RunFolder, failed: FailedStep, consequence: string): Promise<RunError> {
  const path = folder.failedStepPath(failed.step);
  const kept = await saveFailedStep(path, failed).then(
    () => `; its batch is kept in ${path}`,
    (thrown) => `; its batch could not be kept (${messageOf(thrown)})`,
  );
  return new RunError(
    `step ${failed.step}: ${failed.reason}: training has diverged; ${consequence}${kept}. Start a new run with a ` +
      'lower --learning-rate, from the model or from a checkpoint of this run',
  );
}

/** Refuses to resume a run that is already past its last step. */
async function checkSteps(run: string, steps: number): Promise<void> {
  const done = (await newestCheckpoint(run))?.step ?? 0;
  if (done > steps) throw new UserError(`run ${run}: has taken ${done} steps already, --steps ${steps} asks for fewer`);
}

async function startRun(config: TrainConfig): Promise<{ folder: RunFolder; step: number }> {
  return { folder: await RunFolder.create(config), step: 0 };
}

/** The checkpoint is read before the folder is changed: what cannot be resumed stays as it is. */
async function resumeRun(
  { config, hooks, modelHash, dataHash, rewardHash, referenceHash, session }: TrainContext,
  objective: Objective,
): Promise<{ folder: RunFolder; step: number }> {
  const { folder, checkpoint, notices } = await RunFolder.resume(config, async ({ path }) => {
    const { training, lora, state } = await loadTrainingCheckpoint(path);
    const saved = state as RunState; // written by train() above, and beside files guarded by their hashes
    if (saved.modelHash !== modelHash) {
      throw new UserError(
        `model ${config.model}: its weights or its config.json are not those that run ${config.run} was started with; ` +
          'put them back, or start a new run',
      );
    }
    if (saved.dataHash !== dataHash) {
      throw new UserError(
        `data ${config.data.join(', ')}: its text, or the tokenizer, is not that which run ${config.run} was started with; ` +
          'put it back, or start a new run',
      );
    }
    if (saved.rewardHash !== rewardHash) {
      throw new UserError(
        `reward module ${config.reward}: is not the one that run ${config.run} was started with; put it back, or start a new run`,
      );
    }
    checkSameAdapters(path, lora, loraOf(config));
    if (saved.referenceHash !== referenceHash) {
      throw new UserError(
        `--kl-reference ${config.klReference}: its weights or its config.json are not those that run ${config.run} was started ` +
          'with; put them back, or start a new run',
      );
    }
    session.loadState(training);
    objective.restore(saved.objective);
  });
  for (const message of notices) hooks.onNotice?.(message);
  return { folder, step: checkpoint?.step ?? 0 };
}
