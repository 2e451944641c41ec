import { expect, test } from 'vitest';
import { createProgress, createTimeLeft, withProgress } from '../../src/cli/progress.ts';
import { formatSummary } from '../../src/cli/summary.ts';
import { formatDuration } from '../../src/report/duration.ts';
import { recordingIo } from './run-cli.ts';

test('without a terminal: the first and last report of a stage, and one every five seconds with the time left', () => {
  const io = recordingIo();
  let now = 0;
  const { report } = createProgress(io, () => now);
  for (let done = 0; done <= 4; done++) {
    report({ stage: 'rollout', done, total: 4, unit: 'documents', figures: { 'tokens/s': 1234.5, reward: 0.25 } });
    now += 3_000;
  }
  report({ stage: 'write', done: 1, unit: 'files' });
  expect(io.written()).toEqual({
    out: '',
    err: [
      'rollout: 0/4 documents  tokens/s 1235  reward 0.2500',
      'rollout: 2/4 documents  tokens/s 1235  reward 0.2500  6s left',
      'rollout: 4/4 documents  tokens/s 1235  reward 0.2500',
      'write: 1 files',
      '',
    ].join('\n'),
  });
});

test('stages that take turns do not flood a log', () => {
  const io = recordingIo();
  let now = 0;
  const { report } = createProgress(io, () => now);
  for (let step = 1; step <= 4; step++) {
    report({ stage: 'rollout', done: 0, total: 8, unit: 'documents' });
    report({ stage: 'rollout', done: 8, total: 8, unit: 'documents' });
    report({ stage: 'train', done: step, total: 4, unit: 'steps' });
    now += 2_000;
  }
  expect(io.written().err.trimEnd().split('\n')).toEqual([
    'rollout: 0/8 documents',
    'rollout: 8/8 documents',
    'train: 1/4 steps',
    'rollout: 0/8 documents',
    'train: 4/4 steps',
  ]);
});

test('time left follows the pace of a stage, also when another comes between', () => {
  let now = 0;
  const timeLeft = createTimeLeft(() => now);
  const train = (done: number) => timeLeft({ stage: 'train', done, total: 100, unit: 'steps' });
  expect(train(0)).toBe('');
  now = 20_000;
  expect(timeLeft({ stage: 'rollout', done: 5, total: 9, unit: 'documents' })).toBe('');
  expect(train(10)).toBe('3m00s left');
  expect(train(0)).toBe('');
  now = 30_000;
  expect(timeLeft({ stage: 'train', done: 0, inFlight: 0.5, total: 2, unit: 'steps' })).toBe('30s left');
  expect(timeLeft({ stage: 'write', done: 5, unit: 'files' })).toBe('');
  expect([0, 59.4, 61, 3599, 7260].map(formatDuration)).toEqual(['0s', '59s', '1m01s', '59m59s', '2h01m']);
});

test('the result and the error of the work pass through', async () => {
  expect(await withProgress(recordingIo(), async () => 7)).toBe(7);
  await expect(withProgress(recordingIo(), () => Promise.reject(new Error('no')))).rejects.toThrow('no');
});

test('a summary for people', () => {
  const summary = {
    out: 'a.arrow',
    rows: 4096,
    reward: { mean: 0.123456, min: -1e-7 },
    files: ['a', 'b'],
    none: undefined,
  };
  expect(formatSummary(summary)).toBe(
    [
      'out          a.arrow',
      'rows         4096',
      'reward mean  0.1235',
      'reward min   -1.00e-7',
      'files        a, b',
    ].join('\n'),
  );
});
