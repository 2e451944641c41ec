import { type FileHandle, lstat, rename, rm } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import type { Schema } from 'apache-arrow';
import { decodeBatch, encodeBatch } from './arrow-batch.ts';
import {
  type BatchBlock,
  blockOf,
  type FileLayout,
  fileFooter,
  fileHeader,
  openFile,
  readBytes,
  scanFile,
  writeBytes,
} from './arrow-file.ts';
import { checkRolloutSchema, checkSameRun, type RolloutFileMetadata, rolloutSchema } from './arrow-schema.ts';
import { sync } from './durable.ts';
import { internal, UserError } from './errors.ts';
import { errnoOf, fileError } from './file-error.ts';
import { checkUnlocked, Lock } from './lock.ts';
import type { RolloutRecord } from './records.ts';

export { ROLLOUT_SCHEMA_VERSION, type RolloutFileMetadata } from './arrow-schema.ts';

/** Name of a rollout file while it is written. */
export const partialPath = (path: string): string => `${path}.partial`;

/** Held while a rollout file is written. */
const lockPath = (path: string): string => `${path}.lock`;

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return false;
    throw fileError('cannot look at', path, thrown);
  }
}

/**
 * Throws a UserError unless rollouts may be written to `path`; call it before the work.
 * @returns whether there is a finished file, or one that was begun
 */
export async function checkRolloutPath(
  path: string,
  { resume = false }: RolloutWriterOptions = {},
): Promise<{ finished: boolean; begun: boolean }> {
  checkName(path);
  await checkUnlocked(lockPath(path), path);
  return await findFile(path, resume);
}

function checkName(path: string): void {
  if (!/[/\\]$/.test(path)) return;
  throw new UserError(`${path}: is the name of a folder; add a file name, such as thoughts.arrow`);
}

/** checkRolloutPath when the lock is held. */
async function findFile(path: string, resume: boolean): Promise<{ finished: boolean; begun: boolean }> {
  const partial = partialPath(path);
  const [finished, begun] = await Promise.all([exists(path), exists(partial)]);
  if (!resume) {
    if (finished) throw new UserError(`${path}: exists already; choose another path, or resume to append to it`);
    if (begun) throw new UserError(`${partial}: an unfinished file is there; resume to continue it, or remove it`);
  }
  if (finished && begun) {
    throw new UserError(`${path}: cannot resume, both it and ${partial} exist; remove the one that is not wanted`);
  }
  return { finished, begun };
}

/** How a RolloutWriter begins. */
export interface RolloutWriterOptions {
  /** Continue FILE.partial, or FILE if it was finished; begin a new file if there is neither. */
  resume?: boolean;
}

/**
 * Writes rollouts to an Arrow IPC file batch by batch. Until `finish` the file is FILE.partial; every `append` is one record
 * batch, synced to disk before it returns, so a crash loses at most the batch in flight (docs/arrow-schema.md).
 */
export class RolloutWriter implements AsyncDisposable {
  readonly path: string;
  readonly #lock: Lock;
  readonly #file: FileHandle;
  readonly #schema: Schema;
  readonly #blocks: BatchBlock[];
  /** Where the next batch goes; bytes behind it are of no whole batch. */
  #end: number;
  #state: 'open' | 'busy' | 'closed' = 'open';

  private constructor(
    path: string,
    lock: Lock,
    file: FileHandle,
    layout: Pick<FileLayout, 'schema' | 'blocks' | 'end'>,
  ) {
    this.path = path;
    this.#lock = lock;
    this.#file = file;
    this.#schema = layout.schema;
    this.#blocks = layout.blocks;
    this.#end = layout.end;
  }

  /**
   * Errors: UserError if another process writes FILE; if FILE or FILE.partial exists and `resume` is not set; on resuming, if
   * both exist, if the file was begun with another config or model, or is not a file of rollouts; if the file system refuses.
   */
  static async open(
    path: string,
    metadata: RolloutFileMetadata,
    { resume = false }: RolloutWriterOptions = {},
  ): Promise<RolloutWriter> {
    checkName(path);
    const lock = await Lock.acquire(lockPath(path), path);
    try {
      return await RolloutWriter.#begin(path, lock, metadata, resume);
    } catch (thrown) {
      await lock.release();
      throw thrown;
    }
  }

