import { expect, test } from 'vitest';
import { accuracyMetrics, passAtK, standardError } from '../../src/eval/index.ts';

test('pass@k is the share of k-subsets with a right sample', () => {
  // All subsets, counted: n samples of which c are right.
  const counted = (n: number, c: number, k: number) => {
    let [all, hit] = [0, 0];
    for (let subset = 0; subset < 2 ** n; subset++) {
      const members = Array.from({ length: n }, (_, i) => i).filter((i) => subset & (1 << i));
      if (members.length !== k) continue;
      all++;
      if (members.some((i) => i < c)) hit++;
    }
    return hit / all;
  };
  for (const [n, c, k] of [
    [5, 2, 1],
    [5, 2, 3],
    [6, 1, 4],
    [4, 0, 2],
    [4, 4, 2],
    [3, 1, 3],
  ]) {
    expect(passAtK(n, c, k)).toBeCloseTo(counted(n, c, k), 12);
  }
});

test('standard error over questions', () => {
  // 1, 0, 1, 1: deviation 0.5
  expect(standardError([1, 0, 1, 1])).toBeCloseTo(0.5 / 2, 12);
});

test('metrics of several samples', () => {
  // Means of the questions 1/2, 1, 0; of the rounds 2/3 and 1/3.
  const metrics = accuracyMetrics(
    [
      [1, 0],
      [1, 1],
      [0, 0],
    ],
    'exact_match',
    { suffix: ',f' },
  );
  expect(Object.keys(metrics)).toEqual([
    'exact_match,f',
    'exact_match_stderr,f',
    'exact_match_run_std,f',
    'pass@2,f',
    'pass@2_stderr,f',
  ]);
  expect(metrics['exact_match,f']).toBeCloseTo(1 / 2, 12);
  expect(metrics['exact_match_stderr,f']).toBeCloseTo(0.5 / Math.sqrt(3), 12);
  expect(metrics['exact_match_run_std,f']).toBeCloseTo(Math.sqrt(2) / 6, 12);
  expect(metrics['pass@2,f']).toBeCloseTo(2 / 3, 12);
  expect(accuracyMetrics([[1], [0]], 'acc')).toEqual({ acc: 0.5, acc_stderr: 0.5 });
});

test('one question has no standard error', () => {
  expect(accuracyMetrics([[1]], 'acc', { suffix: ',none' })).toEqual({ 'acc,none': 1 });
  expect(Object.keys(accuracyMetrics([[1, 0]], 'acc'))).toEqual(['acc', 'acc_run_std', 'pass@2']);
});
