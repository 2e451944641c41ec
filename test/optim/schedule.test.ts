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

it('linear falls by equal parts to the final rate, which the step after the last would have', () => {
  expect(rates(schedule('linear'), 5)).toEqual([8, 6.5, 5, 3.5, 2]);
});

it('cosine falls slowly at both ends: 2 + 6 (1 + cos(pi p)) / 2 at p = 0, 1/4, 1/2, 3/4', () => {
  const root = Math.SQRT1_2;
  const expected = [8, 2 + 3 * (1 + root), 5, 2 + 3 * (1 - root)];
  rates(schedule('cosine'), 4).forEach((rate, i) => {
    expect(rate).toBeCloseTo(expected[i], 12);
  });
});

it.each(['constant', 'linear', 'cosine'] as const)('%s rises linearly over the warm-up to the peak', (name) => {
  expect(rates(schedule(name, 4), 4)).toEqual([2, 4, 6, 8]);
});

it('falls from the peak of the warm-up on', () => {
  expect(rates({ ...schedule('linear', 2), totalSteps: 4 }, 5)).toEqual([4, 8, 6, 4, 2]);
});

it('a run of one step has the peak', () => {
  expect(learningRateAt({ ...schedule('cosine'), totalSteps: 1 }, 1)).toBe(8);
});

// torch.optim.lr_scheduler.LambdaLR with transformers' get_cosine_schedule_with_warmup(optimizer, 0, 5), peak 8.
it('is the cosine of transformers', () => {
  const golden = [8, 7.23606797749979, 5.23606797749979, 2.7639320225002106, 0.7639320225002106];
  rates({ ...schedule('cosine'), finalLearningRate: 0, totalSteps: 5 }, 5).forEach((rate, i) => {
    expect(rate).toBeCloseTo(golden[i], 12);
  });
});

it('stays at the final rate after the last step', () => {
  expect(learningRateAt(schedule('linear'), 9)).toBe(2);
  expect(learningRateAt(schedule('cosine'), 9)).toBe(2);
});

it('may be all warm-up', () => {
  const short: Schedule = { ...schedule('linear'), warmupSteps: 4, totalSteps: 4 };
  expect(rates(short, 4)).toEqual([2, 4, 6, 8]);
});
