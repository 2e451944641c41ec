import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { runCli } from './run-cli.ts';

const COMMANDS = ['export', 'rollout', 'train', 'inspect', 'doctor'];

test('--help lists every command and the exit codes', async () => {
  const { code, out, err } = await runCli(['--help']);
  expect(code).toBe(0);
  expect(err).toBe('');
  for (const command of COMMANDS) expect(out).toContain(`rlp-ort ${command}`);
  expect(out).toContain('Exit codes: 0 done, 1 failed, 2 change something.');
});

test.each(COMMANDS)('%s --help has examples and says nothing on standard error', async (command) => {
  const { code, out, err } = await runCli([command, '--help']);
  expect(code).toBe(0);
  expect(err).toBe('');
  expect(out).toMatch(new RegExp(`Examples:\\n {2}# .*\\n {2}rlp-ort ${command}`));
});

test('help shows the type, the bound and the default that the schema has', async () => {
  const { out } = await runCli(['train', '-h']);
  expect(out).toMatch(
    /--group-size\s+Thoughts per position, or answers per prompt \(G\) \(whole number, at least 2\)\s+\[default: 16, 8 for rpt and grpo\]/,
  );
  expect(out).toMatch(/--weight-decay.*\s+\[default: 0, 0\.1 for cpt, 0\.01 for rpt\]/);
  expect(out).toMatch(
    /--schedule[^[]*?\(constant \| linear \| cosine\)\s+\[default: constant for rlp and rpt, cosine for cpt and grpo, linear for sft\]/,
  );
});

test('--version is the version of the package', async () => {
  const manifest: { version: string } = JSON.parse(readFileSync('package.json', 'utf8'));
  expect(await runCli(['--version'])).toEqual({ code: 0, out: `${manifest.version}\n`, err: '' });
});

test.each<[string[], string]>([
  [[], 'which command? See rlp-ort --help'],
  [['trian'], 'unknown command trian; did you mean train?'],
  [['frobnicate'], 'unknown command frobnicate; see rlp-ort --help'],
  [['export'], 'export <checkpoint>: the argument is missing; see rlp-ort export --help'],
  [['export', 'a', 'b', '--out', 'c'], 'unexpected argument b; see --help'],
  [['export', 'a'], '--out is missing: Folder to create for the graphs, the weights and the tokenizer'],
  [['export', 'a', '--out'], '--out needs a value; see --help'],
  [['export', 'a', '--out', 'b', '--overwritten'], '--overwritten: unknown option; did you mean --overwrite?'],
  [['doctor', '--group-size', '4'], '--group-size: unknown option; see --help'],
])('%j is refused with exit code 2 and a message on standard error alone', async (args, message) => {
  expect(await runCli(args)).toEqual({ code: 2, out: '', err: `rlp-ort: ${message}\n` });
});

test('every problem of a call is listed at once', async () => {
  const args = ['rollout', '--modle', 'm', '--group-size', '1', '--temperature', '-1', '--seed', '1', '--seed', '2'];
  const { code, out, err } = await runCli([
    ...args,
    '--limit',
    'ten',
    '--position-strategy',
    'some',
    '--device',
    'gpu',
  ]);
  expect(code).toBe(2);
  expect(out).toBe('');
  expect(err).toMatchInlineSnapshot(`
    "rlp-ort: 10 problems:
      --modle: unknown option; did you mean --model?
      --model is missing: Folder written by \`rlp-ort export\`, or a Hugging Face checkpoint
      --data is missing: Files of text: .txt, .jsonl, .json, .csv, .parquet, .arrow; patterns such as "data/*.jsonl"; - for standard input
      --out is missing: Arrow file to create, one row a thought
      --group-size 1: must be a whole number, at least 2 (a thought is paid relative to the others at its position)
      --position-strategy some: must be one of uniform, column, every, entropy, surprise
      --temperature -1: must be a number, at least 0
      --seed ["1","2"]: is given more than once
      --limit ten: must be a whole number, at least 1
      --device gpu: must be cpu, cuda or cuda:N
    "
  `);
});

test('an error of the program exits with 1 and shows its stack on request only', async () => {
  const broken = {
    out: () => {
      throw new Error('the pipe burst');
    },
  };
  const quiet = await runCli(['doctor', '--json'], broken);
  expect(quiet.code).toBe(1);
  expect(quiet.err).toMatch(/^rlp-ort: failed: the pipe burst\nThis is an error of the program/);
  expect(quiet.err).not.toContain('at ');
  const loud = await runCli(['doctor', '--json', '--verbose'], broken);
  expect(loud.err).toMatch(/Error: the pipe burst\n {4}at /);
});

test('an interrupted command says so', async () => {
  const out = () => {
    throw new Error('aborted');
  };
  const result = await runCli(['doctor', '--json'], { out, signal: AbortSignal.abort() });
  expect(result).toMatchObject({ code: 1, err: 'rlp-ort: interrupted\n' });
});

test('as a process: results on standard output, messages on standard error, the exit code', () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', ...args], { encoding: 'utf8' });
  const good = run('train', '--model', 'm', '--data', 'a', '--run', 'r', '--dry-run', '--json');
  expect(good).toMatchObject({ status: 0, stderr: '' });
  expect(JSON.parse(good.stdout)).toMatchObject({ model: 'm', data: ['a'], 'group-size': 16 });
  const bad = run('train', '--model', 'm', '--data', 'a', '--run', 'r', '--temperature', '-1');
  expect(bad).toMatchObject({
    status: 2,
    stdout: '',
    stderr: 'rlp-ort: --temperature -1: must be a number, at least 0\n',
  });
});
