import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';

const run = promisify(execFile);
const script = (...args: string[]) => run(process.execPath, ['--import', 'tsx', 'scripts/gpu-check/index.ts', ...args]);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'gpu-check-test-'));
});
afterAll(() => rm(folder, { recursive: true }));

it('runs in small without a GPU: one file, one table', { timeout: 180_000 }, async () => {
  const out = join(folder, 'check.json');
  const { stdout } = await script('--device', 'mock', '--out', out);
  const report = JSON.parse(await readFile(out, 'utf8')) as {
    findings: { part: string; what: string; value: number; ok?: boolean }[];
    notRun: object;
  };
  expect(report.notRun).toEqual({});
  const parts = ['accuracy', 'rollouts', 'rlp', 'limits', 'decode', 'training', 'rlp-step'];
  expect([...new Set(report.findings.map(({ part }) => part))]).toEqual(parts);
  expect(report.findings.filter(({ ok }) => ok === false)).toEqual([]);
  expect(report.findings.filter(({ ok }) => ok).length).toBeGreaterThanOrEqual(10);
  for (const { what, value } of report.findings) expect(value, what).toBeGreaterThanOrEqual(0);
  // On the mock device what would cross is counted.
  const bytes = report.findings.find(({ part, what }) => part === 'rlp' && what.includes('bytes to the device'));
  expect(bytes?.value).toBeGreaterThan(0);
  expect(stdout.trimEnd().split('\n')).toHaveLength(report.findings.length + 2);
});

it('stops in time, and says what was not run', async () => {
  const out = join(folder, 'short.json');
  const failed = await script('--device', 'cpu', '--part', 'accuracy,rlp', '--time-limit', '0', '--out', out).catch(
    (error: { code: number; stdout: string }) => error,
  );
  expect(failed).toMatchObject({ code: 1 });
  expect(failed.stdout).toContain('| accuracy | NOT RUN | the time limit was reached |');
});

it.each([
  [['--device', 'cuda:9'], /cannot use device cuda:9: [\s\S]*what is missing/],
  [['--device', 'tpu'], /--device tpu: expected cuda, cuda:N, cpu or mock/],
  [['--device', 'cpu', '--part', 'all'], /--part all: expected some of accuracy, rollouts/],
  [['--provider-libraries', 'no-such-folder'], /--provider-libraries .*no-such-folder: no such folder/],
  [['--provider-libraries', 'docs'], /has no libonnxruntime_providers_shared\.so \(it has /],
])('refuses %j', async (args, message) => {
  const out = join(folder, 'refused.json');
  const failed = await script(...args, '--out', out).catch((error: { code: number; stderr: string }) => error);
  expect(failed).toMatchObject({ code: 2 });
  expect(failed.stderr).toMatch(message);
  expect(failed.stderr).not.toContain('    at ');
  expect(existsSync(out)).toBe(false);
});
