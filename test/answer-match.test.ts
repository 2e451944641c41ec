import { describe, expect, test } from 'vitest';
import { answerReward, answersMatch, extractAnswer, lastBoxed, referenceAnswer } from '../src/answer-match.ts';

describe('the answer of a completion', () => {
  test.each([
    // What stands in the last box that closes.
    ['so \\boxed{4}, no: \\boxed{5}.', '5'],
    ['\\boxed{\\frac{1}{2}} it is', '\\frac{1}{2}'],
    ['\\boxed{a\\}b}', 'a\\}b'], // a brace behind a backslash is a character
    ['\\boxed{7} or \\boxed{8', '7'], // the last one does not close
    ['\\boxed{x = \\boxed{3}}', 'x = \\boxed{3}'], // a box in a box belongs to the outer one
    // Otherwise the first line that is not white space.
    ['  42 \nand so on', '42'],
    ['\n\n42', '42'],
    // What stands before the end of a thought is no answer.
    ['\\boxed{1}</think>2', '2'],
    ['a</think>b</think>\\boxed{3}', '3'],
  ])('%j is %j', (completion, answer) => {
    expect(extractAnswer(completion, { thinkClose: '</think>' })).toBe(answer);
  });

  test.each(['', ' \n', '\\boxed{}', '\\boxed{ }', '42</think>', '42</think>\n'])('%j has none', (completion) => {
    expect(extractAnswer(completion, { thinkClose: '</think>' })).toBeUndefined();
  });

  test('a pattern gives the first group of its last match, or all of the match', () => {
    expect(extractAnswer('#### 3\n#### 4', { pattern: /#### (\S+)/ })).toBe('4');
    expect(extractAnswer('3, then 4', { pattern: /\d/ })).toBe('4');
    expect(extractAnswer('4', { pattern: /#### (\S+)/ })).toBeUndefined();
    expect(extractAnswer('#### 4 \\boxed{5}', { pattern: /#### (\S+)/ })).toBe('5'); // a box goes before it
  });

  test('a box that never closes is none', () => {
    expect(lastBoxed('\\boxed{1')).toBeUndefined();
    expect(lastBoxed('no box')).toBeUndefined();
  });
});

test.each([
  ['3 + 4 = 7\n#### 7', '7'],
  ['so \\boxed{7}', '7'],
  ['7', '7'],
  [' seven \n', 'seven'],
])('the answer of the reference %j is %j', (reference, answer) => {
  expect(referenceAnswer(reference)).toBe(answer);
});

describe('equal answers', () => {
  test.each([
    ['1,000', '1000'],
    ['1000.0', '1000'],
    ['1,000.50', '1000.5'],
    ['+7', '7'],
    ['007', '7'],
    ['.5', '0.5'],
    ['5.', '5'],
    ['-0', '0'],
    ['$12$', '12'],
    ['a  b', 'a b'],
    ['Paris.', 'Paris'],
    ['e\u0301', '\u00e9'], // the same letter, composed
    ['12345678901234567890.10', '12345678901234567890.1'], // beyond the digits of a double
  ])('%j is %j', (a, b) => {
    expect(answersMatch(a, b)).toBe(true);
    expect(answersMatch(b, a)).toBe(true);
  });

  test.each([
    ['1,00', '100'], // no thousands
    ['1/2', '0.5'], // nothing is calculated
    ['12345678901234567891', '12345678901234567890'],
    ['-7', '7'],
    ['Paris', 'paris'],
    ['.', '0'],
    ['7 apples', '7'],
  ])('%j is not %j', (a, b) => expect(answersMatch(a, b)).toBe(false));
});

test.each([
  ['1/2', '0.5'],
  ['Paris', 'Paris'],
  ['\\sqrt{8}', '2\\sqrt{2}'],
])('%j is the mathematics of %j', (a, b) => {
  expect(answersMatch(a, b, 'mathematics')).toBe(true);
  expect(answerReward(`it is \\boxed{${a}}`, `#### ${b}`, { equality: 'mathematics' })).toBe(1);
  expect(answersMatch(a, `${b}+1`, 'mathematics')).toBe(false);
});

test('the reward is 1 for the right answer, 0 for a wrong one and for none', () => {
  expect(answerReward('it is \\boxed{1,000}', '#### 1000')).toBe(1);
  expect(answerReward('it is \\boxed{1,001}', '#### 1000')).toBe(0);
  expect(answerReward('', '1000')).toBe(0);
});
