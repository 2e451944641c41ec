import { expect, it } from 'vitest';
import { learningRateAt, type Schedule, type ScheduleName } from '../../src/optim/index.ts';

const schedule = (name: ScheduleName, warmupSteps = 0): Schedule => ({
  name,
  learningRate: 8,
  finalLearningRate: 2,
  warmupSteps,
  totalSteps: warmupSteps + 4,
});
const rates = (of: Schedule, steps: number) => Array.from({ length: steps }, (_, i) => learningRateAt(of, i + 1));

it('constant stays at the peak', () => {
  expect(rates(schedule('constant'), 4)).toEqual([8, 8, 8, 8]);
});

it('linear falls by equal parts to the final rate, at the last step', () => {
  expect(rates(schedule('linear'), 4)).toEqual([6.5, 5, 3.5, 2]);
});

it('cosine falls slowly at both ends: 2 + 6 (1 + cos(pi p)) / 2 at p = 1/4, 1/2, 3/4, 1', () => {
  const root = Math.SQRT1_2;
  const expected = [2 + 3 * (1 + root), 5, 2 + 3 * (1 - root), 2];
  rates(schedule('cosine'), 4).forEach((rate, i) => {
    expect(rate).toBeCloseTo(expected[i], 12);
  });
});

it.each(['constant', 'linear', 'cosine'] as const)('%s rises linearly over the warm-up to the peak', (name) => {
  expect(rates(schedule(name, 4), 4)).toEqual([2, 4, 6, 8]);
  expect(learningRateAt(schedule(name, 4), 6)).toBe(learningRateAt(schedule(name), 2));
});

it('stays at the final rate after the last step', () => {
  expect(learningRateAt(schedule('linear'), 9)).toBe(2);
  expect(learningRateAt(schedule('cosine'), 9)).toBe(2);
});

it('may be all warm-up', () => {
  const short: Schedule = { ...schedule('linear'), warmupSteps: 4, totalSteps: 4 };
  expect(rates(short, 4)).toEqual([2, 4, 6, 8]);
});
