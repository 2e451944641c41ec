import { expect, test } from 'vitest';
import { type AdvantageOptions, givesGradient, groupAdvantages } from '../../src/reward/index.ts';

/** Which of a step's groups are kept. */
const kept = (rewards: readonly number[][], options?: AdvantageOptions, excluded: readonly boolean[] = []) =>
  groupAdvantages(
    rewards.map((group, b) => ({ document: b, rewards: group, excluded })),
    options,
  ).map(givesGradient);

test('groups of equal rewards give no gradient, all others do', () => {
  // r - mean of the others: 0, 0, 0; then -0.15, 0, 0.15; then 1, -0.5, -0.5.
  expect(
    kept([
      [0.7, 0.7, 0.7],
      [-0.8, -0.7, -0.6],
      [1, 0, 0],
    ]),
  ).toEqual([false, true, true]);
  // The bound is 1e-8 on the largest |A|: 3/2 * (e - e/3) = e.
  expect(
    kept([
      [0, 0, 1.01e-8],
      [0, 0, 0.99e-8],
    ]),
  ).toEqual([true, false]);
});

test('it is the advantage that counts: after comparison, scale and sign', () => {
  const rewards = [
    [0.2, 0.2],
    [0.6, 0.6],
  ];
  expect(kept(rewards)).toEqual([false, false]);
  // Across positions the two groups differ, however equal each is in itself.
  expect(kept(rewards, { group: 'step' })).toEqual([true, true]);
  // No thought helps: whatever spread there is has no gradient.
  expect(kept([[-0.2, -0.4]], { sign: 'positive' })).toEqual([false]);
  expect(kept([[-0.2, -0.4]])).toEqual([true]);
});

test('without two thoughts that take part there is nothing to compare', () => {
  expect(kept([[1, 0, 3]], {}, [true, true, false])).toEqual([false]);
  expect(kept([[1, 0, 3]], {}, [true, true, true])).toEqual([false]);
  expect(kept([[1, 0, 3]], {}, [true, false, false])).toEqual([true]);
  expect(givesGradient([])).toBe(false);
});
