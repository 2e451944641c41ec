import { accuracyMetrics } from './metrics.ts';
import type { Question } from './question.ts';
import { type Answered, NO_ANSWER, type Outcome } from './results.ts';
import type { ChoiceTask, GenerationTask, Task } from './task.ts';

/** What the answers to a question are worth. */
export function outcomeOf(
  task: Task,
  question: Question,
  prompt: string,
  answered: Answered,
  thinkClose: string,
): Outcome {
  const { responses } = answered;
  const scored =
    task.kind === 'generation'
      ? ofCompletions(task, question, responses as readonly string[], thinkClose)
      : ofChoices(task, question, responses as readonly (readonly number[])[]);
  return { question, prompt, ...answered, ...scored };
}

type Scored = Pick<Outcome, 'target' | 'filtered' | 'choices'>;

/** Each filter reads the completions in its way. */
function ofCompletions(
  task: GenerationTask,
  question: Question,
  responses: readonly string[],
  thinkClose: string,
): Scored {
  const target = task.target(question);
  const filtered = task.filters.map(({ name, extract, matches }) => {
    const answers = responses.map((text) => extract(behindThought(text, thinkClose)));
    const scores = answers.map((answer) => Number(answer !== undefined && matches(answer, target)));
    return [name, { answers: answers.map((answer) => answer ?? NO_ANSWER), scores: { exact_match: scores } }] as const;
  });
  return { target, filtered: Object.fromEntries(filtered) };
}

/** A model may think without being made to: what it writes before the last closing delimiter is no answer. */
function behindThought(text: string, close: string): string {
  const end = text.lastIndexOf(close);
  return end < 0 ? text : text.slice(end + close.length);
}

const indexOfLargest = (values: readonly number[]): number => values.indexOf(Math.max(...values));

/** The likeliest choice, and the likeliest by character, as lm-evaluation-harness has it. */
function ofChoices(task: ChoiceTask, question: Question, responses: readonly (readonly number[])[]): Scored {
  const [choices, gold] = [task.choices(question), task.gold(question)];
  const best = responses.map(indexOfLargest);
  const normed = responses.map((own) => indexOfLargest(own.map((logProb, c) => logProb / choices[c].length)));
  const right = (chosen: readonly number[]) => chosen.map((choice) => Number(choice === gold));
  return {
    ...{ target: gold, choices },
    filtered: { none: { answers: best, scores: { acc: right(best), acc_norm: right(normed) } } },
  };
}

/** Metrics of all filters, named as lm-evaluation-harness names them: METRIC,FILTER. */
export function metricsOf(outcomes: readonly Outcome[]): Record<string, number> {
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
