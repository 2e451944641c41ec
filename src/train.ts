import { parseDevice, type TrainConfig } from './config.ts';
import { microBatches } from './micro-batches.ts';
import { openModel } from './model-directory.ts';
import { learningRateAt, TrainingSession } from './optim/index.ts';
import type { RunHooks } from './progress.ts';
import { RunFolder, readMetrics } from './run-folder.ts';
import { loadTrainingCheckpoint, saveTrainingCheckpoint } from './train-checkpoint.ts';
import { cptObjective } from './train-cpt.ts';
import { LossMetrics, StageTimes } from './train-metrics.ts';
import type { Objective, StepInput, TrainContext } from './train-objective.ts';
import { rlpObjective } from './train-rlp.ts';
import { buildTreeBatch } from './tree-batch.ts';

/** What a training run came to. */
export interface TrainSummary {
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

/** Padded tokens that go through the training graph at once. */
const MICRO_BATCH_TOKENS = 8192;

const OBJECTIVES: Record<TrainConfig['objective'], (context: TrainContext) => Promise<Objective>> = {
  rlp: rlpObjective,
  cpt: cptObjective,
};

/**
 * Continues the pretraining of a model: at every step the objective turns the next documents into a loss, its gradients
 * are accumulated over micro-batches, and AdamW applies them.
 *
 * A run continued with `resume` takes the steps it would have taken; on the CPU, bit for bit.
 * @throws UserError for bad input, before anything is written; Error when training diverges
 */
export async function train(config: TrainConfig, hooks: RunHooks = {}): Promise<TrainSummary> {
  const model = await openModel(config.model);
  const sessionOptions = { device: parseDevice(config.device), intraOpThreads: config.threads };
  using session = await TrainingSession.create(model.trainingArtifacts, await model.loadWeights(), sessionOptions);
  const context: TrainContext = { config, hooks, model, session, sessionOptions };
  const objective = await OBJECTIVES[config.objective](context);

  const { folder, step: done } = config.resume ? await resumeRun(context, objective) : await startRun(config);
  await using _folder = folder;
  let saved = done;
  let last: Record<string, number> = {};
  if (done === 0) await evaluate(0);
  for (let step = done + 1; step <= config.steps; step++) {
    if (hooks.signal?.aborted) {
      if (step - 1 > saved) await save(step - 1);
      hooks.signal.throwIfAborted();
    }
    last = await trainStep(context, objective, { step, folder, times: new StageTimes() });
    const { loss, reward } = last;
    const figures = { loss, ...(reward !== undefined && { reward }), 'tokens/s': last.num_tokens / last.step_time };
    hooks.onProgress?.({ stage: 'train', done: step, total: config.steps, unit: 'steps', figures });
    if (step === config.steps || step % config.evalEvery === 0) await evaluate(step);
    if (step === config.steps || (config.checkpointEvery > 0 && step % config.checkpointEvery === 0)) await save(step);
  }

  const evaluations = (await readMetrics(config.run)).filter((row) =>
    Object.keys(row).some((key) => key.startsWith('eval/')),
  );
  return {
    run: config.run,
    steps: saved,
    checkpoint: folder.checkpointPath(saved),
    last,
    ...(evaluations.length > 0 && { before: evaluations[0], after: evaluations.at(-1) }),
  };

  async function evaluate(step: number): Promise<void> {
    const figures = await objective.evaluate();
    if (figures !== undefined) await folder.appendMetrics({ step, ...figures });
  }

  async function save(step: number): Promise<void> {
    await saveTrainingCheckpoint({
      out: folder.checkpointPath(step),
      source: model.directory,
      dtype: model.dtype,
      session,
      state: objective.state(),
    });
    saved = step;
  }
}

/** One optimizer step; its figures are appended to metrics.jsonl. */
async function trainStep(
  context: TrainContext,
  objective: Objective,
  input: StepInput,
): Promise<Record<string, number>> {
  const { config, session } = context;
  const { step, times, folder } = input;
  const start = performance.now();
  const { documents, metrics } = await objective.prepare(input);

  const clip = { low: config.clipLow, high: config.clipHigh };
  const lossMetrics = new LossMetrics(clip);
  session.lazyResetGrad();
  let tokens = 0;
  await times.time('train', async () => {
    for (const microBatch of microBatches(documents, MICRO_BATCH_TOKENS)) {
      const batch = buildTreeBatch(microBatch);
      lossMetrics.add(batch, await session.runTrainStep(batch, clip));
      for (const { trunk, branches } of microBatch) {
        tokens += trunk.length + branches.reduce((sum, branch) => sum + branch.tokens.length, 0);
      }
    }
  });
  const learningRate = learningRateAt(
    {
      name: config.schedule,
      learningRate: config.learningRate,
      finalLearningRate: 0,
      warmupSteps: config.warmupSteps,
      totalSteps: config.steps,
    },
    step,
  );
  const { gradNorm, applied } = await times.time('optimizer', () =>
    session.runOptimizerStep({ ...config, learningRate, emaDecay: objective.emaDecay }),
  );
  if (!applied || !Number.isFinite(lossMetrics.loss)) {
    throw new Error(
      `step ${step}: loss ${lossMetrics.loss}, gradient norm ${gradNorm}: training has diverged; the step was not applied. ` +
        'Resume from the newest checkpoint with a lower --learning-rate in a new run, or look at the data of this step',
    );
  }
  objective.afterUpdate(applied);

  const figures: Record<string, number> = {
    ...metrics,
    ...lossMetrics.figures(),
    learning_rate: learningRate,
    grad_norm: gradNorm,
    num_tokens: tokens,
    step_time: (performance.now() - start) / 1000,
    ...times.figures(),
  };
  await folder.appendMetrics({ step, ...figures });
  return figures;
}

async function startRun(config: TrainConfig): Promise<{ folder: RunFolder; step: number }> {
  return { folder: await RunFolder.create(config), step: 0 };
}

async function resumeRun(
  { config, session }: TrainContext,
  objective: Objective,
): Promise<{ folder: RunFolder; step: number }> {
  const { folder, checkpoint } = await RunFolder.resume(config);
  if (checkpoint === undefined) return { folder, step: 0 };
  const { training, state } = await loadTrainingCheckpoint(checkpoint.path);
  session.loadState(training);
  objective.restore(state);
  return { folder, step: checkpoint.step };
}
