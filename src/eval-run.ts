import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointScorer } from './checkpoint-scorer.ts';
import { type ChoiceRow, choiceLogProbs } from './choice-log-probs.ts';
import type { EvalConfig } from './config.ts';
import { type BadRows, resumeInput } from './data/index.ts';
import { internal, RunError } from './errors.ts';
import {
  type Answered,
  type ChoiceTask,
  metricsOf,
  type Outcome,
  outcomeOf,
  resultsFile,
  sampleRows,
  TASKS,
} from './eval/index.ts';
import { answersPath, checkAnswers, KeptAnswers } from './eval-answers.ts';
import { AskedQuestions, readQuestions } from './eval-questions.ts';
import { type OpenModel, openModel } from './model-directory.ts';
import { checkOutputPath, withAtomicDirectory, withParents } from './output.ts';
import { packageVersion } from './package-version.ts';
import type { RunHooks } from './progress.ts';
import { RolloutEngine, type Thought, truncationFor } from './rollout/index.ts';
import { transfers } from './runtime/index.ts';
import { type MachineOptions, sessionOptionsOf } from './session-options.ts';

/** What a call of runEval found and wrote. */
export interface EvalSummary {
  out: string;
  task: string;
  questions: number;
  /** Rows left out because no question can be made of them, if there are any. */
  badRows?: BadRows;
  /** Answers, or thoughts before choices, per question. */
  samples: number;
  /** By lm-evaluation-harness's names: `exact_match,strict-match`, `acc`, ... */
  metrics: Record<string, number>;
  seconds: number;
  /** Bytes that crossed between the host and the device; left out on the CPU. */
  bytesToDevice?: number;
  bytesToHost?: number;
}

/** Kind of the output folder. */
const KIND = 'evaluation';

/**
 * Evaluates a model on a benchmark's questions, and writes results_DATE.json and samples_TASK_DATE.jsonl as
 * lm-evaluation-harness lays them out.
 * @throws UserError for bad input, before the model runs; RunError when it is interrupted: what was answered is kept
 */
export async function runEval(config: EvalConfig, hooks: RunHooks = {}): Promise<EvalSummary> {
  const output = { kind: KIND, overwrite: config.overwrite };
  const partial = answersPath(config.out);
  await checkOutputPath(config.out, output);
  await checkAnswers(partial, config.resume);
  const options = sessionOptionsOf(config, hooks);
  const task = TASKS[config.task];
  const { questions: all, badRows } = await readQuestions(task, config.data, config, hooks);
  const questions = all.slice(0, config.limit);
  const examples = config.shotsData && (await readQuestions(task, config.shotsData, config, hooks)).questions;
  const onCpu = options.device?.kind === 'cpu';
  const model = await openModel(config.model, {
    dtype: config.dtype,
    truncation: truncationFor(config, onCpu),
    forCpu: onCpu,
  });
  const asked = await AskedQuestions.open(task, model, config, questions, examples ?? []);
  for (const notice of asked.thoughts.notices) hooks.onNotice?.(notice);
  const modelHash = await model.hash();
  const evaluation = {
    ...{ settings: decisive(config), taskVersion: task.version, promptsHash: asked.hash, modelHash },
  };

  return await withParents(config.out, async () => {
    const before = transfers();
    const start = performance.now();
    await using kept = await KeptAnswers.open(partial, evaluation, config);
    await answerRest(asked, kept, config, model, options, hooks);
    const seconds = (performance.now() - start) / 1000;

    const outcomes = kept.answers.map((answered, i) =>
      outcomeOf(task, questions[i], asked.prompts[i], answered, config.thinkClose),
    );
    const metrics = metricsOf(outcomes);
    await writeResults(outcomes, metrics, asked, config, { rows: all.length, modelHash, seconds });
    await kept.remove();
    const now = transfers();
    const crossed = options.device?.kind !== 'cpu' && {
      bytesToDevice: now.toDevice - before.toDevice,
      bytesToHost: now.toHost - before.toHost,
    };
    const counts = { questions: questions.length, ...(badRows.count > 0 && { badRows }), samples: config.samples };
    return { out: config.out, task: task.name, ...counts, metrics, seconds, ...crossed };
  });
}

/** Settings for the results file: all but those of the call. */
function recorded({ out: _out, overwrite: _overwrite, resume: _resume, ...config }: EvalConfig) {
  return config;
}

/** Settings that answers depend on: not where things lie, which hashes stand for, nor on what machine. */
function decisive(config: EvalConfig): Record<string, unknown> {
  const { model: _model, data: _data, shotsData: _shotsData, onBadRows: _onBadRows, ...settings } = recorded(config);
  const {
    device: _device,
    threads: _threads,
    gpuMemoryLimit: _limit,
    gpuArena: _arena,
    cudaGraphs: _graphs,
    documentsPerBatch: _batch,
    ...rest
  } = settings;
  return rest;
}

