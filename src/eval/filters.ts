import { answersMatch, lastBoxed } from '../answer-match.ts';
import { equivalent } from '../math/index.ts';
import type { Filter } from './task.ts';

/** The first match of a pattern: its first group, or all of it. */
export function firstMatch(text: string, pattern: RegExp): string | undefined {
  const match = pattern.exec(text);
  return (match?.[1] ?? match?.[0])?.trim();
}

/** The last match of a pattern: the first of its groups that took part, or all of it. */
export function lastMatch(text: string, pattern: RegExp): string | undefined {
  const match = [...text.matchAll(new RegExp(pattern.source, `${pattern.flags.replace('g', '')}g`))].at(-1);
  return (match?.slice(1).find((group) => group !== undefined && group !== '') ?? match?.[0])?.trim();
}

/** lm-evaluation-harness's `exact_match` with `ignore_case`: equal once what `ignored` match is taken out of both. */
export const exactMatch =
  (ignored: readonly RegExp[]) =>
  (answer: string, target: string): boolean => {
    const bare = (text: string) => ignored.reduce((rest, pattern) => rest.replaceAll(pattern, ''), text).toLowerCase();
    return bare(answer) === bare(target);
  };

/** Two mathematical answers: the same after spellings of LaTeX that mean nothing are evened out (src/answer-match.ts for the rest). */
export const mathMatch = (answer: string, target: string): boolean =>
  answersMatch(plainLatex(answer), plainLatex(target));

/** The same, or the same mathematics: 1/2 and 0.5, x^2+2x+1 and (x+1)^2 (src/math/equivalence.ts). */
export const mathEquivalent = (answer: string, target: string): boolean =>
  mathMatch(answer, target) || equivalent(answer, target);

/** One spelling where LaTeX has several. Nothing is calculated. */
export function plainLatex(text: string): string {
  return text
    .replace(/\\[dt]frac/g, '\\frac')
    .replace(/\\frac(\d)(\d)/g, '\\frac{$1}{$2}')
    .replace(/\\(left|right|displaystyle|[,!;: ])/g, '')
    .replace(/\\(text|mathrm|textbf|mbox)\{([^{}]*)\}/g, '$2')
    .replace(/\^\{?\\circ\}?|\\degree|°/g, '')
    .replace(/\\?[$%]/g, '')
    .replace(/\s+/g, '')
    .replace(/\.$/, '');
}

const STATED = /(?:final answer is|answer is)[:\s]*\$?([^\n]*?)\$?(?:\.\s|\.?$|\. I hope)/im;
const NUMBER = /-?\d[\d,]*(?:\.\d+)?(?:\/\d+)?/;

/** The answer to a problem: boxed, or stated in words ("the final answer is"), or the last number. */
const mathAnswer = (completion: string): string | undefined =>
  lastBoxed(completion) ?? lastMatch(completion, STATED) ?? lastMatch(completion, NUMBER);

/** An answer compared by its spelling, and by what it means. */
export const mathFilters = (extract: Filter['extract']): readonly Filter[] => [
  { name: 'extracted', extract, matches: mathMatch },
  { name: 'equivalent', extract, matches: mathEquivalent },
];

/** Of a problem in mathematics. */
export const MATH_FILTERS = mathFilters(mathAnswer);
