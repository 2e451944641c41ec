import { Random, type Seed, uniform } from '../../src/random.ts';

/**
 * Synthetic text in which thinking pays. Each example is a question whose one-byte answer takes several steps, the steps
 * written out, and a guess at such steps. A small model cannot take all steps in one forward pass; it can, if it writes
 * them down one by one.
 */
export interface Example {
  /** Text up to the answer. */
  question: string;
  /** The right intermediate results, one byte a step; the last one is the answer, or says what the answer is drawn from. */
  steps: string;
  answer: string;
  /** Text after the answer. */
  rest: string;
}

export interface Family {
  name: string;
  /** One line for the report. */
  description: string;
  example(random: Random): Example;
  /** Values that a step of a thought may take. */
  values: string;
  /** Values that an answer may take. */
  answers: string;
  /** Share of guesses that are right by chance, in [0, 1]. */
  chance: number;
  /** Share of answers that are exact after the right steps: less than 1 where these leave the answer open. */
  ceiling: number;
  /** What each character of a document is, where a document has more than one question and its answer. */
  kinds?: (text: string) => string[];
}

const pick = <T>(random: Random, values: readonly T[]): T => values[random.integer(values.length)];
const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i));

/** Results of applying one step after the other, as text. */
function trace<State, Step>(start: State, steps: readonly Step[], apply: (state: State, step: Step) => State): State[] {
  let state = start;
  return steps.map((step) => {
    state = apply(state, step);
    return state;
  });
}

const DIGITS = '0123456789';

const runningSums: Family = {
  name: 'sums',
  description: 'Six digits and their sum modulo 10: `314159=3`. Steps: the running sums.',
  values: DIGITS,
  answers: DIGITS,
  chance: 0.1,
  ceiling: 1,
  example(random) {
    const digits = times(6, () => random.integer(10));
    const steps = trace(0, digits, (sum, digit) => (sum + digit) % 10).join('');
    return { question: `${digits.join('')}=`, steps, answer: steps.slice(-1), rest: '\n' };
  },
};

const NUMBER_WORDS = ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'];

const wordArithmetic: Family = {
  name: 'words',
  description:
    'Additions and subtractions in words, modulo 10: `five plus two minus nine is 8`. Steps: the totals so far.',
  values: DIGITS,
  answers: DIGITS,
  chance: 0.1,
  ceiling: 1,
  example(random) {
    const first = random.integer(10);
    const operations = times(3, () => ({ plus: random.integer(2) === 1, by: random.integer(10) }));
    const totals = trace(first, operations, (total, { plus, by }) => (total + (plus ? by : 10 - by)) % 10);
    const text = operations.map(({ plus, by }) => ` ${plus ? 'plus' : 'minus'} ${NUMBER_WORDS[by]}`).join('');
    const steps = `${first}${totals.join('')}`;
    return { question: `${NUMBER_WORDS[first]}${text} is `, steps, answer: steps.slice(-1), rest: '\n' };
  },
};

const CUPS = 'abcde';

const cups: Family = {
  name: 'cups',
  description: 'A ball under one of five cups, and five swaps: `ball c: ac de ab bd ce > d`. Steps: where the ball is.',
  values: CUPS,
  answers: CUPS,
  chance: 0.2,
  ceiling: 1,
  example(random) {
    const start = pick(random, [...CUPS]);
    const swaps = times(5, () => {
      const a = random.integer(CUPS.length);
      const b = (a + 1 + random.integer(CUPS.length - 1)) % CUPS.length;
      return [CUPS[a], CUPS[b]] as const;
    });
    const places = trace(start, swaps, (place, [a, b]) => (place === a ? b : place === b ? a : place));
    const steps = places.join('');
    const text = swaps.map(([a, b]) => ` ${a}${b}`).join('');
    return { question: `ball ${start}:${text} > `, steps, answer: steps.slice(-1), rest: '\n' };
  },
};

const NAMES = ['Ann', 'Ben', 'Eva', 'Ida', 'Leo', 'Max', 'Mia', 'Tom'];
const THINGS = ['nuts', 'pens', 'eggs', 'figs', 'keys'];
const OPENINGS = ['It rained.', 'The sun was out.', 'It was late.', 'The day was long.'];
const ENDINGS = ['Then it got dark.', 'All went home.', 'That was all.', 'Nobody knew why.'];
const GAINS = ['found', 'got', 'bought'];
const LOSSES = ['lost', 'gave away', 'sold'];

/** Characters of a diary by what they say: the first group of every match. What nothing marks is the same in all documents. */
const DIARY_KINDS: readonly (readonly [pattern: RegExp, kind: string])[] = [
  [/^(.*?\.) /dg, 'the sentence before'],
  [/^.*?\. (\w+) had/dg, 'the name'],
  [/Now (\w+) has/dg, 'the name again'],
  [/had (\d)/dg, 'the first number'],
  [/had \d (\w+)/dg, 'the thing'],
  [/, ([a-z ]+) \d/dg, 'what is done'],
  [/, [a-z ]+ (\d)/dg, 'how many'],
  [/has (\d)/dg, 'the answer'],
  [/has \d\. (.*)\n/dg, 'the sentence behind'],
];

