import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { UserError } from '../src/errors.ts';
import { checkUnlocked, Lock } from '../src/lock.ts';
import { withTemporaryFolder } from './cli/run-cli.ts';
import { deadPid, lockOf } from './fixtures/processes.ts';

const withLockPath = (use: (path: string, folder: string) => Promise<void>) =>
  withTemporaryFolder((folder) => use(join(folder, 'lock'), folder));

test('is held until it is released, and leaves nothing', async () => {
  await withLockPath(async (path, folder) => {
    {
      await using lock = await Lock.acquire(path, 'run r');
      expect(JSON.parse(await readFile(lock.path, 'utf8'))).toMatchObject({ pid: process.pid });
      await expect(Lock.acquire(path, 'run r')).rejects.toThrow(UserError);
      await expect(checkUnlocked(path, 'run r')).rejects.toThrow(
        new RegExp(
          `^run r: in use by process ${process.pid} on \\S+ since 20\\S+Z; wait until it has ended, or stop it$`,
        ),
      );
    }
    expect(await readdir(folder)).toEqual([]);
    await checkUnlocked(path, 'run r');
  });
});

test('of a process that runs is respected, of one that was killed it is taken over', async () => {
  await withLockPath(async (path, folder) => {
    const program = `
      import { Lock } from ${JSON.stringify(join(process.cwd(), 'src/lock.ts'))};
      await Lock.acquire(${JSON.stringify(path)}, 'run r');
      console.log('held');
      setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    await expect(Lock.acquire(path, 'run r')).rejects.toThrow(`run r: in use by process ${child.pid} on `);
    child.kill('SIGKILL');
    await once(child, 'exit');
    await checkUnlocked(path, 'run r');
    await using _lock = await Lock.acquire(path, 'run r');
    expect(await readdir(folder)).toEqual(['lock']);
  });
});

test.each<[string, () => Promise<string>]>([
  ['of a process that has ended', async () => lockOf(await deadPid())],
  ['of nobody: cut short by a crash', async () => '{"pid": 1'],
  ['without a word', async () => ''],
])('a lock %s is taken over', async (_, text) => {
  await withLockPath(async (path, folder) => {
    await writeFile(path, await text());
    await using _lock = await Lock.acquire(path, 'run r');
    expect(await readdir(folder)).toEqual(['lock']);
  });
});

test.skipIf(process.platform !== 'linux')('a pid that another process has been given is not its owner', async () => {
  await withLockPath(async (path) => {
    await writeFile(path, lockOf(process.pid, { started: '1' }));
    await using _lock = await Lock.acquire(path, 'run r');
  });
});

test('on another host it cannot be judged: the message says what to do', async () => {
  await withLockPath(async (path) => {
    await writeFile(path, lockOf(await deadPid(), { host: 'elsewhere' }));
    await expect(Lock.acquire(path, 'run r')).rejects.toThrow(
      new RegExp(
        `^run r: in use by process \\d+ on elsewhere since 2026-01-02T03:04:05.678Z; wait until it has ended; if it no longer runs there, remove ${path}$`,
      ),
    );
  });
});

test('removed by a user and taken by another, it is not removed again', async () => {
  await withLockPath(async (path) => {
    const lock = await Lock.acquire(path, 'run r');
    await rm(path);
    await writeFile(path, lockOf(1));
    await lock.release();
    expect(await readFile(path, 'utf8')).toBe(lockOf(1));
  });
});

test('one of many that find a stale lock gets it', async () => {
  await withLockPath(async (path) => {
    await writeFile(path, lockOf(await deadPid()));
    const tries = await Promise.allSettled(Array.from({ length: 20 }, () => Lock.acquire(path, 'run r')));
    expect(tries.filter(({ status }) => status === 'fulfilled')).toHaveLength(1);
  });
});
