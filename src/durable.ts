import { open, rename, rm, writeFile } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { errnoOf } from './file-error.ts';

/** What file systems say that cannot sync a folder, or a file opened for reading. */
const CANNOT_SYNC = new Set(['EPERM', 'EINVAL', 'EISDIR', 'EACCES', 'ENOTSUP']);

/**
 * Waits until a file's contents, or what a folder lists, are on disk: a rename is durable once its folder is. Where the file
 * system cannot do that, it is as durable as it makes it.
 */
export async function sync(path: string): Promise<void> {
  let handle: Awaited<ReturnType<typeof open>> | undefined;
  try {
    handle = await open(path, 'r');
    await handle.sync();
  } catch (thrown) {
    if (!CANNOT_SYNC.has(errnoOf(thrown) ?? '')) throw thrown;
  } finally {
    await handle?.close();
  }
}

/** Writes `path` beside and renames it: after a crash or on a full disk it is what it was or what it shall be. */
export async function replaceFile(path: string, content: string): Promise<void> {
  const partial = `${path}.partial`;
  try {
    await writeFile(partial, content, { flush: true });
    await rename(partial, path);
    await sync(dirname(resolve(path)));
  } catch (thrown) {
    await rm(partial, { force: true });
    throw thrown;
  }
}
