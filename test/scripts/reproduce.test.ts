import { describe, expect, it } from 'vitest';
import { lineChart } from '../../scripts/reproduce/charts.ts';
import { baseDocuments, FAMILIES, type Family, rawDocuments, splitOf } from '../../scripts/reproduce/families.ts';
import { estimate, isAbove } from '../../scripts/reproduce/statistics.ts';
import { Random } from '../../src/random.ts';

/** The answers again, read from the text alone. */
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
    const swap = (place: string, [a, b]: string) => (place === a ? b : place === b ? a : place);
    return swaps.trim().split(' ').reduce(swap, start);
  },
  diary: (question) => {
    const [, first, changes] = /had (\d) \w+, (.*)\. Now/.exec(question) ?? [];
    return changes.split(', ').reduce((have, change) => {
      const by = Number(change.slice(-1));
      return String(Number(have) + (/found|got|bought/.test(change) ? by : -by));
    }, first);
  },
};

describe.each(FAMILIES.map((family): [string, Family] => [family.name, family]))('%s', (name, family) => {
  it('has the right answers, and steps that end in them', () => {
    const random = new Random(3, 'test');
    for (let i = 0; i < 200; i++) {
      const { question, steps, answer } = family.example(random);
      expect(answer, question).toBe(SOLVERS[name](question));
      expect(steps.endsWith(answer)).toBe(true);
      expect([...steps].every((step) => family.values.includes(step))).toBe(true);
    }
  });

  it('marks the answer, shows no thought, and keeps what is held out away from training', () => {
    for (const split of ['train', 'held-out'] as const) {
      for (const { text, positions, prompt, answer } of rawDocuments(1, family, 50, split)) {
        expect(text.slice(positions[0], positions[0] + 1)).toBe(answer);
        expect(text.startsWith(prompt)).toBe(true);
        expect(text).not.toContain('think');
        expect(splitOf(prompt)).toBe(split);
      }
    }
  });
});

it('mixes thoughts of both qualities into the text of the base model', () => {
  const documents = baseDocuments(1, 4000, { thoughts: 0.8, goodThoughts: 0.5 });
  const thinking = documents.filter((text) => text.includes('<think>'));
  const right = thinking.filter((text) => {
    const [question, , answer] = text.split(/<\/?think>/);
    const family = Object.keys(SOLVERS)[documents.indexOf(text) % 4];
    return answer.startsWith(SOLVERS[family](question));
  });
  expect(thinking.length / documents.length).toBeCloseTo(0.8, 1);
  // Half are right on purpose, an eighth of the others by chance.
  expect(right.length / thinking.length).toBeCloseTo(0.5 + 0.5 * 0.125, 1);
});

describe('estimates', () => {
  it('are a mean and a t interval', () => {
    // 1, 2, 3, 4, 5: deviation sqrt(2.5), t(4) = 2.776
    const { mean, halfWidth } = estimate([1, 2, 3, 4, 5]);
    expect(mean).toBe(3);
    expect(halfWidth).toBeCloseTo((2.776 * Math.sqrt(2.5)) / Math.sqrt(5), 12);
    expect(estimate([7]).halfWidth).toBeNaN();
  });

  it('are apart only when their intervals are', () => {
    const of = (mean: number, halfWidth: number) => ({ mean, halfWidth, values: [] });
    expect(isAbove(of(2, 0.4), of(1, 0.5))).toBe(true);
    expect(isAbove(of(2, 0.5), of(1, 0.5))).toBe(false);
    expect(isAbove(of(2, Number.NaN), of(1, 0.1))).toBe(false);
  });
});

it('draws lines and bands as SVG', () => {
  const points = [
    { x: 0, y: 0.1, halfWidth: 0 },
    { x: 10, y: 0.9, halfWidth: 0.1 },
  ];
  const svg = lineChart([{ label: 'an arm', points }], {
    title: 'a family',
    xName: 'steps',
    yName: 'p',
    range: [0, 1],
  });
  expect(svg).toMatch(/^<svg/);
  for (const text of ['an arm', 'a family', 'steps']) expect(svg).toContain(text);
  expect(svg).toContain('fill-opacity="0.15"');
});
