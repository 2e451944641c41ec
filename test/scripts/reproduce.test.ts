import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ARMS,
  type ArmContext,
  armNamed,
  bestOfGroupFactor,
  flopFactor,
  flopsOf,
  stepsOf,
} from '../../scripts/reproduce/arms.ts';
import { pairedBootstrap } from '../../scripts/reproduce/bootstrap.ts';
import { type Data, writeData } from '../../scripts/reproduce/data.ts';
import { DECLARED } from '../../scripts/reproduce/declared.ts';
import {
  baseDocuments,
  type Family,
  OPEN,
  type RawDocument,
  rawDocuments,
  SETTLED,
  splitOf,
} from '../../scripts/reproduce/families.ts';
import { STUDIES } from '../../scripts/reproduce/plan.ts';
import { estimate, isAbove } from '../../scripts/reproduce/statistics.ts';
import { ABLATIONS, POST_TRAINING_STAGES, STABILITY } from '../../scripts/reproduce/variants.ts';
import { trainSchema } from '../../src/config.ts';
import { Random } from '../../src/random.ts';

const swapped = (start: string, swaps: string): string => {
  const swap = (place: string, [a, b]: string) => (place === a ? b : place === b ? a : place);
  return swaps.trim().split(' ').reduce(swap, start);
};

/** The last steps again, read from the text alone. */
const SOLVERS: Record<string, (question: string) => string> = {
  sums: (question) => String([...question.slice(0, -1)].reduce((sum, digit) => sum + Number(digit), 0) % 10),
  words: (question) => {
    const value = (word: string) =>
      ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'].indexOf(word);
    const [first, ...rest] = question.trim().split(' ').slice(0, -1);
    let total = value(first);
    for (let i = 0; i < rest.length; i += 2) total += (rest[i] === 'plus' ? 1 : -1) * value(rest[i + 1]);
    return String(((total % 10) + 10) % 10);
  },
  cups: (question) => {
    const [, start, swaps] = /^ball (.):(.*) > $/.exec(question) ?? [];
    return swapped(start, swaps);
  },
  boxes: (question) => String([...question.slice(0, -1)].reduce((sum, digit) => sum + Number(digit), 0) % 5),
  drawers: (question) => {
    const [, start, swaps] = /^from (.):(.*) > $/.exec(question) ?? [];
    return swapped(start, swaps);
  },
  diary: (question) => {
    const [, first, changes] = /had (\d) \w+, (.*)\. Now/.exec(question) ?? [];
    return changes.split(', ').reduce((have, change) => {
      const by = Number(change.slice(-1));
      return String(Number(have) + (/found|got|bought/.test(change) ? by : -by));
    }, first);
  },
};

describe.each([...SETTLED, ...OPEN].map((family): [string, Family] => [family.name, family]))('%s', (name, family) => {
  it('has the right steps, and an answer that fits the last one', () => {
    const random = new Random(3, 'test');
    for (let i = 0; i < 200; i++) {
      const { question, steps, answer } = family.example(random);
      const last = SOLVERS[name](question);
      expect(steps.endsWith(last), question).toBe(true);
      if (family.ceiling === 1) expect(answer).toBe(last);
      // Ten letters in a row, of the place where the steps end.
      else expect(Math.floor(family.answers.indexOf(answer) / 10)).toBe(family.values.indexOf(last));
      expect([...steps].every((step) => family.values.includes(step))).toBe(true);
      expect(family.answers).toContain(answer);
    }
  });

  it('marks the answer, shows no thought, and keeps what is held out away from training', () => {
    for (const split of ['train', 'held-out'] as const) {
      const documents = rawDocuments(1, family, split);
      for (let i = 0; i < 50; i++) {
        const { text, positions, prompt, answer } = documents.next().value;
        expect(text.slice(positions[0], positions[0] + 1)).toBe(answer);
        expect(text.startsWith(prompt)).toBe(true);
        expect(text).not.toContain('think');
        expect(splitOf(prompt)).toBe(split);
        expect(text.length).toBeLessThan(128); // a block of CPT
      }
    }
  });
});

it('mixes thoughts of both qualities into the text of the base model', () => {
  const documents = baseDocuments(1, SETTLED, 4000, { thoughts: 0.8, goodThoughts: 0.5 });
  const thinking = documents.filter((text) => text.includes('<think>'));
  const right = thinking.filter((text) => {
    const [question, , answer] = text.split(/<\/?think>/);
    const family = SETTLED[documents.indexOf(text) % SETTLED.length].name;
    return answer.startsWith(SOLVERS[family](question));
  });
  expect(thinking.length / documents.length).toBeCloseTo(0.8, 1);
  // Half are right on purpose, an eighth of the others by chance.
  expect(right.length / thinking.length).toBeCloseTo(0.5 + 0.5 * 0.125, 1);
});

