import { constants } from 'node:buffer';
import { UserError } from '../errors.ts';
import type { RowPlace } from './row.ts';
import type { SourceFile } from './source-file.ts';

const [QUOTE, BACKSLASH, COMMA] = [0x22, 0x5c, 0x2c];
const [OPEN_ARRAY, CLOSE_ARRAY, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const BYTE_ORDER_MARK: readonly number[] = [0xef, 0xbb, 0xbf];
const isSpace = (byte: number) => byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;

/** The bytes of one element of an array, not checked: JSON or not. */
export interface JsonElement {
  bytes: Buffer;
  /** Of its first byte in the file. */
  offset: number;
  /** Behind it. */
  next: RowPlace;
}

/**
 * Cuts an array into its elements as it is read: memory holds one element and a chunk. Only what tells where an element ends is
 * looked at, which is brackets and strings.
 * @param start the start of the file, or the place behind an element
 * @throws UserError if the file cannot be read, is not one whole array, or has an element longer than a string can be
 */
export async function* readJsonElements(file: SourceFile, start: RowPlace): AsyncGenerator<JsonElement> {
  const cutter = new ArrayCutter(file.name, start);
  for await (const chunk of file.chunks(start.byte)) yield* cutter.add(chunk);
  cutter.end();
}

/** What comes, or the byte at hand belongs to: `first` is an element or the end, `behind` a comma or the end. */
type State = 'before' | 'first' | 'next' | 'element' | 'behind' | 'end';

class ArrayCutter {
  readonly #file: string;
  #row: number;
  /** Of the byte at hand. */
  #position: number;
  #state: State;
  #pieces: Buffer[] = [];
  #length = 0; // bytes in `pieces`
  #depth = 0;
  #string: 'no' | 'yes' | 'escape' = 'no';

  constructor(file: string, start: RowPlace) {
    this.#file = file;
    this.#row = start.row;
    this.#position = start.byte;
    this.#state = start.byte === 0 ? 'before' : 'behind';
  }

  *add(chunk: Buffer): Generator<JsonElement> {
    let from = 0; // of the element in the chunk
    for (let i = 0; i < chunk.length; i++, this.#position++) {
      const byte = chunk[i];
      if (this.#state === 'element') {
        if (!this.#ends(byte)) continue;
        this.#push(chunk.subarray(from, i));
        yield this.#take();
        this.#state = byte === COMMA ? 'next' : 'end';
      } else if (!isSpace(byte)) {
        this.#state = this.#between(byte);
        if (this.#state !== 'element') continue;
        from = i;
        this.#ends(byte);
      }
    }
    if (this.#state === 'element') this.#push(chunk.subarray(from));
  }

  end(): void {
    if (this.#state === 'end') return;
    throw new UserError(
      `${this.#file}: not a whole JSON array: it ends after ${this.#row} elements, without a ]. Is the download complete?`,
    );
  }

  /** A byte of the element, or the one behind it. */
  #ends(byte: number): boolean {
    if (this.#string === 'escape') this.#string = 'yes';
    else if (this.#string === 'yes') {
      if (byte === BACKSLASH) this.#string = 'escape';
      else if (byte === QUOTE) this.#string = 'no';
    } else if (byte === QUOTE) this.#string = 'yes';
    else if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) this.#depth++;
    else if (this.#depth === 0) return byte === COMMA || byte === CLOSE_ARRAY;
    else if (byte === CLOSE_ARRAY || byte === CLOSE_OBJECT) this.#depth--;
    return false;
  }

  /** A byte that is neither white space nor within an element, and what is behind it. */
  #between(byte: number): State {
    const wrong = (expected: string) =>
      new UserError(
        `${this.#file}: byte ${this.#position}: not a JSON array: expected ${expected}, found ${shown(byte)}. Is the download ` +
          'complete?',
      );
    if (this.#state === 'before') {
      if (this.#position < 3 && byte === BYTE_ORDER_MARK[this.#position]) return 'before';
      if (byte !== OPEN_ARRAY) throw wrong('[');
      return 'first';
    }
    if (this.#state === 'behind') {
      if (byte !== COMMA && byte !== CLOSE_ARRAY) throw wrong(', or ]');
      return byte === COMMA ? 'next' : 'end';
    }
    if (this.#state === 'end') throw wrong('nothing behind its ]');
    if (byte === CLOSE_ARRAY && this.#state === 'first') return 'end';
    if (byte === COMMA || byte === CLOSE_ARRAY) throw wrong('an element');
    return 'element';
  }

  #push(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#length += piece.length;
    if (this.#length <= constants.MAX_STRING_LENGTH) return;
    throw new UserError(`${this.#file}:${this.#row + 1}: an element of more than ${constants.MAX_STRING_LENGTH} bytes`);
  }

  #take(): JsonElement {
    const bytes = this.#pieces.length === 1 ? this.#pieces[0] : Buffer.concat(this.#pieces);
    const [offset, next] = [this.#position - this.#length, { row: ++this.#row, byte: this.#position }];
    this.#pieces = [];
    this.#length = 0;
    return { bytes, offset, next };
  }
}

const shown = (byte: number): string =>
  byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `0x${byte.toString(16).padStart(2, '0')}`;
