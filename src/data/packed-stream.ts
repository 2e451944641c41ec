import { internal } from '../errors.ts';
import type { Document } from './document.ts';
import type { DataCursor, DataLoader } from './loader.ts';
import { type PackOptions, withEnd } from './packing.ts';
import type { TokenizedDocument } from './tokenize.ts';

/** Where a PackedStream stands, as JSON. */
export interface PackedCursor {
  /** Before the document that the last block ends in. */
  documents: DataCursor;
  /** Tokens of that document that blocks have taken. */
  offset: number;
  /** The last token of the last block; null before the first. */
  overlap: number | null;
}

/**
 * Joins the documents of a loader and cuts them into blocks of `length` tokens, without an end. As in `packDocuments`, the last
 * token of a block is repeated as the first of the next: every token but the very first is a target as often as it is drawn.
 */
export class PackedStream {
  readonly #loader: DataLoader<Document, TokenizedDocument>;
  readonly #options: PackOptions;
  #before: DataCursor;
  #tokens: Int32Array | undefined;
  #offset: number;
  #overlap: number | null;

  /** @param makeLoader a loader from a cursor on */
  constructor(
    makeLoader: (cursor?: DataCursor) => DataLoader<Document, TokenizedDocument>,
    options: PackOptions,
    cursor?: PackedCursor,
  ) {
    if (!Number.isInteger(options.length) || options.length < 2) throw internal(`blocks of ${options.length} tokens`);
    this.#loader = makeLoader(cursor?.documents);
    this.#options = options;
    this.#before = this.#loader.cursor;
    this.#offset = cursor?.offset ?? 0;
    this.#overlap = cursor?.overlap ?? null;
  }

  get cursor(): PackedCursor {
    return { documents: this.#before, offset: this.#offset, overlap: this.#overlap };
  }

  /** Epochs gone through, by corpus. */
  get epochs(): number[] {
    return this.#loader.epochs;
  }

  /** The next blocks, each [length]. */
  async nextBatch(size: number): Promise<Int32Array[]> {
    const blocks: Int32Array[] = [];
    while (blocks.length < size) blocks.push(await this.#nextBlock());
    return blocks;
  }

  async #nextBlock(): Promise<Int32Array> {
    const block = new Int32Array(this.#options.length);
    let filled = 0;
    if (this.#overlap !== null) block[filled++] = this.#overlap;
    while (filled < block.length) {
      this.#tokens ??= await this.#draw();
      const part = this.#tokens.subarray(this.#offset, this.#offset + block.length - filled);
      block.set(part, filled);
      filled += part.length;
      this.#offset += part.length;
      if (filled === block.length) break;
      this.#tokens = undefined;
      this.#before = this.#loader.cursor;
      this.#offset = 0;
    }
    this.#overlap = block[block.length - 1];
    return block;
  }

  /** The tokens of the next document, ended as documents end. */
  async #draw(): Promise<Int32Array> {
    const { tokens } = await this.#loader.next();
    return withEnd(tokens, this.#options.eosId);
  }
}
