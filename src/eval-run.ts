import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CheckpointScorer } from './checkpoint-scorer.ts';
import { behindPrompt, type ChoiceRow, choiceLogProbs } from './choice-log-probs.ts';
import type { EvalConfig } from './config.ts';
import {
  type BadRows,
  badRowsNotice,
  type ChatTemplate,
  Corpus,
  loadChatTemplate,
  placeOf,
  type Row,
} from './data/index.ts';
import { RunError, UserError } from './errors.ts';
import {
  accuracyMetrics,
  type ChoiceTask,
  examplesFor,
  type GenerationTask,
  NO_ANSWER,
  type Outcome,
  promptOf,
  type Question,
  resultsFile,
  sampleRows,
  TASKS,
  type Task,
} from './eval/index.ts';
import { type OpenModel, openModel } from './model-directory.ts';
import { checkOutputPath, withAtomicDirectory } from './output.ts';
import { packageVersion } from './package-version.ts';
import type { RunHooks } from './progress.ts';
import { type RolloutDocument, RolloutEngine, type Thought, truncates } from './rollout/index.ts';
import { type SessionOptions, transfers } from './runtime/index.ts';
import { sessionOptionsOf } from './session-options.ts';
import { ThoughtData } from './thought-data.ts';

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
 * @throws UserError for bad input, before the model runs; RunError when it is interrupted
 */
export async function runEval(config: EvalConfig, hooks: RunHooks = {}): Promise<EvalSummary> {
  const output = { kind: KIND, overwrite: config.overwrite };
  await checkOutputPath(config.out, output);
  const options = sessionOptionsOf(config, hooks);
  const task = TASKS[config.task];
  const { questions: all, badRows } = await readQuestions(task, config.data, config, hooks);
  const questions = all.slice(0, config.limit);
  const examples = config.shotsData && (await readQuestions(task, config.shotsData, config, hooks)).questions;
  const model = await openModel(config.model, { dtype: config.dtype, truncation: truncates(config) });
  const asked = await Asked.open(task, model, config, questions, examples ?? []);

  const before = transfers();
  const start = performance.now();
  const evaluate =
    task.kind === 'generation' ? generate(task, asked, options, hooks) : compare(task, asked, options, hooks);
  const outcomes = await evaluate;
  const seconds = (performance.now() - start) / 1000;

  const metrics = metricsOf(outcomes);
  const rows = sampleRows(outcomes, asked.generation);
  const date = new Date();
  const results = resultsFile(task, metrics, rows, {
    ...{ model: config.model, shots: config.shots, generation: asked.generation },
    ...{ rows: all.length, questions: questions.length },
    ...{ date, seconds, version: packageVersion(), config: recorded(config) },
  });
  const stamp = date.toISOString().replaceAll(':', '-').replace('Z', '');
  await withAtomicDirectory(
    config.out,
    async (folder) => {
      await writeFile(join(folder, `results_${stamp}.json`), `${JSON.stringify(results, null, 2)}\n`);
      const lines = rows.map((row) => `${JSON.stringify(row)}\n`);
      await writeFile(join(folder, `samples_${task.name}_${stamp}.jsonl`), lines.join(''));
    },
    output,
  );
  const now = transfers();
  const crossed = options.device?.kind !== 'cpu' && {
    bytesToDevice: now.toDevice - before.toDevice,
    bytesToHost: now.toHost - before.toHost,
  };
  const counts = { questions: questions.length, ...(badRows.count > 0 && { badRows }), samples: config.samples };
  return { out: config.out, task: task.name, ...counts, metrics, seconds, ...crossed };
}

/** Settings for the results file: all but where it lies. */
function recorded({ out: _out, overwrite: _overwrite, ...config }: EvalConfig): Record<string, unknown> {
  return { ...config, random_seed: config.seed };
}

/** All questions of the files, checked: a row of which the task cannot make a question is a bad row. */
async function readQuestions(
  task: Task,
  files: readonly string[],
  { onBadRows }: Pick<EvalConfig, 'onBadRows'>,
  { onNotice }: RunHooks,
): Promise<{ questions: Question[]; badRows: BadRows }> {
  const corpus = await Corpus.open(files, {
    ...{ onBadRows, columns: { text: 'text', all: task.columns } },
    parse(row: Row) {
      const question: Question = { values: given(row.values), columns: row.columns, place: placeOf(row) };
      task.prompt(question);
      task.solution(question);
      if (task.kind === 'generation') task.target(question);
      return { id: question.place, source: { file: row.file, row: row.row }, question };
    },
  });
  const { badRows } = corpus;
  const notice = badRowsNotice(badRows);
  if (notice !== undefined) onNotice?.(notice);
  const questions: Question[] = [];
  for await (const { item } of corpus.read()) questions.push(item.question);
  return { questions, badRows };
}

