import { expect, test } from 'vitest';
import { poolGroups } from '../../src/reward/pooling.ts';
import { standardDeviation } from '../../src/reward/spread.ts';
import { unclosedRule } from '../../src/reward/unclosed.ts';

test('pools keep the order in which they are met', () => {
  const members = ['a', 'b', 'a'].map((document) => ({ document }));
  expect(poolGroups(members, 'position')).toEqual([[0], [1], [2]]);
  expect(poolGroups(members, 'document')).toEqual([[0, 2], [1]]);
  expect(poolGroups(members, 'step')).toEqual([[0, 1, 2]]);
});

test('sample standard deviation: 2, 4, 4, 4, 5, 5, 7, 9 around 5, and its degenerate cases', () => {
  expect(standardDeviation([2, 4, 4, 4, 5, 5, 7, 9])).toBeCloseTo(Math.sqrt(32 / 7), 12);
  expect(standardDeviation([-0.1, -0.1, -0.1])).toBe(0);
  expect(standardDeviation([3])).toBe(0);
  expect(standardDeviation([2 ** 40, 2 ** 40 + 1])).toBeCloseTo(Math.SQRT1_2, 12);
});

test('unclosed thoughts are paid, left out or penalised; closed ones are paid', () => {
  for (const reason of ['length', 'eos'] as const) {
    expect(unclosedRule(reason, 'close', 3)).toEqual({ penalty: 0, excluded: false });
    expect(unclosedRule(reason, 'drop', 3)).toEqual({ penalty: 0, excluded: true });
    expect(unclosedRule(reason, 'penalize', 3)).toEqual({ penalty: 3, excluded: false });
  }
  for (const kind of ['close', 'drop', 'penalize'] as const) {
    expect(unclosedRule('closed', kind, 3)).toEqual({ penalty: 0, excluded: false });
  }
});
