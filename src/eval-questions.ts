import { createHash } from 'node:crypto';
import { behindPrompt, type ChoiceRow } from './choice-log-probs.ts';
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
import { UserError } from './errors.ts';
import { type Answered, examplesFor, promptOf, type Question, type Task } from './eval/index.ts';
import type { OpenModel } from './model-directory.ts';
import type { RunHooks } from './progress.ts';
import type { RolloutDocument, Thought } from './rollout/index.ts';
import { ThoughtData } from './thought-data.ts';

/** All questions of the files, checked: a row of which the task cannot make a question is a bad row. */
export async function readQuestions(
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
  const { badRows, notices } = corpus;
  for (const notice of notices) onNotice?.(notice);
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

/** Questions as a model reads them. */
export class AskedQuestions {
  readonly task: Task;
  readonly questions: readonly Question[];
  readonly prompts: readonly string[];
  /** Prompts as tokens, to be answered behind the last. */
  readonly documents: readonly RolloutDocument[];
  /** How answers are sampled, by lm-evaluation-harness's names. */
  readonly generation: Readonly<Record<string, unknown>>;
  readonly thoughts: ThoughtData;
  readonly #think: boolean;

  private constructor(
    given: Pick<AskedQuestions, 'task' | 'questions' | 'prompts' | 'generation' | 'thoughts'>,
    config: EvalConfig,
    { maxPositions }: OpenModel['config'],
  ) {
    const { questions, prompts, thoughts } = given;
    this.task = given.task;
    this.questions = questions;
    this.prompts = prompts;
    this.generation = given.generation;
    this.thoughts = thoughts;
    this.#think = config.think;
    this.documents = prompts.map((prompt, i) => {
      const tokens = thoughts.tokenizer.encode(prompt);
      if (tokens.length > 0 && tokens.length <= thoughts.maxContextTokens) {
        // Random numbers are drawn by it: the same question, the same answers, wherever the file lies.
        return thoughts.placedAt({ id: `${config.task}/${i}`, tokens }, [tokens.length]);
      }
      const shots = config.shots > 0 ? 'fewer --shots, ' : '';
      throw new UserError(
        `${questions[i].place}: the question has ${tokens.length} tokens${config.shots > 0 ? ' with its examples' : ''}, and the model's ` +
          `${maxPositions} positions leave ${thoughts.maxContextTokens} beside an answer: ${shots}a smaller ` +
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
  ): Promise<AskedQuestions> {
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
    return new AskedQuestions({ task, questions, prompts, generation, thoughts }, config, model.config);
  }

  /** A question's choices behind its prompt. */
  behindPrompt(i: number, choices: readonly string[]): ChoiceRow {
    return behindPrompt(this.thoughts.tokenizer, this.prompts[i], choices);
  }

  /** A question's choices behind its prompt and each of its thoughts. */
  behindThoughts(i: number, choices: readonly string[], thoughts: readonly Thought[]): ChoiceRow[] {
    const { tokenizer, delimiters } = this.thoughts;
    const prompt = [...Array.from(this.documents[i].tokens), ...delimiters.open];
    const behind = choices.map((choice) => Array.from(tokenizer.encode(` ${choice}`)));
    return thoughts.map((thought) => ({ context: [...prompt, ...closed(thought)], choices: behind }));
  }

  /** What was thought, where a thought is opened. */
  thoughtTexts(thoughts: readonly Thought[]): Pick<Answered, 'thoughts'> {
    return this.#think ? { thoughts: thoughts.map((thought) => this.thoughts.decode(closed(thought))) } : {};
  }

  /** SHA-256 of all that the model reads. */
  get hash(): string {
    const choices = this.questions.map((question) => this.task.kind === 'choice' && this.task.choices(question));
    return createHash('sha256')
      .update(JSON.stringify([this.prompts, choices]))
      .digest('hex');
  }
}

/** Tokens of a thought with its closing delimiter. */
const closed = ({ tokens, answer }: Thought): number[] => [...tokens, ...(answer?.forced ?? [])];

async function chatTemplateOf(model: OpenModel, { chatTemplate }: EvalConfig): Promise<ChatTemplate | undefined> {
  if (chatTemplate === undefined) return undefined;
  const template = await loadChatTemplate(model.directory, chatTemplate === 'model' ? undefined : chatTemplate);
  if (template !== undefined) return template;
  throw new UserError(
    `--chat-template model: ${model.directory} has none (chat_template.jinja, or "chat_template" in tokenizer_config.json)`,
  );
}
