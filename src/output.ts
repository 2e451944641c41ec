import { randomBytes } from 'node:crypto';
import { access, constants, lstat, mkdir, readdir, readFile, rename, rm, rmdir, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { sync } from './durable.ts';
import { UserError } from './errors.ts';
import { errnoOf, fileError } from './file-error.ts';
import { Lock } from './lock.ts';

/** File that marks a folder as written by this program, and so as one that --overwrite may replace. */
export const MARKER = 'rlp-ort.json';

export interface OutputOptions {
  /** Replace `out` if it carries our marker and is of the same kind. Anything else is never replaced. */
  overwrite?: boolean;
  /** What the folder holds, for the marker: 'checkpoint', 'export' ... */
  kind?: string;
}

async function statOrUndefined(path: string) {
  try {
    return await lstat(path);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw fileError('cannot look at', path, thrown);
  }
}

/** What the marker of a folder says it is; undefined if it is not ours. */
async function readMarker(directory: string): Promise<{ kind: string | undefined } | undefined> {
  try {
    const marker: unknown = JSON.parse(await readFile(join(directory, MARKER), 'utf8'));
    if (typeof marker !== 'object' || marker === null || !('tool' in marker) || marker.tool !== 'rlp-ort') return;
    return { kind: 'kind' in marker && typeof marker.kind === 'string' ? marker.kind : undefined };
  } catch {
    return undefined;
  }
}

/** Throws a UserError for a path below something that is no folder or that we may not write to; what is not there yet can be made. */
export async function checkParent(out: string): Promise<void> {
  const parent = dirname(resolve(out));
  const stat = await statOrUndefined(parent);
  if (stat === undefined) return checkParent(parent);
  try {
    await access(parent, constants.W_OK | constants.X_OK);
  } catch (thrown) {
    throw fileError('cannot write into', parent, thrown);
  }
}

/**
 * Throws a UserError unless `out` may become an output folder: it does not exist, or is an empty folder, or was written by
 * us as the same kind of folder and `overwrite` is set. Commands call it before the work, so that hours are not spent on a result that has no place.
 */
export async function checkOutputPath(out: string, options: OutputOptions = {}): Promise<void> {
  const stat = await statOrUndefined(out);
  if (stat === undefined) return checkParent(out);
  // A link is refused too: renaming over it would replace the link, not the folder it leads to.
  if (!stat.isDirectory()) throw new UserError(`output ${out}: exists and is not a folder; choose a path that is free`);
  if ((await readdir(out)).length === 0) return checkParent(out);
  const marker = await readMarker(out);
  if (marker === undefined) {
    const reason = `holds files that rlp-ort did not write (no ${MARKER})`;
    throw new UserError(`output ${out}: ${reason}; choose a path that is free`);
  }
  // A run is not given up for an export, whatever its flags say.
  if (marker.kind !== options.kind) {
    throw new UserError(`output ${out}: holds another kind of output (${marker.kind}); choose a path that is free`);
  }
  if (options.overwrite === undefined) throw new UserError(`output ${out}: exists already; choose a path that is free`);
  if (!options.overwrite) {
    throw new UserError(`output ${out}: exists already; pass --overwrite to replace it, or choose a path that is free`);
  }
}

async function syncTree(directory: string): Promise<void> {
  for (const entry of await readdir(directory, { withFileTypes: true })) {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) await syncTree(path);
    else if (entry.isFile()) await sync(path);
  }
  await sync(directory);
}

/** Removes `directory` and its parents up to `last`, as long as they are empty. */
async function removeEmpty(directory: string, last: string): Promise<void> {
  for (let path = directory; path.length >= last.length; path = dirname(path)) {
    try {
      await rmdir(path);
    } catch {
      return;
    }
  }
}

/** Does the work with the missing parents of `out` made; if it fails, those that are still empty are removed again. */
export async function withParents<T>(out: string, work: () => Promise<T>): Promise<T> {
  const parent = dirname(resolve(out));
  let firstCreated: string | undefined;
  try {
    firstCreated = await mkdir(parent, { recursive: true });
  } catch (thrown) {
    throw fileError('cannot make', parent, thrown);
  }
  try {
    return await work();
  } catch (thrown) {
    if (firstCreated !== undefined) await removeEmpty(parent, firstCreated);
    throw thrown;
  }
}

/** Added to the name of what is being replaced. */
const REPLACED = '.old';

/**
 * Removes what killed processes left of their work on `out`, whose lock is held: nobody else's work can be among it. One that
 * was killed between the two renames of moveIntoPlace left no `out`: it gets the old one back.
 */
async function removeLeftovers(out: string): Promise<void> {
  const parent = dirname(out);
  const start = `${basename(out)}.partial-`;
  const leftovers = (await readdir(parent)).filter((name) => name.startsWith(start));
  const old = leftovers.find((name) => name.endsWith(REPLACED));
  if (old !== undefined && (await statOrUndefined(out)) === undefined) await rename(join(parent, old), out);
  for (const name of leftovers) await rm(join(parent, name), { recursive: true, force: true });
}

/** Moves the finished folder into place; what it replaces is removed only once the new one stands. */
async function moveIntoPlace(temporary: string, out: string, options: OutputOptions): Promise<void> {
  await checkOutputPath(out, options);
  const stat = await statOrUndefined(out);
  const old = `${temporary}${REPLACED}`;
  if (stat !== undefined) await rename(out, old);
  try {
    await rename(temporary, out);
  } catch (thrown) {
    if (stat !== undefined) await rename(old, out);
    throw thrown;
  }
  await sync(dirname(out));
  if (stat !== undefined) await rm(old, { recursive: true, force: true });
}

/**
 * Makes a folder all at once: `fill` writes into a temporary folder beside `out` (`OUT.partial-PID-xxxx`, same file system),
 * every file is synced to disk, and the folder is renamed to `out`. Whoever sees `out` sees all of it. If anything fails,
 * nothing is left behind and `out` is as it was; what a kill left behind is removed by the next call. The marker file is
 * added unless `fill` wrote one. `OUT.lock` keeps other processes off meanwhile.
 *
 * Missing parents of `out` are created. Errors: UserError if `out` may not be written (see checkOutputPath), another process
 * writes it, or the file system fails (disk full, no permission); whatever `fill` throws.
 */
export async function withAtomicDirectory<T>(
  out: string,
  fill: (temporary: string) => Promise<T>,
  options: OutputOptions = {},
): Promise<T> {
  const target = resolve(out);
  await checkOutputPath(target, options);
  const temporary = `${target}.partial-${process.pid}-${randomBytes(2).toString('hex')}`;
  return withParents(target, async () => {
    await using _lock = await Lock.acquire(`${target}.lock`, `output ${out}`);
    try {
      await removeLeftovers(target);
      await mkdir(temporary);
      const result = await fill(temporary);
      const marker = join(temporary, MARKER);
      if ((await statOrUndefined(marker)) === undefined) {
        await writeFile(marker, `${JSON.stringify({ tool: 'rlp-ort', kind: options.kind }, null, 2)}\n`);
      }
      await syncTree(temporary);
      await moveIntoPlace(temporary, target, options);
      return result;
    } catch (thrown) {
      await rm(temporary, { recursive: true, force: true });
      throw fileError('cannot write', target, thrown);
    }
  });
}
