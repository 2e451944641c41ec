import { expect, test } from 'vitest';
import { createProgress, withProgress } from '../../src/cli/progress.ts';
import { formatSummary } from '../../src/cli/summary.ts';
import { recordingIo } from './run-cli.ts';

test('without a terminal: the first and last report of a stage, and one every five seconds, on standard error', () => {
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
      'rollout: 2/4 documents  tokens/s 1235  reward 0.2500',
      'rollout: 4/4 documents  tokens/s 1235  reward 0.2500',
      'write: 1 files',
      '',
    ].join('\n'),
  });
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