async function writeResults(
  outcomes: readonly Outcome[],
  metrics: Readonly<Record<string, number>>,
  { task, generation }: AskedQuestions,
  config: EvalConfig,
  run: { rows: number; modelHash: string; seconds: number },
): Promise<void> {
  const rows = sampleRows(outcomes, generation);
  const date = new Date();
  const results = resultsFile(task, metrics, rows, {
    ...{ ...run, model: config.model, shots: config.shots, questions: outcomes.length, generation, date },
    ...{ version: packageVersion(), config: { ...recorded(config), random_seed: config.seed } },
  });
  const stamp = date.toISOString().replaceAll(':', '-').replace('Z', '');
  await withAtomicDirectory(
    config.out,
    async (folder) => {
      await writeFile(join(folder, `results_${stamp}.json`), `${JSON.stringify(results, null, 2)}\n`);
      const lines = rows.map((row) => `${JSON.stringify(row)}\n`);
      await writeFile(join(folder, `samples_${task.name}_${stamp}.jsonl`), lines.join(''));
    },
    { kind: KIND, overwrite: config.overwrite },
  );
}

/** Has the model answer the questions that have no answer yet. */
async function answerRest(
  asked: AskedQuestions,
  kept: KeptAnswers,
  config: EvalConfig,
  model: OpenModel,
  options: MachineOptions,
  hooks: RunHooks,
): Promise<void> {
  const total = asked.questions.length;
  const first = kept.answers.length;
  const count = { tokens: 0 };
  const start = performance.now();
  const report = () => {
    const figures = count.tokens > 0 && {
      figures: { 'tokens/s': (1000 * count.tokens) / (performance.now() - start) },
    };
    hooks.onProgress?.({ stage: 'eval', done: kept.answers.length, total, unit: 'questions', ...figures });
  };
  const stopIfInterrupted = () => {
    const done = kept.answers.length;
    if (!hooks.signal?.aborted || done === total) return;
    const where = done > 0 ? `; ${done} of ${total} questions are kept in ${kept.path}` : '';
    throw new RunError(`interrupted${where}; to go on: the same command with --resume${resumeInput(config.data)}`);
  };
  report();
  stopIfInterrupted();
  if (first === total) return;

  /** What the model samples behind the questions from `first` on. */
  async function* sample(): AsyncGenerator<Thought[]> {
    using engine = await RolloutEngine.create(model.rolloutGraphs, { ...options, externalDataFolder: model.directory });
    for await (const { thoughts } of engine.generate(asked.documents.slice(first), asked.thoughts.rolloutOptions(0))) {
      for (const { tokens, answer } of thoughts) count.tokens += tokens.length + (answer?.tokens.length ?? 0);
      yield thoughts;
    }
  }
  const { task } = asked;
  const answers =
    task.kind === 'generation'
      ? completions(asked, sample())
      : comparisons(task, asked, config, model, options, config.think ? sample() : undefined, first);
  for await (const batch of answers) {
    await kept.append(batch);
    report();
    stopIfInterrupted();
  }
  if (kept.answers.length < total) throw internal(`${total} questions, ${kept.answers.length} answered`);
}

async function* completions(asked: AskedQuestions, sampled: AsyncIterable<Thought[]>): AsyncGenerator<Answered[]> {
  for await (const samples of sampled) {
    const responses = samples.map(({ answer }) => asked.thoughts.answerText(answer?.tokens ?? []));
    yield [{ responses, ...asked.thoughtTexts(samples) }];
  }
}

/** Log-likelihoods of given continuations, behind thoughts if there are any. */
async function* comparisons(
  task: ChoiceTask,
  asked: AskedQuestions,
  { documentsPerBatch, samples }: EvalConfig,
  model: OpenModel,
  options: MachineOptions,
  sampled: AsyncGenerator<Thought[]> | undefined,
  first: number,
): AsyncGenerator<Answered[]> {
  const { questions } = asked;
  using scorer = await CheckpointScorer.create(model, options);
  try {
    for (let start = first; start < questions.length; start += documentsPerBatch) {
      const end = Math.min(questions.length, start + documentsPerBatch);
      const rows: ChoiceRow[] = [];
      const texts: Pick<Answered, 'thoughts'>[] = [];
      for (let i = start; i < end; i++) {
        const choices = task.choices(questions[i]);
        if (sampled === undefined) {
          rows.push(asked.behindPrompt(i, choices));
          continue;
        }
        const { value, done } = await sampled.next();
        if (done) throw internal(`${questions.length} questions, thoughts about ${i}`);
        rows.push(...asked.behindThoughts(i, choices, value));
        texts.push(asked.thoughtTexts(value));
      }
      const logProbs = await choiceLogProbs(rows, scorer, model.config.maxPositions);
      yield Array.from({ length: end - start }, (_, j) => ({
        responses: logProbs.slice(j * samples, (j + 1) * samples),
        ...texts[j],
      }));
    }
  } finally {
    await sampled?.return(undefined);
  }
}
