import { describe, expect, it } from 'vitest';
import { equivalent } from '../../src/math/index.ts';
import { Random } from '../../src/random.ts';
import { readGoldenJson } from '../golden/golden.ts';

/** Pairs by hand, the reference second; and answers that are compared with each other. */
interface Pairs {
  same: [string, string][];
  different: [string, string][];
  answers: string[];
}
const { same: SAME, different: DIFFERENT } = readGoldenJson<Pairs>('equivalence/pairs');

const both = (answer: string, reference: string) => [equivalent(answer, reference), equivalent(reference, answer)];

it.each(SAME)('the same: %s and %s', (answer, reference) => {
  expect(both(answer, reference)).toEqual([true, true]);
});

it.each(DIFFERENT)('not the same: %s and %s', (answer, reference) => {
  expect(both(answer, reference)).toEqual([false, false]);
});

describe('Math-Verify', () => {
  /** What it does not read, or reads otherwise; by hand these are the same. */
  const ONLY_OURS = [
    ...['1\\,000', '1.2e-3', '2**10', '0.\\overline{3}', '0.1\\overline{6}', '1 1/2', '2(1/2)', 'pi/2', '\\varnothing'],
    ...[
      '\\sqrt[3]{-8}',
      '(-8)^{1/3}',
      'e^{i\\pi}',
      '(1+i)^2',
      '\\frac{1}{i}',
      '\\sqrt{-4}',
      '5 = x',
      '2x < 6',
      '50\\%',
    ],
    '\\(\\frac{1}{2}\\).',
  ];
  /** It forgives: a tuple is a set, a letter small, a unit any, and rounds; letters are a product, and 52_8 is 52. */
  const ONLY_THEIRS = ['0.3333333333333333', 'X', '(1,2)', '(2,1)', '1 = 2', '10 \\text{ cm}', 'east', '52_8'];

  it('says the same of all pairs but those that are named', () => {
    const verdicts = readGoldenJson<[string, string, [boolean, boolean] | null][]>('equivalence/math-verify');
    let agreed = 0;
    for (const [answer, reference, verdict] of verdicts) {
      const [ours, back] = both(answer, reference);
      const pair = `${answer} and ${reference}`;
      expect(back, pair).toBe(ours);
      const theirs = verdict?.some(Boolean) ?? false; // in one order or the other
      if (ours === theirs) agreed++;
      else if (ours) expect(ONLY_OURS, pair).toContain(answer);
      else expect(ONLY_THEIRS, pair).toContain(answer);
    }
    expect(verdicts).toHaveLength(1693);
    expect(agreed).toBe(1663); // as docs/eval.md says
  });
});

const PIECES = String.raw`x y 2 3.5 1000 + - * / ^ _ { } ( ) [ ] | , = < ! & \\ \frac \sqrt \left( \right) \{ \} \le \pi \sin \log \text{a}
  \infty \cup \% $ \circ \pm \foo \binom \begin{pmatrix} \end{pmatrix} \overline{3} e 10^{10^{10}} 500! \in words 1.2e-3 π`;

it('whatever a model writes is read in time, and nothing throws', () => {
  const pieces = PIECES.split(/\s+/);
  const random = new Random(3, 'equivalence');
  const written = Array.from({ length: 3000 }, () => {
    const length = 1 + random.integer(40);
    return Array.from({ length }, () => pieces[random.integer(pieces.length)]).join(random.integer(2) ? ' ' : '');
  });
  // What takes a general parser of LaTeX seconds, or an evaluation without an end.
  for (const open of [
    '(',
    '[',
    '{',
    '\\{',
    '|',
    '-',
    '\\frac{',
    '\\sqrt[',
    '2^',
    '((x+',
    '\\sin',
    '!',
    '\\{\\{1,',
    '\\pm',
  ]) {
    written.push(open.repeat(Math.floor(390 / open.length)), `${open.repeat(30)}x`);
  }
  for (const [open, close] of ['\\{ \\}', '( )', '[ ]', '{ }'].map((pair) => pair.split(' '))) {
    for (const depth of [5, 30, 80]) written.push(`${open.repeat(depth)}1${close.repeat(depth)}`);
  }
  written.push('x'.repeat(400), '9^{9^{9^{9^9}}}', '(1+10^{3000})^{3}', '\\pm1'.repeat(60), '500!^{500!}');
  const same = written.filter((text) => equivalent(text, text));
  // Most of it is no mathematics, and what is none is not equal to itself either.
  expect(same.length).toBeGreaterThan(20);
  expect(same.length).toBeLessThan(written.length / 2);
  for (const [i, text] of written.entries()) equivalent(text, written[(i * 7) % written.length]);
});
