import type { Question } from './question.ts';

interface TaskBase {
  name: string;
  /** Raised when prompts, extraction or metrics change, so that figures of two versions are not compared. */
  version: number;
  /** Columns that the task reads, under all their names. */
  columns: readonly string[];
  /** Text before the examples, or none. */
  description?(question: Question): string;
  /** What the model reads, up to the answer. */
  prompt(question: Question): string;
  /** How the prompt goes on in an example that is shown: no space before it. */
  solution(question: Question): string;
  /** Shows only examples that agree with the question in this, a subject say. */
  group?(question: Question): string;
}

/** A way to read the answer out of a completion, and to compare it. */
export interface Filter {
  /** As lm-evaluation-harness names it: metrics are called METRIC,FILTER. */
  name: string;
  /** Undefined: there is no answer. */
  extract(completion: string): string | undefined;
  matches(answer: string, target: string): boolean;
}

/** The model writes an answer, and it is right or not. */
export interface GenerationTask extends TaskBase {
  kind: 'generation';
  /** @throws UserError if the row has no answer */
  target(question: Question): string;
  /** Texts at which an answer ends. */
  stop: readonly string[];
  /** Tokens of an answer, where nothing else is asked for. */
  maxTokens: number;
  filters: readonly Filter[];
}

/** The model's log-likelihoods of given continuations are compared. */
export interface ChoiceTask extends TaskBase {
  kind: 'choice';
  /** Continuations, each behind a space. */
  choices(question: Question): string[];
  /** Index of the right one. */
  gold(question: Question): number;
}

export type Task = GenerationTask | ChoiceTask;

/**
 * A question behind the examples that are shown for it, as lm-evaluation-harness puts them together: examples end in their
 * solution, behind a space, and a blank line.
 */
export function promptOf(task: Task, question: Question, examples: readonly Question[]): string {
  const shown = examples.map((example) => `${task.prompt(example)} ${task.solution(example)}\n\n`);
  return `${task.description?.(question) ?? ''}${shown.join('')}${task.prompt(question)}`;
}

/** The first `count` examples that go with a question. */
export function examplesFor(task: Task, question: Question, examples: readonly Question[], count: number): Question[] {
  const { group } = task;
  const fitting = group === undefined ? examples : examples.filter((other) => group(other) === group(question));
  return fitting.slice(0, count);
}