const diary: Family = {
  name: 'diary',
  description:
    'Short stories in which one number follows from the others and the rest does not: ' +
    '`It rained. Ida had 7 figs, lost 3, found 4, sold 6. Now Ida has 2. All went home.` Steps: what there is so far.',
  values: DIGITS,
  answers: DIGITS,
  chance: 0.1,
  ceiling: 1,
  example(random) {
    const name = pick(random, NAMES);
    const first = random.integer(10);
    let have = first;
    const totals: number[] = [];
    const changes = times(3, () => {
      const gain = have === 0 || (have < 9 && random.integer(2) === 1);
      const by = 1 + random.integer(gain ? 9 - have : have);
      have += gain ? by : -by;
      totals.push(have);
      return `${pick(random, gain ? GAINS : LOSSES)} ${by}`;
    });
    const question = `${pick(random, OPENINGS)} ${name} had ${first} ${pick(random, THINGS)}, ${changes.join(', ')}. Now ${name} has `;
    const steps = `${first}${totals.join('')}`;
    return { question, steps, answer: steps.slice(-1), rest: `. ${pick(random, ENDINGS)}\n` };
  },
  kinds(text) {
    const kinds: string[] = Array.from(text, () => 'fixed words and signs');
    for (const [pattern, kind] of DIARY_KINDS) {
      for (const { indices } of text.matchAll(pattern)) {
        const [start, end] = indices?.[1] ?? [0, 0];
        kinds.fill(kind, start, end);
      }
    }
    return kinds;
  },
};

const LETTERS = 'abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOPQRSTUVWXY';
/** One of the ten letters of place 0 to 4. */
const letterOf = (random: Random, place: number): string => LETTERS[10 * place + random.integer(10)];

const boxes: Family = {
  name: 'boxes',
  description:
    'Six digits, and a letter from one of five boxes of ten, the one that is the sum modulo 5: `314159:K`. Steps: the running sums.',
  values: '01234',
  answers: LETTERS,
  chance: 0.02,
  ceiling: 0.1,
  example(random) {
    const digits = times(6, () => random.integer(10));
    const sums = trace(0, digits, (sum, digit) => (sum + digit) % 5);
    const answer = letterOf(random, sums[sums.length - 1]);
    return { question: `${digits.join('')}:`, steps: sums.join(''), answer, rest: '\n' };
  },
};

const drawers: Family = {
  name: 'drawers',
  description:
    'Five drawers of ten letters, five moves, and a letter of the drawer where they end: `from c: ac de ab bd ce > J`. Steps: the drawers.',
  values: CUPS,
  answers: LETTERS,
  chance: 0.02,
  ceiling: 0.1,
  example(random) {
    const { question, steps, answer } = cups.example(random);
    const letter = letterOf(random, CUPS.indexOf(answer));
    return { question: question.replace('ball', 'from'), steps, answer: letter, rest: '\n' };
  },
};

/** After the right thought there is one answer. */
export const SETTLED: readonly Family[] = [runningSums, wordArithmetic, cups, diary];
/** After the right thought there are ten answers as likely, before it fifty. */
export const OPEN: readonly Family[] = [boxes, drawers];

/** A question belongs to one split, whatever the seed: what is held out is in no training text. */
export type Split = 'train' | 'held-out';
const HELD_OUT_FRACTION = 0.1;

export const splitOf = (question: string): Split =>
  uniform(0, 'reproduce/split', question) < HELD_OUT_FRACTION ? 'held-out' : 'train';

function exampleOf(family: Family, random: Random, split: Split): Example {
  for (;;) {
    const example = family.example(random);
    if (splitOf(example.question) === split) return example;
  }
}

/** Shares of the text that the base model reads. */
export interface BaseMix {
  /** Of examples that have a thought. */
  thoughts: number;
  /** Of thoughts that are the right steps; after the others, random steps, stands a random answer. */
  goodThoughts: number;
}

const randomSteps = (random: Random, family: Family, length: number): string =>
  times(length, () => pick(random, [...family.values])).join('');

/** `count` documents for a base model, families in turn, with thoughts of mixed quality. */
export function baseDocuments(
  seed: Seed,
  families: readonly Family[],
  count: number,
  { thoughts, goodThoughts }: BaseMix,
): string[] {
  const random = new Random(seed, 'reproduce/base');
  return times(count, (i) => {
    const family = families[i % families.length];
    const { question, steps, answer, rest } = exampleOf(family, random, 'train');
    if (random.float() >= thoughts) return `${question}${answer}${rest}`;
    if (random.float() < goodThoughts) return `${question}<think>${steps}</think>${answer}${rest}`;
    const thought = randomSteps(random, family, steps.length);
    return `${question}<think>${thought}</think>${pick(random, [...family.answers])}${rest}`;
  });
}

/** A document without thoughts, as the arms see it. */
export interface RawDocument {
  id: string;
  text: string;
  /** Offset of the answer: where the held-out evaluation thinks, and the arms that are told where. */
  positions: number[];
  /** For post-training on questions with a final answer. */
  prompt: string;
  response: string;
  answer: string;
}

/** Raw documents of one family, one after the other, without an end. */
export function* rawDocuments(seed: Seed, family: Family, split: Split): Generator<RawDocument, never> {
  const random = new Random(seed, `reproduce/raw/${family.name}/${split}`);
  for (let i = 0; ; i++) {
    const { question, steps, answer, rest } = exampleOf(family, random, split);
    yield {
      id: `${family.name}-${split}-${i}`,
      text: `${question}${answer}${rest}`,
      positions: [question.length],
      prompt: question,
      response: `<think>${steps}</think>${answer}${rest}`,
      answer,
    };
  }
}