/** Without what a table's row does not have. */
const given = (values: Readonly<Record<string, unknown>>): Record<string, unknown> =>
  Object.fromEntries(
    Object.entries(values)
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => [name, typeof value === 'bigint' ? Number(value) : value]),
  );

/** The questions as the model reads them. */
class Asked {
  readonly prompts: readonly string[];
  /** As tokens, to be answered behind the last. */
  readonly documents: readonly RolloutDocument[];
  /** How answers are sampled, for the results. */
  readonly generation: Readonly<Record<string, unknown>>;
  private constructor(
    readonly config: EvalConfig,
    readonly model: OpenModel,
    readonly thoughts: ThoughtData,
    readonly questions: readonly Question[],
    prompts: readonly string[],
    generation: Readonly<Record<string, unknown>>,
  ) {
    this.prompts = prompts;
    this.generation = generation;
    this.documents = prompts.map((prompt, i) => {
      const tokens = thoughts.tokenizer.encode(prompt);
      if (tokens.length > 0 && tokens.length <= thoughts.maxContextTokens) {
        // Random numbers are drawn by it: the same question, the same answers, wherever the file lies.
        return thoughts.placedAt({ id: `${config.task}/${i}`, tokens }, [tokens.length]);
      }
      const shots = config.shots > 0 ? 'fewer --shots, ' : '';
      throw new UserError(
        `${questions[i].place}: the question has ${tokens.length} tokens${config.shots > 0 ? ' with its examples' : ''}, and the model's ` +
          `${model.config.maxPositions} positions leave ${thoughts.maxContextTokens} beside an answer: ${shots}a smaller ` +
          '--max-thought-tokens or --max-completion-tokens',
      );
    });
  }

  /** @throws UserError for a question that is too long, or examples that are too few */
  static async open(
    task: Task,
    model: OpenModel,
    config: EvalConfig,
    questions: readonly Question[],
    examples: readonly Question[],
  ): Promise<Asked> {
    const stop = task.kind === 'generation' ? task.stop : [];
    // Before choices only a thought is sampled: what follows it is given.
    const maxTokens = task.kind === 'generation' ? (config.maxCompletionTokens ?? task.maxTokens) : 1;
    const thoughts = await ThoughtData.open(model, {
      ...config,
      ...{ groupSize: config.samples, positions: 1, positionStrategy: 'column', positionStride: 1, horizon: 1 },
      ...{ prompt: 'none', completion: { thought: config.think, maxTokens, stop } },
    });
    const template = await chatTemplateOf(model, config);
    const prompts = questions.map((question) => {
      const shown = examplesFor(task, question, examples, config.shots);
      if (shown.length < config.shots) {
        const group = task.group?.(question);
        const about = group ? ` about "${group}"` : '';
        throw new UserError(
          `--shots ${config.shots}: --shots-data has ${shown.length} examples${about}, for ${question.place}`,
        );
      }
      const prompt = promptOf(task, question, shown);
      return template?.prompt([{ role: 'user', content: prompt }], question.place) ?? prompt;
    });
    const { temperature, topK, topP, minP, maxThoughtTokens } = config;
    const generation = {
      ...{ until: stop, max_gen_toks: maxTokens, do_sample: temperature > 0, temperature },
      ...{ top_k: topK, top_p: topP, min_p: minP },
      ...(config.think && { think: true, max_thought_tokens: maxThoughtTokens }),
    };
    return new Asked(config, model, thoughts, questions, prompts, generation);
  }

  /** What the model samples behind every question, in their order. */
  async *sample(options: SessionOptions, hooks: RunHooks): AsyncGenerator<Thought[]> {
    const { config, model, thoughts, documents } = this;
    using engine = await RolloutEngine.create(model.rolloutGraphs, { ...options, externalDataFolder: model.directory });
    const start = performance.now();
    let done = 0;
    let tokens = 0;
    for await (const rollouts of engine.generate(documents, thoughts.rolloutOptions(0))) {
      yield rollouts.thoughts;
      tokens += rollouts.thoughts.reduce(
        (sum, { tokens: own, answer }) => sum + own.length + (answer?.tokens.length ?? 0),
        0,
      );
      report(hooks, ++done, documents.length, { 'tokens/s': (1000 * tokens) / (performance.now() - start) });
    }
    if (done < documents.length)
      throw new RunError(`${config.task}: ${done} of ${documents.length} questions came back`);
  }
}

async function chatTemplateOf(model: OpenModel, { chatTemplate }: EvalConfig): Promise<ChatTemplate | undefined> {
  if (chatTemplate === undefined) return undefined;
  const template = await loadChatTemplate(model.directory, chatTemplate === 'model' ? undefined : chatTemplate);
  if (template !== undefined) return template;
  throw new UserError(
    `--chat-template model: ${model.directory} has none (chat_template.jinja, or "chat_template" in tokenizer_config.json)`,
  );
}

