import { mkdir, readdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { UserError } from '../src/errors.ts';
import { checkOutputPath, withAtomicDirectory } from '../src/output.ts';
import { temporaryFolder } from './export/checkpoint-fixture.ts';
import { deadPid, lockOf } from './fixtures/processes.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

const writes = (text: string) => async (directory: string) => {
  await mkdir(join(directory, 'sub'));
  await writeFile(join(directory, 'sub', 'a.txt'), text);
  return text.length;
};

describe('withAtomicDirectory', () => {
  it('makes the folder, its parents and the marker, and returns the result', async () => {
    const out = folder.in('x', 'y', 'out');
    expect(await withAtomicDirectory(out, writes('new'), { kind: 'test' })).toBe(3);
    expect(await readFile(join(out, 'sub', 'a.txt'), 'utf8')).toBe('new');
    expect(JSON.parse(await readFile(join(out, 'rlp-ort.json'), 'utf8'))).toEqual({ tool: 'rlp-ort', kind: 'test' });
    expect(await readdir(folder.in('x', 'y'))).toEqual(['out']);
  });

  it('shows nothing at the final place before the end', async () => {
    await withAtomicDirectory(folder.in('out'), async (temporary) => {
      const partial = expect.stringMatching(new RegExp(`^out\\.partial-${process.pid}-`));
      expect((await readdir(folder.path)).sort()).toEqual(['out.lock', partial]);
      expect(temporary).toContain(folder.in('out.partial-'));
    });
    expect(await readdir(folder.path)).toEqual(['out']);
  });

  it('leaves nothing behind when filling fails, not even parents', async () => {
    const failing = withAtomicDirectory(folder.in('x', 'y', 'out'), async (temporary) => {
      await writes('half')(temporary);
      throw new Error('stop');
    });
    await expect(failing).rejects.toThrow('stop');
    expect(await readdir(folder.path)).toEqual([]);
  });

  it('turns a failing file system into a UserError', async () => {
    await writeFile(folder.in('file'), '');
    const below = withAtomicDirectory(folder.in('file', 'out'), writes(''));
    await expect(below).rejects.toMatchObject({ name: 'UserError', message: expect.stringContaining('(ENOTDIR)') });
    const full = withAtomicDirectory(folder.in('out'), async () => {
      throw Object.assign(new Error('ENOSPC: no space left'), { code: 'ENOSPC' });
    });
    await expect(full).rejects.toThrow(`cannot write ${folder.in('out')}: no space left on the device`);
    expect(await readdir(folder.path)).toEqual(['file']);
  });

  it('replaces its own folder only with overwrite, and all of it', async () => {
    const out = folder.in('out');
    await withAtomicDirectory(out, writes('old'));
    await writeFile(join(out, 'old.txt'), '');
    const again = withAtomicDirectory(out, writes('new'), { overwrite: false });
    await expect(again).rejects.toThrow('exists already; pass --overwrite to replace it');
    await expect(withAtomicDirectory(out, writes('new'))).rejects.toThrow('exists already; choose a path that is free');
    await withAtomicDirectory(out, writes('new'), { overwrite: true });
    expect((await readdir(out)).sort()).toEqual(['rlp-ort.json', 'sub']);
    expect(await readFile(join(out, 'sub', 'a.txt'), 'utf8')).toBe('new');
    expect(await readdir(folder.path)).toEqual(['out']);
  });

  it('keeps the old folder when the new one fails', async () => {
    const out = folder.in('out');
    await withAtomicDirectory(out, writes('old'));
    const failing = withAtomicDirectory(out, async () => Promise.reject(new Error('stop')), { overwrite: true });
    await expect(failing).rejects.toThrow('stop');
    expect(await readFile(join(out, 'sub', 'a.txt'), 'utf8')).toBe('old');
    expect(await readdir(folder.path)).toEqual(['out']);
  });

  it('removes what killed processes left, and nothing else', async () => {
    await mkdir(folder.in('out.partial-123-abcd', 'sub'), { recursive: true });
    await writeFile(folder.in('out.partial-123-abcd', 'sub', 'half.bin'), '');
    await mkdir(folder.in('output.partial-123-abcd'));
    await writeFile(folder.in('out.lock'), lockOf(await deadPid()));
    await withAtomicDirectory(folder.in('out'), writes('new'));
    expect((await readdir(folder.path)).sort()).toEqual(['out', 'output.partial-123-abcd']);
  });

  it('killed between the two renames of a replacement is as if it had not begun', async () => {
    const out = folder.in('out');
    await withAtomicDirectory(out, writes('old'));
    await rename(out, folder.in('out.partial-123-abcd.old'));
    await mkdir(folder.in('out.partial-123-abcd'));
    await expect(withAtomicDirectory(out, writes('new'), { overwrite: false })).rejects.toThrow('exists already');
    expect(await readFile(join(out, 'sub', 'a.txt'), 'utf8')).toBe('old');
    expect(await readdir(folder.path)).toEqual(['out']);
  });

  it('refuses a place that another process writes to', async () => {
    const out = folder.in('out');
    await withAtomicDirectory(out, async () => {
      const second = withAtomicDirectory(out, writes(''));
      await expect(second).rejects.toThrow(UserError);
      await expect(second).rejects.toThrow(
        new RegExp(
          `^output ${out}: in use by process ${process.pid} on \\S+ since 20\\S+Z; wait until it has ended, or stop it$`,
        ),
      );
    });
    expect(await readdir(folder.path)).toEqual(['out']);
  });

  it('refuses a place that was taken in the meantime', async () => {
    const racing = withAtomicDirectory(folder.in('out'), async () => {
      await mkdir(folder.in('out'));
      await writeFile(folder.in('out', 'other'), '');
    });
    await expect(racing).rejects.toThrow('holds files that rlp-ort did not write');
    expect(await readdir(folder.in('out'))).toEqual(['other']);
    expect(await readdir(folder.path)).toEqual(['out']);
  });
});

describe('checkOutputPath', () => {
  it('accepts what is free', async () => {
    await checkOutputPath(folder.in('new', 'out'));
    await mkdir(folder.in('empty'));
    await checkOutputPath(folder.in('empty'));
    await withAtomicDirectory(folder.in('empty'), writes('new'));
    expect(await readdir(folder.path)).toEqual(['empty']);
  });

  it('replaces nothing of another kind', async () => {
    const out = folder.in('run');
    await withAtomicDirectory(out, writes('old'), { kind: 'run' });
    await expect(checkOutputPath(out, { kind: 'export', overwrite: true })).rejects.toThrow(
      `output ${out}: holds another kind of output (run); choose a path that is free`,
    );
    await checkOutputPath(out, { kind: 'run', overwrite: true });
  });

  // Root may write anywhere.
  it.skipIf(process.getuid?.() === 0 || process.platform === 'win32')(
    'refuses a folder that is not ours to write',
    async () => {
      await mkdir(folder.in('locked'), { mode: 0o500 });
      await expect(checkOutputPath(folder.in('locked', 'a', 'out'))).rejects.toThrow(
        `cannot write into ${folder.in('locked')}: permission denied (EACCES)`,
      );
    },
  );

  it('refuses files, links and folders of others, overwrite or not', async () => {
    await writeFile(folder.in('file'), '');
    await mkdir(folder.in('other'));
    await writeFile(folder.in('other', 'rlp-ort.json'), '{"tool": "something else"}');
    await symlink(folder.in('other'), folder.in('link'));
    for (const overwrite of [false, true]) {
      await expect(checkOutputPath(folder.in('file'), { overwrite })).rejects.toThrow('exists and is not a folder');
      await expect(checkOutputPath(folder.in('link'), { overwrite })).rejects.toThrow('exists and is not a folder');
      await expect(checkOutputPath(folder.in('other'), { overwrite })).rejects.toThrow(
        'did not write (no rlp-ort.json)',
      );
    }
  });
});
