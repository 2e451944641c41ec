import type { BigIntStats } from 'node:fs';
import { open } from 'node:fs/promises';
import { UserError } from '../errors.ts';
import { fileError } from '../file-error.ts';
import { compressionOf, decompressed } from './decompress.ts';

const CHUNK_BYTES = 1 << 20;

/**
 * A file of data. It may be read many times, at any place, over hours; each read looks whether it is still the file that it
 * was at first, and nothing stays open in between.
 */
export class SourceFile {
  /** As it was given; messages and document ids have it. */
  readonly name: string;
  readonly #path: string;
  #stats: BigIntStats | undefined;

  constructor(path: string, name: string = path) {
    this.name = name;
    this.#path = path;
  }

  /** Bytes of the file. */
  async size(): Promise<number> {
    await this.read(0, 0);
    return Number(this.#stats?.size);
  }

  /**
   * `length` bytes from `position`; fewer only where the file ends.
   * @throws UserError if the file cannot be read, or is not what it was when it was read first
   */
  async read(position: number, length: number): Promise<Buffer<ArrayBuffer>> {
    try {
      const handle = await open(this.#path, 'r');
      try {
        const buffer = Buffer.from(new ArrayBuffer(length));
        const stats = await handle.stat({ bigint: true });
        // Some systems open a folder and fail at the first read, others do not get that far.
        if (stats.isDirectory()) throw Object.assign(new Error(), { code: 'EISDIR' });
        let filled = 0;
        while (filled < length) {
          const { bytesRead } = await handle.read(buffer, filled, length - filled, position + filled);
          if (bytesRead === 0) break;
          filled += bytesRead;
        }
        this.#checkUnchanged(stats);
        this.#checkUnchanged(await handle.stat({ bigint: true }));
        return buffer.subarray(0, filled);
      } finally {
        await handle.close();
      }
    } catch (thrown) {
      throw fileError('cannot read', this.name, thrown);
    }
  }

  #checkUnchanged(now: BigIntStats): void {
    this.#stats ??= now;
    const { ino, size, mtimeNs } = this.#stats;
    if (now.ino === ino && now.size === size && now.mtimeNs === mtimeNs) return;
    const how = now.size === size ? 'it was written to or replaced' : `it had ${size} bytes, now it has ${now.size}`;
    throw new UserError(
      `${this.name}: changed while it was read (${how}). Start again when nothing writes to it any more, or work on a copy`,
    );
  }

  /** The content from a byte on, piece by piece; of a compressed file what is compressed in it. */
  async *chunks(from = 0): AsyncGenerator<Buffer> {
    const compression = compressionOf(this.name);
    yield* compression === undefined ? this.#raw(from) : decompressed(this.name, compression, this.#raw(0), from);
  }

  async *#raw(from: number): AsyncGenerator<Buffer> {
    for (let position = from; ; position += CHUNK_BYTES) {
      const chunk = await this.read(position, CHUNK_BYTES);
      if (chunk.length > 0) yield chunk;
      if (chunk.length < CHUNK_BYTES) return;
    }
  }
}
