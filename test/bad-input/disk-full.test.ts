import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { readRollouts } from '../../src/arrow.ts';
import { runtimeInfo } from '../../src/runtime/index.ts';
import { runCli } from '../cli/run-cli.ts';
import { argumentsOf, contentOf, type Workplace, workplace } from './refused.ts';

const FILE_SIZE = 1; // RLIMIT_FSIZE of Linux and macOS
const setLimits = (soft: bigint) => {
  const libc = koffi.load(null);
  const [getrlimit, setrlimit] = ['getrlimit', 'setrlimit'].map((name) => libc.func(`int ${name}(int, void *)`));
  const limits = new BigUint64Array(2); // soft, hard
  expect(getrlimit(FILE_SIZE, limits)).toBe(0);
  limits[0] = soft < limits[1] ? soft : limits[1];
  expect(setrlimit(FILE_SIZE, limits)).toBe(0);
};

/**
 * Runs the program where no file can grow over a limit: writes fail in the kernel, in the middle of a file, as they do on a
 * full disk (EFBIG instead of ENOSPC), and no root is needed. Node ignores the signal that comes with it.
 */
async function withLimit(bytes: number, args: readonly string[]) {
  setLimits(BigInt(bytes));
  try {
    const { code, out, err } = await runCli(args);
    expect(err).not.toMatch(/\n\s+at /);
    return {
      code,
      out,
      message: err
        .split('\n')
        .filter((line) => line.startsWith('rlp-ort: ') && !line.startsWith('rlp-ort: planned memory'))
        .join('\n'),
    };
  } finally {
    setLimits(2n ** 64n - 1n);
  }
}

// koffi is configured once, for ONNX Runtime, before any library is loaded.
beforeAll(() => void runtimeInfo());

let folder: Workplace;
beforeEach(async () => {
  folder = await workplace();
});
afterEach(() => folder[Symbol.dispose]());

const fails = (path: string) => ({
  code: 2,
  out: '',
  message: expect.stringMatching(
    new RegExp(`^rlp-ort: cannot write ${path}.*: the file is larger than .* the process allows \\(EFBIG\\)$`),
  ),
});

describe.skipIf(process.platform === 'win32')('when the disk is full', () => {
  it('export leaves nothing, not even the folders it made', async () => {
    const before = contentOf(folder.path);
    expect(await withLimit(80_000, argumentsOf('export', folder))).toEqual(fails(folder.in('new', 'out')));
    expect(contentOf(folder.path)).toEqual(before);
  });

  it('rollout leaves nothing if it was full from the start', async () => {
    const before = contentOf(folder.path);
    expect(await withLimit(1000, argumentsOf('rollout', folder))).toEqual(
      fails(`${folder.in('new', 'out.arrow')}.partial`),
    );
    expect(contentOf(folder.path)).toEqual(before);
  });

  it('rollout keeps whole batches, and goes on from there', async () => {
    const flags = {
      ...{ data: 'models/tiny-qwen3/corpus/held-out.jsonl', limit: '12', 'documents-per-batch': '2' },
      ...{ 'position-strategy': 'every', 'group-size': '8' },
    };
    const args = argumentsOf('rollout', folder, flags);
    const out = folder.in('new', 'out.arrow');
    expect(await withLimit(100_000, args)).toEqual(fails(`${out}.partial`));
    const { batches, complete } = await readRollouts(`${out}.partial`);
    expect(complete).toBe(false);
    expect(batches).toBeGreaterThan(0);
    expect(batches).toBeLessThan(6);
    expect((await runCli([...args, '--resume'])).code).toBe(0);
    const whole = folder.in('whole.arrow');
    expect((await runCli(argumentsOf('rollout', folder, { ...flags, out: whole }))).code).toBe(0);
    expect(readFileSync(out).equals(readFileSync(whole))).toBe(true);
  });

  it('train leaves no half run', async () => {
    const before = contentOf(folder.path);
    expect(await withLimit(0, argumentsOf('train cpt', folder))).toEqual(fails(folder.in('new', 'run')));
    expect(contentOf(folder.path)).toEqual(before);
  });

  it('train leaves no half checkpoint, and goes on when there is room', async () => {
    const args = argumentsOf('train cpt', folder, { steps: '2' });
    const run = folder.in('new', 'run');
    expect(await withLimit(80_000, args)).toEqual(fails(join(run, 'checkpoints', 'step-000002')));
    expect(readdirSync(join(run, 'checkpoints'))).toEqual([]);
    expect((await runCli(['train', '--run', run, '--resume'])).code).toBe(0);
    expect(existsSync(join(run, 'checkpoints', 'step-000002', 'model.safetensors'))).toBe(true);
    expect(readFileSync(join(run, 'metrics.jsonl'), 'utf8').match(/"step":/g)).toHaveLength(2);
  });
});