it('says of every character of a diary what it is', () => {
  const diary = SETTLED.find(({ kinds }) => kinds !== undefined);
  const text = 'The day was long. Ida had 7 figs, gave away 3, found 4, sold 6. Now Ida has 2. That was all.\n';
  const kinds = diary?.kinds?.(text) ?? [];
  expect(kinds).toHaveLength(text.length);
  const said = (kind: string) => [...text].filter((_, i) => kinds[i] === kind).join('');
  expect(said('the sentence before')).toBe('The day was long.');
  expect(said('the name')).toBe('Ida');
  expect(said('the first number')).toBe('7');
  expect(said('the thing')).toBe('figs');
  expect(said('what is done')).toBe('gave awayfoundsold');
  expect(said('how many')).toBe('346');
  expect(said('the name again')).toBe('Ida');
  expect(said('the answer')).toBe('2');
  expect(said('the sentence behind')).toBe('That was all.');
  expect(said('fixed words and signs')).toBe('  had  ,  ,  ,  . Now  has . \n');
});

describe('the data', () => {
  let folder: string;
  let data: Data;
  const rows = new Map<string, RawDocument[]>();
  const read = (name: string) => rows.get(name) as RawDocument[];
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'reproduce-data-'));
    const sizes = { train: 50, trainLong: 80, postTraining: 10, heldOut: 60, everyPosition: 3 };
    data = await writeData(folder, SETTLED, sizes);
    for (const [name, file] of Object.entries(data.files)) {
      const lines = (await readFile(file, 'utf8')).trimEnd().split('\n');
      rows.set(
        name,
        lines.map((line) => JSON.parse(line) as RawDocument),
      );
    }
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('asks no question twice of those held out and those that learning rates are chosen on', () => {
    const questions = [...read('heldOut'), ...read('validation')].map(({ prompt }) => prompt);
    expect(questions).toHaveLength(2 * 60 * SETTLED.length);
    expect(new Set(questions).size).toBe(questions.length);
  });

  it('has the families in turn, so that whatever is read first has as many of each', () => {
    const families = read('train').map(({ id }) => id.split('-')[0]);
    expect(families.slice(0, 8)).toEqual(['sums', 'words', 'cups', 'diary', 'sums', 'words', 'cups', 'diary']);
    expect(read('train')).toHaveLength(50 * SETTLED.length);
    expect(read('trainLong')).toHaveLength(80 * SETTLED.length);
    expect(read('trainLong')[10].text).toBe(read('train')[10].text);
    expect(read('everyPosition').map(({ id }) => id.split('-')[0])).toEqual(['diary', 'diary', 'diary']);
  });

  it('counts the tokens of documents and of questions', () => {
    const bytes = read('train').reduce((sum, { text }) => sum + text.length, 0);
    expect(data.documentTokens).toBeCloseTo(bytes / (50 * SETTLED.length), 10);
    expect(data.questionTokens).toBeLessThan(data.documentTokens);
  });
});

describe('estimates', () => {
  it('are a mean and a t interval', () => {
    // 1, 2, 3, 4, 5: deviation sqrt(2.5), t(4) = 2.776
    const { mean, halfWidth } = estimate([1, 2, 3, 4, 5]);
    expect(mean).toBe(3);
    expect(halfWidth).toBeCloseTo((2.776 * Math.sqrt(2.5)) / Math.sqrt(5), 12);
    expect(estimate([7]).halfWidth).toBeNaN();
  });

  it.each([
    [11, 2.228],
    [31, 2.042],
    [400, 1.96],
  ])('know the quantile for %i values', (n, quantile) => {
    const values = Array.from({ length: n }, (_, i) => i % 7);
    const mean = values.reduce((a, b) => a + b) / n;
    const deviation = Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1));
    expect(estimate(values).halfWidth).toBeCloseTo((quantile * deviation) / Math.sqrt(n), 10);
  });

  it('are apart only when their intervals are', () => {
    const of = (mean: number, halfWidth: number) => ({ mean, halfWidth });
    expect(isAbove(of(2, 0.4), of(1, 0.5))).toBe(true);
    expect(isAbove(of(2, 0.5), of(1, 0.5))).toBe(false);
    expect(isAbove(of(2, Number.NaN), of(1, 0.1))).toBe(false);
  });
});

