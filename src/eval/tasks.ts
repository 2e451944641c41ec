import { extractAnswer, lastBoxed, referenceAnswer } from '../answer-match.ts';
import { UserError } from '../errors.ts';
import { uniformStream } from '../random.ts';
import { exactMatch, firstMatch, lastMatch, MATH_FILTERS, mathFilters } from './filters.ts';
import { type Aliases, choiceIn, has, LETTERS, labelledIn, type Question, textIn, textsIn } from './question.ts';
import type { ChoiceTask, GenerationTask, Task } from './task.ts';

const QUESTION: Aliases = ['question', 'Question', 'problem', 'Problem', 'input'];
const ANSWER: Aliases = ['answer', 'Answer', 'target', 'final_answer', 'expected_answer'];

const SEPARATORS = [/,/g, /\$/g, /.*#### /gs, /\.$/g];

/** openai/gsm8k. */
const gsm8k: GenerationTask = {
  kind: 'generation',
  name: 'gsm8k',
  version: 1,
  columns: [...QUESTION, ...ANSWER],
  prompt: (row) => `Question: ${textIn(row, QUESTION)}\nAnswer:`,
  solution: (row) => textIn(row, ANSWER),
  target(row) {
    const answer = textIn(row, ANSWER);
    if (/####\s*\S/.test(answer) || /^[-$]?[\d,.]+$/.test(answer.trim())) return answer;
    throw new UserError(`${row.place}: the answer has no "#### NUMBER" at its end, and is no number itself`);
  },
  stop: ['Question:', '</s>', '<|im_end|>'],
  maxTokens: 256,
  filters: [
    {
      name: 'strict-match',
      extract: (completion) => firstMatch(completion, /#### (-?[0-9.,]+)/),
      matches: exactMatch(SEPARATORS),
    },
    {
      name: 'flexible-extract',
      extract: (completion) => lastMatch(completion, /(-?[$0-9.,]{2,})|(-?[0-9]+)/),
      matches: exactMatch(SEPARATORS),
    },
  ],
};

const PROBLEM: Aliases = ['problem', 'Problem', 'question', 'Question', 'prompt'];
const SOLUTION: Aliases = ['solution', 'Solution'];

/** Competition mathematics: MATH-500, Minerva, AMC. */
const math = (name: string): GenerationTask => ({
  kind: 'generation',
  name,
  version: 1,
  columns: [...PROBLEM, ...SOLUTION, ...ANSWER],
  prompt: (row) => `Problem:\n${textIn(row, PROBLEM)}\n\nSolution:`,
  solution: (row) => textIn(row, has(row, SOLUTION) ? SOLUTION : ANSWER),
  target(row) {
    const target = has(row, ANSWER) ? textIn(row, ANSWER) : lastBoxed(textIn(row, SOLUTION));
    if (target !== undefined) return target;
    throw new UserError(`${row.place}: the solution has no \\boxed{...}, and there is no column "answer"`);
  },
  stop: ['Problem:', '</s>', '<|im_end|>'],
  maxTokens: 1024,
  filters: MATH_FILTERS,
});

/** Maxwell-Jia/AIME_2024, math-ai/aime25. */
const aime: GenerationTask = {
  ...math('aime'),
  version: 2,
  prompt: (row) => `Question: ${textIn(row, PROBLEM)}\nAnswer:`,
  stop: ['Question:', '</s>', '<|im_end|>', '<|eot_id|>'],
};

const CHOICES: Aliases = ['choices', 'options'];
const GOLD: Aliases = ['answer', 'answer_index', 'Answer'];
const SUBJECT: Aliases = ['subject', 'category'];

const subjectOf = (row: Question): string => (has(row, SUBJECT) ? textIn(row, SUBJECT).replaceAll('_', ' ') : '');
const lettered = (choices: readonly string[]): string =>
  choices.map((choice, i) => `${LETTERS[i]}. ${choice}\n`).join('');
const intent = (row: Question): string =>
  `The following are multiple choice questions (with answers)${subjectOf(row) && ` about ${subjectOf(row)}`}.`;

/** cais/mmlu. */
const mmlu: ChoiceTask = {
  kind: 'choice',
  name: 'mmlu',
  version: 1,
  columns: [...QUESTION, ...CHOICES, ...GOLD, ...SUBJECT],
  description: (row) => `${intent(row)}\n\n`,
  prompt: (row) => `${textIn(row, QUESTION).trim()}\n${lettered(textsIn(row, CHOICES))}Answer:`,
  solution: (row) => LETTERS[mmlu.gold(row)],
  choices: (row) => textsIn(row, CHOICES).map((_, i) => LETTERS[i]),
  gold: (row) => choiceIn(row, GOLD, textsIn(row, CHOICES).length),
  group: subjectOf,
};

const COT: Aliases = ['cot_content'];
const COT_START = "Let's think step by step.";

/** TIGER-Lab/MMLU-Pro. */
const mmluPro: GenerationTask = {
  kind: 'generation',
  name: 'mmlu-pro',
  version: 1,
  columns: [...QUESTION, ...CHOICES, ...GOLD, ...SUBJECT, ...COT],
  description: (row) =>
    `${intent(row)} Think step by step and then finish your answer with "the answer is (X)" where X is the correct letter choice.\n`,
  prompt: (row) =>
    `Question:\n${textIn(row, QUESTION)}\nOptions:\n${lettered(textsIn(row, CHOICES).map((option) => option.trim()))}Answer: ${COT_START}`,
  solution: (row) =>
    has(row, COT) ? textIn(row, COT).replace(`A: ${COT_START}`, '').trim() : `The answer is (${mmluPro.target(row)}).`,
  target: (row) => LETTERS[choiceIn(row, GOLD, textsIn(row, CHOICES).length)],
  group: subjectOf,
  stop: ['Question:', '</s>', '<|im_end|>'],
  maxTokens: 2048,
  filters: [
    {
      name: 'custom-extract',
      extract: (completion) => firstMatch(completion, /answer is \(?([A-J])\)?/),
      matches: exactMatch([]),
    },
  ],
};

const KEY: Aliases = ['answerKey', 'answer'];

/** allenai/ai2_arc. */
const arc = (name: string): ChoiceTask => ({
  kind: 'choice',
  name,
  version: 1,
  columns: [...QUESTION, ...CHOICES, ...KEY],
  prompt: (row) => `Question: ${textIn(row, QUESTION)}\nAnswer:`,
  solution: (row) => labelledIn(row, CHOICES)[arcGold(row)].text,
  choices: (row) => labelledIn(row, CHOICES).map(({ text }) => text),
  gold: arcGold,
});

function arcGold(row: Question): number {
  const labels = labelledIn(row, CHOICES).map(({ label }) => label);
  const key = textIn(row, KEY);
  const gold = labels.indexOf(key);
  if (gold >= 0) return gold;
  throw new UserError(`${row.place}: the answer "${key}" is none of the labels ${labels.join(', ')}`);
}

const RIGHT: Aliases = ['Correct Answer'];
const WRONG: readonly Aliases[] = [['Incorrect Answer 1'], ['Incorrect Answer 2'], ['Incorrect Answer 3']];
/** The order of the choices is part of the task: it does not follow --seed. */
const GPQA_SEED = 42;

/** Places of the right answer (0) and the wrong ones (1 to 3), by the question's own text. */
function gpqaOrder(row: Question): readonly number[] {
  const draw = uniformStream(GPQA_SEED, 'eval/gpqa', textIn(row, QUESTION));
  return [0, 1, 2, 3].sort((a, b) => draw(a) - draw(b));
}

/** Without the marks of headings, and double spaces. */
const plainAnswer = (text: string): string => text.trim().replaceAll(' [title]', '. ').replaceAll('  ', ' ');

/** Idavidrein/gpqa. */
const gpqa: ChoiceTask = {
  kind: 'choice',
  name: 'gpqa',
  version: 1,
  columns: [...QUESTION, ...RIGHT, ...WRONG.flat()],
  prompt(row) {
    const answers = [RIGHT, ...WRONG].map((aliases) => plainAnswer(textIn(row, aliases)));
    const choices = gpqaOrder(row).map((answer, i) => `(${LETTERS[i]}) ${answers[answer]}\n`);
    return `What is the correct answer to this question:${textIn(row, QUESTION)}\nChoices:\n${choices.join('')}Answer:`;
  },
  solution: (row) => `(${LETTERS[gpqa.gold(row)]})`,
  choices: () => ['(A)', '(B)', '(C)', '(D)'],
  gold: (row) => gpqaOrder(row).indexOf(0),
};

const PROMPT: Aliases = ['prompt', 'question', 'problem', 'input'];

/** Any prompts with answers, as `train --objective grpo` reads and compares them. */
const custom: GenerationTask = {
  kind: 'generation',
  name: 'custom',
  version: 1,
  columns: [...PROMPT, ...ANSWER],
  prompt: (row) => textIn(row, PROMPT),
  solution: (row) => textIn(row, ANSWER),
  target(row) {
    const target = referenceAnswer(textIn(row, ANSWER));
    if (target !== undefined) return target;
    throw new UserError(`${row.place}: the answer is nothing but white space`);
  },
  stop: [],
  maxTokens: 256,
  filters: mathFilters((completion) => extractAnswer(completion)),
};

/** By the name that --task takes. */
export const TASKS: Readonly<Record<string, Task>> = Object.fromEntries(
  [
    gsm8k,
    ...['math-500', 'minerva', 'amc'].map(math),
    aime,
    ...['arc-easy', 'arc-challenge'].map(arc),
    mmlu,
    mmluPro,
    gpqa,
    custom,
  ].map((task) => [task.name, task]),
);
