import { expect, test } from 'vitest';
import { prefixMatchReward, statedText } from '../../src/reward/index.ts';

const bytes = (text: string) => new Uint8Array(Buffer.from(text));
const CONTINUATION = [' the', ' end', '.'].map(bytes);

test.each([
  [' the', 1],
  [' the end', 1],
  [' the end.', 1],
  ['', 0], // empty
  [' th', 0], // within a token
  [' the e', 0],
  ['the', 0], // a space counts
  [' The', 0],
  [' the end. And', 0], // longer than what is known
  [' tha', 0],
])('of "%s" before " the| end|." is %i', (prediction, reward) => {
  expect(prefixMatchReward(bytes(prediction), CONTINUATION)).toBe(reward);
});

test('a character in several tokens may be predicted as far as one of them goes', () => {
  // U+20AC is e2 82 ac; here in two tokens, as a byte-level vocabulary may have it.
  const euro = [Uint8Array.of(0xe2, 0x82), Uint8Array.of(0xac), bytes('1')];
  expect(prefixMatchReward(Uint8Array.of(0xe2), euro)).toBe(0);
  expect(prefixMatchReward(Uint8Array.of(0xe2, 0x82), euro)).toBe(1);
  expect(prefixMatchReward(bytes('\u20ac'), euro)).toBe(1);
  expect(prefixMatchReward(bytes('\u20ac1'), euro)).toBe(1);
  expect(prefixMatchReward(Uint8Array.of(0xe2, 0x83), euro)).toBe(0);
});

test('what is stated is the last box, as bytes, or all of the answer', () => {
  const answer = bytes('so \\boxed{a}, no: \\boxed{ \u20ac} it is');
  expect([...statedText(answer, 'boxed')]).toEqual([...bytes(' \u20ac')]);
  expect(statedText(answer, 'text')).toBe(answer);
  const half = Uint8Array.from([...bytes('\\boxed{'), 0xe2, 0x82, ...bytes('}')]);
  expect([...statedText(half, 'boxed')]).toEqual([0xe2, 0x82]);
  expect([...statedText(bytes('no box'), 'boxed')]).toEqual([]);
});

test('a prediction of nothing is a bug', () => {
  expect(() => prefixMatchReward(bytes('a'), [])).toThrow('internal: a prediction of nothing');
});