describe('the paired bootstrap', () => {
  const random = new Random(5, 'test');
  /** Sum of 12 uniforms - 6: deviation 1. */
  const normal = () => Array.from({ length: 12 }, () => random.float()).reduce((a, b) => a + b) - 6;

  it('takes out what both sides share', () => {
    const theirs = Array.from({ length: 4 }, () => Array.from({ length: 30 }, () => 10 * normal()));
    const ours = theirs.map((scores) => scores.map((score) => score + 0.5));
    for (const figure of Object.values(pairedBootstrap(ours, theirs))) expect(figure).toBeCloseTo(0.5, 10);
  });

  it('has the width of a t interval where only questions differ', () => {
    // One seed: sd / sqrt(Q) * 1.96 on each side, but for the noise of the resamples.
    const differences = Array.from({ length: 200 }, normal);
    const { mean, low, high } = pairedBootstrap([differences], [differences.map(() => 0)]);
    const { mean: expected, halfWidth } = estimate(differences);
    expect(mean).toBeCloseTo(expected, 12);
    expect((high - low) / 2 / halfWidth).toBeGreaterThan(0.9);
    expect((high - low) / 2 / halfWidth).toBeLessThan(1.1);
  });

  it('is wider where seeds differ, too', () => {
    const questions = Array.from({ length: 50 }, normal);
    const width = (seeds: readonly number[]) => {
      const { low, high } = pairedBootstrap(
        seeds.map((seed) => questions.map((question) => question + seed)),
        [questions.map(() => 0)],
      );
      return high - low;
    };
    expect(width([-2, -1, 0, 1, 2])).toBeGreaterThan(1.5 * width([0, 0, 0, 0, 0]));
  });

  it('refuses scores of other questions', () => {
    expect(() => pairedBootstrap([[1, 2]], [[1]])).toThrow('same seeds and questions');
  });
});

describe('compute', () => {
  const context: ArmContext = { documentTokens: 20, questionTokens: 16, thoughtTokens: 6, parameters: 1000 };

  it("is matched by the paper's formula", () => {
    // 8 thoughts of 10 tokens for a document of 20 tokens: (80 + 20) / 20
    expect(flopFactor(context)).toBe(5);
    expect(stepsOf(armNamed('cpt-flops'), 40, context)).toBe(200);
    expect(stepsOf(armNamed('cpt-35x'), 40, context)).toBe(1400);
    expect(stepsOf(armNamed('cpt'), 40, context)).toBe(40);
  });

  it('counts six a parameter for trained tokens, two for sampled ones and for the two passes before them', () => {
    expect(flopsOf({ trainedTokens: 100, sampledTokens: 0 }, 7, context)).toBe(6 * 100 * 1000);
    expect(flopsOf({ trainedTokens: 100, sampledTokens: 50 }, 1, context)).toBe(1000 * (600 + 2 * (50 + 640)));
  });

  it('gives training on the best thought the steps that RLP has FLOPs for', () => {
    // A document: RLP 6 * (16 + 48) + 2 * (48 + 40) = 560, the best thought 6 * (16 + 7) + 2 * (48 + 40) = 314.
    expect(bestOfGroupFactor(context)).toBeCloseTo(560 / 314, 12);
  });

  const files = { model: 'm', data: ['d'], run: 'r', steps: 1 };

  it.each([...ABLATIONS, ...STABILITY].map(({ name, settings }) => [name, settings] as const))(
    'has a variant %s that train takes',
    (_, settings) => {
      expect(trainSchema.safeParse({ ...files, ...armNamed('rlp-ema').settings, ...settings }).error).toBeUndefined();
    },
  );

  it.each(POST_TRAINING_STAGES)('has a stage $name that train takes', ({ settings }) => {
    expect(trainSchema.safeParse({ ...files, ...settings }).error).toBeUndefined();
  });

  it('gives all arms that think one optimizer, and all arms that do not another', () => {
    const optimizers = ARMS.map(({ name, settings }) => {
      const { beta2, weightDecay } = trainSchema.parse({ ...files, ...settings });
      return [/^(rlp|rpt|best)/.test(name), beta2, weightDecay];
    });
    expect([...new Set(optimizers.map(String))].sort()).toEqual(['false,0.95,0.1', 'true,0.999,0.01']);
  });
});

it('was fixed before: seeds that no earlier run had, and every arm compared at the same two places', () => {
  expect(Math.min(...DECLARED.trainingSeeds)).toBeGreaterThan(10);
  const { train, validation, heldOut, postTraining } = DECLARED.textSeeds;
  expect(new Set([1, 2, 3, 4, train, validation, heldOut, postTraining]).size).toBe(8);
  for (const { name, scales } of STUDIES) {
    expect(scales.full).toMatchObject({ steps: DECLARED.comparisonSteps[name], stability: 10 });
    for (const scale of Object.values(scales)) {
      expect([scale.points[0], scale.points.at(-1)]).toEqual([1, scale.stability]);
      for (const arm of scale.arms) expect(armNamed(arm).name).toBe(arm);
    }
  }
});
