import { equivalent } from './math/index.ts';

/** How the final answer is found in a completion, and compared. */
export interface AnswerRules {
  /** Text that ends a thought: what stands before the last one is no answer. */
  thinkClose?: string | undefined;
  /** Finds the answer where nothing is boxed: the first group of its last match, or the whole match. */
  pattern?: RegExp | undefined;
  /** When two answers are equal; default 'spelling'. */
  equality?: AnswerEquality | undefined;
}

/**
 * When two answers are equal.
 * - spelling: the same string after normalisation, or the same decimal number
 * - mathematics: or the same mathematics (src/math/equivalence.ts)
 */
export type AnswerEquality = 'spelling' | 'mathematics';

/**
 * The final answer of a completion, in what follows the last closing delimiter (all of it where there is none):
 * 1. the content of the last \boxed{...} that closes, braces within it in pairs;
 * 2. with a pattern: its last match, or no answer where it does not match;
 * 3. otherwise the first line that is not white space.
 *
 * Degenerate: an empty box and nothing but white space are no answer.
 * @returns undefined where there is no answer
 */
export function extractAnswer(completion: string, { thinkClose, pattern }: AnswerRules = {}): string | undefined {
  const end = thinkClose ? completion.lastIndexOf(thinkClose) : -1;
  const text = thinkClose !== undefined && end >= 0 ? completion.slice(end + thinkClose.length) : completion;
  return filled(lastBoxed(text) ?? (pattern === undefined ? firstLine(text) : lastMatch(text, pattern)));
}

/** The final answer of a reference solution: boxed, or behind the last `####` (GSM8K), or all of it. */
export function referenceAnswer(reference: string): string | undefined {
  const marked = reference.lastIndexOf('####');
  return filled(lastBoxed(reference) ?? (marked < 0 ? reference : reference.slice(marked + 4)));
}

const filled = (text: string | undefined): string | undefined => (text?.trim() ? text.trim() : undefined);

const firstLine = (text: string): string | undefined => text.split('\n').find((line) => line.trim() !== '');

function lastMatch(text: string, pattern: RegExp): string | undefined {
  const flags = pattern.flags.includes('g') ? pattern.flags : `${pattern.flags}g`;
  const match = [...text.matchAll(new RegExp(pattern.source, flags))].at(-1);
  return match?.[1] ?? match?.[0];
}

const BOX = '\\boxed{';

/** Content of the last \boxed{...} that closes; undefined if there is none. A box within a box belongs to the outer one. */
export function lastBoxed(text: string): string | undefined {
  let found: string | undefined;
  for (let start = text.indexOf(BOX); start >= 0; ) {
    const from = start + BOX.length;
    const end = closingBrace(text, from);
    if (end >= 0) found = text.slice(from, end);
    start = text.indexOf(BOX, end >= 0 ? end : from);
  }
  return found;
}

/** Index of the brace that closes one opened before `from`; -1 if none does. A brace behind a backslash is a character. */
function closingBrace(text: string, from: number): number {
  let depth = 1;
  for (let i = from; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '{') depth++;
    else if (text[i] === '}' && --depth === 0) return i;
  }
  return -1;
}

/**
 * Whether two answers are equal: the same string after normalisation, or the same decimal number (1,000 = 1000 = 1000.0). By
 * spelling nothing is calculated: 1/2 is not 0.5.
 */
export function answersMatch(answer: string, reference: string, equality: AnswerEquality = 'spelling'): boolean {
  const [a, b] = [normalized(answer), normalized(reference)];
  if (a === b) return true;
  const [x, y] = [decimal(a), decimal(b)];
  if (x !== undefined && x === y) return true;
  return equality === 'mathematics' && equivalent(answer, reference);
}

/** NFC, without enclosing `$`, a final full stop and white space at the ends; white space within is one space. */
function normalized(text: string): string {
  const bare = text.normalize().replace(/\s+/g, ' ').trim().replace(/\.$/, '');
  const math = /^\$(.+)\$$/.exec(bare);
  return (math === null ? bare : math[1]).trim();
}

/** A decimal number in one spelling, digit for digit, so that no precision is lost; undefined for what is none. */
function decimal(text: string): string | undefined {
  const plain = /^[+-]?\d{1,3}(,\d{3})+(\.\d*)?$/.test(text) ? text.replaceAll(',', '') : text;
  const match = /^([+-]?)(\d*)\.?(\d*)$/.exec(plain);
  if (match === null || match[2] + match[3] === '') return undefined;
  const whole = match[2].replace(/^0+/, '') || '0';
  const fraction = match[3].replace(/0+$/, '');
  const value = fraction === '' ? whole : `${whole}.${fraction}`;
  return match[1] === '-' && value !== '0' ? `-${value}` : value;
}

/**
 * The verifiable reward of GRPO/RLVR: 1 if the completion's final answer equals the reference's, else 0. Degenerate: no answer in
 * the completion is 0.
 */
export function answerReward(completion: string, reference: string, rules: AnswerRules = {}): 0 | 1 {
  const [answer, expected] = [extractAnswer(completion, rules), referenceAnswer(reference)];
  return answer !== undefined && expected !== undefined && answersMatch(answer, expected, rules.equality) ? 1 : 0;
}
