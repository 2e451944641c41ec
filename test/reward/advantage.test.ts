import { expect, test } from 'vitest';
import { UserError } from '../../src/errors.ts';
import { Random } from '../../src/random.ts';
import { groupRelativeAdvantages } from '../../src/reward/advantage.ts';

test('worked example: r = [-.8, -.6, -.5, -.3], mean -.55, times 4/3', () => {
  const advantages = groupRelativeAdvantages([-0.8, -0.6, -0.5, -0.3]);
  for (const [i, expected] of [-1 / 3, -1 / 15, 1 / 15, 1 / 3].entries())
    expect(advantages[i]).toBeCloseTo(expected, 12);
});

test('equals the leave-one-out baseline and sums to zero', () => {
  const random = new Random(1, 'advantage');
  for (let size = 2; size <= 16; size++) {
    const scores = Array.from({ length: size }, () => random.normal());
    const advantages = groupRelativeAdvantages(scores);
    const total = scores.reduce((a, b) => a + b, 0);
    for (const [i, score] of scores.entries()) {
      expect(advantages[i]).toBeCloseTo(score - (total - score) / (size - 1), 12);
    }
    expect(advantages.reduce((a, b) => a + b, 0)).toBeCloseTo(0, 12);
  }
});

test('a group of two: plus and minus the difference', () => {
  expect([...groupRelativeAdvantages([-1, -3])]).toEqual([2, -2]);
});

test('equal scores give exact zeros', () => {
  expect([...groupRelativeAdvantages([-0.1, -0.1, -0.1])].map(Math.abs)).toEqual([0, 0, 0]);
});

test('a large common part costs no digits', () => {
  const offset = 2 ** 30;
  expect([...groupRelativeAdvantages([offset + 0.5, offset, offset + 0.25])]).toEqual([
    ...groupRelativeAdvantages([0.5, 0, 0.25]),
  ]);
});

test.each([[[]], [[-1]]])('needs two thoughts: %j', (scores) => {
  expect(() => groupRelativeAdvantages(scores)).toThrow(UserError);
  expect(() => groupRelativeAdvantages(scores)).toThrow('needs at least 2; raise the group size');
});