  static async #begin(
    path: string,
    lock: Lock,
    metadata: RolloutFileMetadata,
    resume: boolean,
  ): Promise<RolloutWriter> {
    const partial = partialPath(path);
    const { finished, begun } = await findFile(path, resume);
    if (finished) {
      const { metadata: before } = await readRollouts(path);
      checkSameRun(path, before, metadata);
      await rename(path, partial);
    }
    const file = await openFile(partial, finished || begun ? 'r+' : 'wx+');
    try {
      const layout = await scanFile(partial, file);
      if (layout !== undefined) {
        checkSameRun(partial, checkRolloutSchema(partial, layout.schema), metadata);
        await file.truncate(layout.end);
        return new RolloutWriter(path, lock, file, layout);
      }
      const schema = rolloutSchema(metadata);
      const header = fileHeader(schema);
      await file.truncate(0);
      await writeBytes(file, 0, header);
      await file.sync();
      await sync(dirname(resolve(path)));
      return new RolloutWriter(path, lock, file, { schema, blocks: [], end: header.length });
    } catch (thrown) {
      await file.close();
      if (!finished && !begun) await rm(partial, { force: true });
      throw fileError('cannot write', partial, thrown);
    }
  }

  /** Batches in the file, those of before a resume included. */
  get batches(): number {
    return this.#blocks.length;
  }

  get rows(): number {
    return this.#blocks.reduce((total, block) => total + block.rows, 0);
  }

  /** One call at a time: two interleaved appends would write to the same place. */
  async #exclusive(work: () => Promise<void>): Promise<void> {
    if (this.#state !== 'open') throw internal(`rollout writer of ${this.path}: used while ${this.#state}`);
    this.#state = 'busy';
    try {
      await work();
    } catch (thrown) {
      throw fileError('cannot write', partialPath(this.path), thrown);
    } finally {
      if (this.#state === 'busy') this.#state = 'open';
    }
  }

  /**
   * Writes rows as one record batch and syncs it. No rows: nothing. If it throws, the file is as before and the writer can
   * go on. Errors: UserError if the disk is full; Error naming the row if a log-prob or reward is not finite.
   */
  async append(rows: readonly RolloutRecord[]): Promise<void> {
    if (rows.length === 0) return;
    await this.#exclusive(async () => {
      const message = encodeBatch(this.#schema, rows);
      await writeBytes(this.#file, this.#end, message);
      await this.#file.sync();
      this.#blocks.push(blockOf(message, this.#end));
      this.#end += message.length;
    });
  }

  /** Writes the footer, syncs, and renames FILE.partial to FILE. */
  async finish(): Promise<void> {
    await this.#exclusive(async () => {
      // A failed append may have left bytes behind the end.
      await this.#file.truncate(this.#end);
      await writeBytes(this.#file, this.#end, fileFooter(this.#schema, this.#blocks));
      await this.#file.sync();
      await this.#file.close();
      this.#state = 'closed';
      await rename(partialPath(this.path), this.path);
      await sync(dirname(resolve(this.path)));
      await this.#lock.release();
    });
  }

  /** Lets go of an unfinished file, which stays FILE.partial if it has a batch. Nothing after `finish`. */
  async close(): Promise<void> {
    if (this.#state === 'closed') return;
    if (this.#state === 'busy') throw internal(`rollout writer of ${this.path}: closed during a write`);
    this.#state = 'closed';
    await this.#file.close();
    // Nothing is lost with it, and it would stand in the way of the next try.
    if (this.#blocks.length === 0) await rm(partialPath(this.path), { force: true });
    await this.#lock.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Rollouts of a file: iterate for the rows batch by batch, as often as wanted. */
export interface RolloutFile extends AsyncIterable<RolloutRecord[]> {
  path: string;
  metadata: RolloutFileMetadata;
  /** False for a file that was never finished: these are the batches that made it to disk. */
  complete: boolean;
  batches: number;
  rows: number;
}

async function withLayout<T>(path: string, use: (file: FileHandle, layout: FileLayout) => Promise<T>): Promise<T> {
  const file = await openFile(path, 'r');
  try {
    const layout = await scanFile(path, file);
    if (layout === undefined) {
      throw new UserError(
        `${path}: ends before the first batch, there is nothing to read; remove it or resume the run`,
      );
    }
    return await use(file, layout);
  } catch (thrown) {
    throw fileError('cannot read', path, thrown);
  } finally {
    await file.close();
  }
}

async function* batchesOf(path: string, layout: FileLayout): AsyncGenerator<RolloutRecord[]> {
  const file = await openFile(path, 'r');
  try {
    for (const block of layout.blocks) {
      const length = block.metadataLength + block.bodyLength;
      const message = await readBytes(file, block.offset, length);
      if (message.length < length) throw new UserError(`${path}: became shorter while it was read`);
      yield decodeBatch(path, layout.schemaMessage, message);
    }
  } finally {
    await file.close();
  }
}

/**
 * Opens a rollout file, finished or partial; memory holds one batch at a time.
 * Errors: UserError if it is no Arrow file, has other columns (expected against found), or another schema version.
 */
export async function readRollouts(path: string): Promise<RolloutFile> {
  if (!(await exists(path)) && (await exists(partialPath(path)))) {
    throw new UserError(
      `${path}: not there, but ${partialPath(path)} is: the run did not finish; read that file instead`,
    );
  }
  return await withLayout(path, async (_, layout) => ({
    path,
    metadata: checkRolloutSchema(path, layout.schema),
    complete: layout.complete,
    batches: layout.blocks.length,
    rows: layout.blocks.reduce((total, block) => total + block.rows, 0),
    [Symbol.asyncIterator]: () => batchesOf(path, layout),
  }));
}

/**
 * Makes a finished file of what a killed run left: cuts FILE.partial behind its last whole batch, writes the footer and
 * renames it to FILE. To go on writing instead, open a RolloutWriter with `resume`.
 */
export async function recoverRollouts(path: string): Promise<{ batches: number; rows: number }> {
  const { metadata } = await readRollouts(partialPath(path));
  await using writer = await RolloutWriter.open(path, metadata, { resume: true });
  await writer.finish();
  return { batches: writer.batches, rows: writer.rows };
}
