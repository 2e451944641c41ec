import { createHash } from 'node:crypto';
import { mean } from './metrics.ts';
import type { Question } from './question.ts';
import type { Task } from './task.ts';

/** A completion; for choices the log-likelihood of each, [choices], nats. */
export type Response = string | readonly number[];

/** What the model said to one question. */
export interface Answered {
  /** [samples] */
  responses: readonly Response[];
  /** What it thought before each, with the closing delimiter; left out where no thought was opened. */
  thoughts?: readonly string[];
}

/** Everything about one question: what was asked, what came back, what it is worth. */
export interface Outcome extends Answered {
  question: Question;
  /** What the model read. */
  prompt: string;
  /** Text of the right answer, or index of the right choice. */
  target: string | number;
  /** By filter (`none` for choices): what was read out of each response, and by metric whether that is right, 0 or 1. */
  filtered: Readonly<
    Record<string, { answers: readonly (string | number)[]; scores: Readonly<Record<string, readonly number[]>> }>
  >;
  /** Continuations that were compared; none where an answer was written. */
  choices?: readonly string[];
}

/** What answers nothing is shown as. */
export const NO_ANSWER = '[invalid]';

const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

/** One line of the samples file, by lm-evaluation-harness's names. */
export interface SampleRow {
  doc_id: number;
  doc: Readonly<Record<string, unknown>>;
  target: string | number;
  arguments: Record<string, Record<string, unknown>>;
  resps: unknown[];
  /** Ours: [samples]. */
  thoughts?: readonly string[];
  filtered_resps: unknown[];
  filter: string;
  metrics: string[];
  doc_hash: string;
  prompt_hash: string;
  target_hash: string;
  [metric: string]: unknown;
}

/** The lines of the samples file: a line a question and filter. */
export function sampleRows(outcomes: readonly Outcome[], generation: Readonly<Record<string, unknown>>): SampleRow[] {
  return outcomes.flatMap(({ question, prompt, target, responses, thoughts, filtered, choices }, doc_id) => {
    const args = choices?.map((choice) => ({ arg_0: prompt, arg_1: ` ${choice}` })) ?? [
      { arg_0: prompt, arg_1: generation },
    ];
    return Object.entries(filtered).map(([filter, { answers, scores }]) => ({
      ...{ doc_id, doc: question.values, target },
      arguments: Object.fromEntries(args.map((arg, i) => [`gen_args_${i}`, arg])),
      // A list a request: the samples of the one prompt, or of each choice.
      resps: choices?.map((_, c) => responses.map((own) => own[c])) ?? [responses],
      ...(thoughts && { thoughts }),
      ...{ filtered_resps: [...answers], filter, metrics: Object.keys(scores) },
      doc_hash: sha256(JSON.stringify(question.values, null, 2)),
      prompt_hash: sha256(prompt),
      target_hash: sha256(String(target)),
      // Of several samples, the mean.
      ...Object.fromEntries(Object.entries(scores).map(([metric, own]) => [metric, mean(own)])),
    }));
  });
}

/** What was asked, in one hash: the same questions in the same words with the same answers. */
export const taskHash = (rows: readonly SampleRow[]): string => {
  const [{ filter }] = rows;
  const once = rows.filter((row) => row.filter === filter);
  return sha256(once.map((row) => row.doc_hash + row.prompt_hash + row.target_hash).join(''));
};

/** The results file, by lm-evaluation-harness's names; `rlp_ort` is ours. */
export function resultsFile(
  task: Task,
  metrics: Readonly<Record<string, number>>,
  rows: readonly SampleRow[],
  run: {
    model: string;
    shots: number;
    /** Questions of the files, and how many of them were asked. */
    rows: number;
    questions: number;
    config: Readonly<Record<string, unknown>>;
    generation: Readonly<Record<string, unknown>>;
    date: Date;
    seconds: number;
    version: string;
    modelHash: string;
  },
): Record<string, unknown> {
  const { name, kind, version } = task;
  const higher = Object.keys(metrics)
    .filter((metric) => !/_(stderr|run_std)(,|$)/.test(metric))
    .map((metric) => [metric.split(',')[0], true]);
  return {
    results: { [name]: { alias: name, ...metrics } },
    group_subtasks: { [name]: [] },
    configs: {
      [name]: {
        ...{ task: name, num_fewshot: run.shots },
        output_type: kind === 'choice' ? 'multiple_choice' : 'generate_until',
        ...(kind === 'generation' && { generation_kwargs: run.generation }),
        metadata: { version },
      },
    },
    versions: { [name]: version },
    'n-shot': { [name]: run.shots },
    higher_is_better: { [name]: Object.fromEntries(higher) },
    'n-samples': { [name]: { original: run.rows, effective: run.questions } },
    config: { ...run.config, model: 'rlp-ort', model_args: `pretrained=${run.model}` },
    date: run.date.getTime() / 1000,
    task_hashes: { [name]: taskHash(rows) },
    model_source: 'rlp-ort',
    model_name: run.model,
    total_evaluation_time_seconds: String(run.seconds),
    rlp_ort: { version: run.version, model_hash: run.modelHash },
  };
}
