import { expect, test } from 'vitest';
import { CheckpointScorer } from '../../src/checkpoint-scorer.ts';
import { behindPrompt, choiceLogProbs } from '../../src/choice-log-probs.ts';
import { evalOptionsSchema } from '../../src/config.ts';
import { loadTokenizer } from '../../src/data/index.ts';
import { examplesFor, NO_ANSWER, outcomeOf, promptOf, type Question, TASKS, type Task } from '../../src/eval/index.ts';
import { openModel } from '../../src/model-directory.ts';
import { readGoldenJson } from '../golden/golden.ts';

interface Golden {
  rows: Record<string, Record<string, unknown>>;
  prompts: Record<string, string>;
  contexts: Record<string, { rows: Record<string, unknown>[]; context: string }>;
  choice_scores: {
    row: Record<string, unknown>;
    scores: { log_likelihoods: number[]; metrics: Record<'acc' | 'acc_norm', number> }[];
  };
  completions: Record<string, { texts: string[]; filters: Record<string, { answers: string[]; scores: number[] }> }>;
  likelihoods: { context: string; continuation: string; log_likelihood: number }[];
}

/** What lm-evaluation-harness makes of the same rows and texts. */
const golden = readGoldenJson<Golden>('eval/lm-eval');
const rowOf = (values: Record<string, unknown>): Question => ({ values, columns: Object.keys(values), place: 'a:1' });

test('every task that --task names is there, under its name', () => {
  expect(Object.keys(TASKS).sort()).toEqual([...evalOptionsSchema.shape.task.options].sort());
  for (const [name, task] of Object.entries(TASKS)) expect(task.name).toBe(name);
});

test.each(['gsm8k', 'aime', 'mmlu', 'mmlu-pro'])('%s: the prompt is that of lm-evaluation-harness', (name) => {
  expect(TASKS[name].prompt(rowOf(golden.rows[name]))).toBe(golden.prompts[name]);
});

test.each(Object.entries(golden.contexts))(
  '%s: behind its examples, too, description and all',
  (name, { rows, context }) => {
    const questions = rows.map(rowOf);
    const [last] = questions.slice(-1);
    expect(promptOf(TASKS[name], last, questions.slice(0, -1))).toBe(context);
  },
);

test('choices are scored as lm-evaluation-harness scores them, by text and by character', () => {
  const { row, scores } = golden.choice_scores;
  for (const { log_likelihoods, metrics } of scores) {
    const { filtered } = outcomeOf(TASKS['arc-easy'], rowOf(row), '', { responses: [log_likelihoods] }, '</think>');
    expect(filtered.none.scores).toEqual({ acc: [metrics.acc], acc_norm: [metrics.acc_norm] });
  }
});

test('gpqa: the prompt is that of lm-evaluation-harness but for the order, which is always the same', () => {
  const task = TASKS.gpqa;
  const row = rowOf(golden.rows.gpqa);
  const choices = (prompt: string) => prompt.split('\n').filter((line) => /^\([A-D]\)/.test(line));
  const texts = (prompt: string) => choices(prompt).map((line) => line.slice(4));
  const prompt = task.prompt(row);
  expect(texts(prompt).sort()).toEqual(texts(golden.prompts.gpqa).sort());
  expect(prompt.replaceAll(/^\([A-D]\).*\n/gm, '')).toBe(golden.prompts.gpqa.replaceAll(/^\([A-D]\).*\n/gm, ''));
  expect(task.prompt(row)).toBe(prompt);
  if (task.kind !== 'choice') throw new Error('gpqa compares choices');
  expect(texts(prompt)[task.gold(row)]).toBe('Iron. Fe');
  // Over many questions the right answer stands everywhere.
  const places = Array.from({ length: 200 }, (_, i) => task.gold(rowOf({ ...golden.rows.gpqa, Question: String(i) })));
  for (const place of [0, 1, 2, 3]) expect(places.filter((p) => p === place).length).toBeGreaterThan(25);
});

test.each(['gsm8k', 'mmlu-pro'])('%s: answers and scores are those of lm-evaluation-harness', (name) => {
  const task = TASKS[name];
  if (task.kind !== 'generation') throw new Error(`${name} is written`);
  const { texts, filters } = golden.completions[name];
  expect(task.filters.map((filter) => filter.name)).toEqual(Object.keys(filters));
  const target = task.target(rowOf(golden.rows[name]));
  for (const { name: filter, extract, matches } of task.filters) {
    const answers = texts.map(extract);
    expect(answers.map((answer) => answer ?? NO_ANSWER)).toEqual(filters[filter].answers);
    const scores = answers.map((answer) => Number(answer !== undefined && matches(answer, target)));
    expect(scores).toEqual(filters[filter].scores);
  }
});

test('the likelihoods of choices are those of lm-evaluation-harness with transformers', async () => {
  const directory = 'models/tiny-qwen3';
  const [model, tokenizer] = [await openModel(directory), await loadTokenizer(directory)];
  using scorer = await CheckpointScorer.create(model, { intraOpThreads: 1 });
  // Choices of one context together, as they are asked.
  const contexts = [...new Set(golden.likelihoods.map(({ context }) => context))];
  const grouped = contexts.map((context) => golden.likelihoods.filter((one) => one.context === context));
  const rows = grouped.map((own) =>
    behindPrompt(
      tokenizer,
      own[0].context,
      own.map((one) => one.continuation.slice(1)),
    ),
  );
  const found = (await choiceLogProbs(rows, scorer, model.config.maxPositions)).flat();
  const expected = grouped.flat().map((one) => one.log_likelihood);
  for (const [i, value] of found.entries()) expect(value).toBeCloseTo(expected[i], 3);
});