function report(hooks: RunHooks, done: number, total: number, figures: Record<string, number>): void {
  hooks.onProgress?.({ stage: 'eval', done, total, unit: 'questions', figures });
  if (!hooks.signal?.aborted || done === total) return;
  throw new RunError(`interrupted after ${done} of ${total} questions; nothing was written, an evaluation starts over`);
}

/** The model writes answers; each filter reads them in its way. */
async function generate(
  task: GenerationTask,
  asked: Asked,
  options: SessionOptions,
  hooks: RunHooks,
): Promise<Outcome[]> {
  const { questions, prompts, thoughts, config } = asked;
  const outcomes: Outcome[] = [];
  for await (const samples of asked.sample(options, hooks)) {
    const i = outcomes.length;
    const target = task.target(questions[i]);
    const responses = samples.map(({ answer }) => thoughts.answerText(answer?.tokens ?? []));
    const filtered = task.filters.map(({ name, extract, matches }) => {
      const answers = responses.map((text) => extract(behindThought(text, config.thinkClose)));
      const scores = answers.map((answer) => Number(answer !== undefined && matches(answer, target)));
      return [
        name,
        { answers: answers.map((answer) => answer ?? NO_ANSWER), scores: { exact_match: scores } },
      ] as const;
    });
    outcomes.push({
      question: questions[i],
      prompt: prompts[i],
      target,
      responses,
      filtered: Object.fromEntries(filtered),
    });
  }
  return outcomes;
}

/** A model may think without being made to: what it writes before the last closing delimiter is no answer. */
function behindThought(text: string, close: string): string {
  const end = text.lastIndexOf(close);
  return end < 0 ? text : text.slice(end + close.length);
}

const indexOfLargest = (values: readonly number[]): number => values.indexOf(Math.max(...values));

/** The likelihoods of given continuations are compared, behind a thought if one is asked for. */
async function compare(task: ChoiceTask, asked: Asked, options: SessionOptions, hooks: RunHooks): Promise<Outcome[]> {
  const { questions, prompts, documents, thoughts, config, model } = asked;
  const contexts: number[][][] = []; // [questions][samples] tokens
  if (config.think) {
    for await (const samples of asked.sample(options, hooks)) {
      const { tokens } = documents[contexts.length];
      contexts.push(
        samples.map(({ tokens: thought, answer }) => [
          ...[...Array.from(tokens), ...thoughts.delimiters.open, ...thought],
          ...(answer?.forced ?? []),
        ]),
      );
    }
  }

  using scorer = await CheckpointScorer.create(model, options);
  const outcomes: Outcome[] = [];
  for (let start = 0; start < questions.length; start += config.documentsPerBatch) {
    const end = Math.min(questions.length, start + config.documentsPerBatch);
    const { tokenizer } = thoughts;
    const rows = questions.slice(start, end).flatMap((question, j): ChoiceRow[] => {
      const choices = task.choices(question);
      if (!config.think) return [behindPrompt(tokenizer, prompts[start + j], choices)];
      const behind = choices.map((choice) => Array.from(tokenizer.encode(` ${choice}`)));
      return contexts[start + j].map((context) => ({ context, choices: behind }));
    });
    const all = await choiceLogProbs(rows, scorer, model.config.maxPositions);
    let at = 0;
    for (let i = start; i < end; i++) {
      const responses = Array.from({ length: config.samples }, () => all[at++]);
      const [choices, gold] = [task.choices(questions[i]), task.gold(questions[i])];
      const best = responses.map(indexOfLargest);
      // By characters, as lm-evaluation-harness has it.
      const normed = responses.map((own) => indexOfLargest(own.map((logProb, c) => logProb / choices[c].length)));
      const right = (chosen: readonly number[]) => chosen.map((choice) => Number(choice === gold));
      outcomes.push({
        ...{ question: questions[i], prompt: prompts[i], target: gold, responses, choices },
        filtered: { none: { answers: best, scores: { acc: right(best), acc_norm: right(normed) } } },
      });
    }
    report(hooks, end, questions.length, {});
  }
  return outcomes;
}

/** Metrics of all filters, named as lm-evaluation-harness names them: METRIC,FILTER. */
function metricsOf(outcomes: readonly Outcome[]): Record<string, number> {
  const [{ filtered }] = outcomes;
  return Object.fromEntries(
    Object.entries(filtered).flatMap(([filter, { scores }]) =>
      Object.keys(scores).flatMap((metric, m) => {
        const all = outcomes.map((outcome) => outcome.filtered[filter].scores[metric]);
        // pass@k is that of the first metric.
        return Object.entries(accuracyMetrics(all, metric, { suffix: `,${filter}`, passes: m === 0 }));
      }),
    ),
  );
}