test('a row longer than the positions is refused', async () => {
  const scorer = { rowLogProbs: () => Promise.reject(new Error('not asked')) };
  await expect(choiceLogProbs([{ context: [1, 2, 3], choices: [[4], [5, 6]] }], scorer, 4)).rejects.toThrow(
    'a question with its choices has 5 tokens, the model has 4 positions',
  );
});

const math = (values: Record<string, unknown>): string => {
  const task = TASKS['math-500'];
  if (task.kind !== 'generation') throw new Error('math is written');
  return task.target(rowOf(values));
};

test('the columns of the benchmarks go by all their names', () => {
  expect(math({ problem: 'p', solution: 'so \\boxed{3}', answer: '3' })).toBe('3');
  expect(math({ problem: 'p', solution: 'so \\boxed{\\frac12}' })).toBe('\\frac12');
  expect(math({ Problem: 'p', Answer: 204 })).toBe('204'); // AIME 2024
  expect(() => math({ problem: 'p', solution: 'no box' })).toThrow(
    'a:1: the solution has no \\boxed{...}, and there is no column "answer"',
  );
});

// Hand-made: what is one answer, and what is not.
test.each<[completion: string, target: string, score: number, equivalent?: number]>([
  [' so \\boxed{\\dfrac{1}{2}}', '\\frac12', 1],
  [' The final answer is $\\frac{1}{2}$. I hope it is correct.', '\\frac{1}{2}', 1],
  [' The answer is 1,000.', '1000', 1],
  [' \\boxed{90^\\circ}', '90', 1],
  [' \\boxed{\\text{even}}', 'even', 1],
  [' \\boxed{\\left( 1, 2 \\right)}', '(1,2)', 1],
  [' first \\boxed{1}, no, \\boxed{2}', '2', 1],
  [' 3 and 4 make 7', '7', 1],
  [' \\boxed{0.5}', '\\frac12', 0, 1], // calculated by `equivalent` alone
  [' \\boxed{(x+1)^2}', 'x^2+2x+1', 0, 1],
  [' \\boxed{8}', '7', 0],
  [' none', '7', 0],
])('mathematics: %s against %s', (completion, target, score, equivalent = score) => {
  const task = TASKS['math-500'];
  if (task.kind !== 'generation') throw new Error('math is written');
  const scores = task.filters.map(({ name, extract, matches }) => {
    const answer = extract(completion);
    return [name, Number(answer !== undefined && matches(answer, target))];
  });
  expect(Object.fromEntries(scores)).toEqual({ extracted: score, equivalent });
});

test('examples stand before the question, in their order, of its subject', () => {
  const task: Task = TASKS.mmlu;
  const row = (question: string, subject: string) => rowOf({ question, choices: ['x', 'y'], answer: 'B', subject });
  const examples = [row('a?', 'high_school_physics'), row('b?', 'law'), row('c?', 'law'), row('d?', 'law')];
  const question = row('q?', 'law');
  const shown = examplesFor(task, question, examples, 2);
  expect(promptOf(task, question, shown)).toBe(
    'The following are multiple choice questions (with answers) about law.\n\n' +
      'b?\nA. x\nB. y\nAnswer: B\n\n' +
      'c?\nA. x\nB. y\nAnswer: B\n\n' +
      'q?\nA. x\nB. y\nAnswer:',
  );
});

test('what a row lacks is named, with what it has', () => {
  const { gsm8k, mmlu } = TASKS;
  expect(() => gsm8k.prompt(rowOf({ Quesion: 'x', answer: '1' }))).toThrow(
    'a:1: expected a column "question" or "Question" or "problem" or "Problem" or "input" with a value, found "Quesion", "answer"; ' +
      'is it "Quesion"?',
  );
  const question = { question: 'q', choices: ['x', 'y'], answer: 4 };
  expect(() => mmlu.solution(rowOf(question))).toThrow(
    'a:1: "answer" must be one of the 2 choices, as a number from 0 or a letter from A, found 4',
  );
  expect(() => mmlu.prompt(rowOf({ ...question, choices: 'x' }))).toThrow(
    'a:1: "choices" must be a list of at least two texts, found "x"',
  );
  if (gsm8k.kind !== 'generation') throw new Error('gsm8k is written');
  const { target } = gsm8k;
  expect(() => target(rowOf({ question: 'q', answer: 'four' }))).toThrow(
    'a:1: the answer has no "#### NUMBER" at its end, and is no number itself',
  );
});

test('arc: choices come as lists or as objects; what is neither is refused', () => {
  const task = TASKS['arc-challenge'];
  if (task.kind !== 'choice') throw new Error('arc compares choices');
  const lists = rowOf({ question: 'q', choices: { text: ['x', 'y'], label: ['1', '2'] }, answerKey: '2' });
  const list = [1, 2].map((label) => ({ text: label === 1 ? 'x' : 'y', label }));
  const objects = rowOf({ question: 'q', choices: list, answerKey: 2 });
  for (const row of [lists, objects]) {
    expect(task.choices(row)).toEqual(['x', 'y']);
    expect(task.gold(row)).toBe(1);
    expect(task.solution(row)).toBe('y');
  }
  expect(() => task.gold(rowOf({ ...lists.values, answerKey: 'C' }))).toThrow(
    'a:1: the answer "C" is none of the labels 1, 2',
  );
  for (const choices of [{ text: ['x'], label: ['A'] }, { text: ['x', 'y'], label: ['A'] }, ['x', 'y'], 'x']) {
    expect(() => task.choices(rowOf({ ...lists.values, choices }))).toThrow(
      `a:1: "choices" must be two lists as long as each other, {"text": [...], "label": [...]}, of at least two texts, found ${JSON.stringify(choices)}`,
    );
  }
});
