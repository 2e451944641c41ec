import { internal } from '../errors.ts';
import { Random, type Seed } from '../random.ts';
import { CORPUS_START, type Corpus, type CorpusPlace, type Item } from './corpus.ts';

/** Where a stream stands, as JSON: rows `index` and on of the shuffled block that starts at `start`. */
export interface StreamCursor {
  epoch: number;
  block: number;
  start: CorpusPlace;
  index: number;
}

export interface StreamOptions<T, U> {
  seed: Seed;
  /** Number of the corpus: corpora of one size do not have one order. */
  corpus: number;
  /** Rows that are shuffled together. */
  buffer: number;
  /** What is drawn for a row; undefined: the row is passed over. */
  prepare: (item: T) => U | undefined;
  /** Continue from here. */
  cursor?: StreamCursor;
}

/**
 * Goes through a corpus epoch by epoch, each in its own order, a function of the corpus, the seed and the epoch alone.
 *
 * An epoch takes the files in random order and cuts their rows into blocks of `buffer`, each shuffled as a whole; a corpus of
 * one block is shuffled as one. (The usual shuffle buffer, which replaces each row it gives by the next of the
 * file, mixes over longer distances but has no cursor short of its whole content.)
 */
export class ShuffledStream<T extends Item, U> {
  readonly #corpus: Corpus<T>;
  readonly #options: StreamOptions<T, U>;
  #cursor: StreamCursor;
  /** Rows of the block in their order; undefined until they are read. */
  #items: T[] | undefined;
  /** Behind the block. */
  #end: CorpusPlace = CORPUS_START;
  /** The rows behind the block; undefined: to be opened at its start. */
  #rows: AsyncIterator<{ item: T; next: CorpusPlace }> | undefined;

  constructor(corpus: Corpus<T>, options: StreamOptions<T, U>) {
    if (!Number.isInteger(options.buffer) || options.buffer < 1) throw internal(`a buffer of ${options.buffer} rows`);
    this.#corpus = corpus;
    this.#options = options;
    this.#cursor = options.cursor ?? { epoch: 0, block: 0, start: CORPUS_START, index: 0 };
  }

  get cursor(): StreamCursor {
    return { ...this.#cursor };
  }

  /** Epochs gone through, with the part of the one at hand. */
  get epochs(): number {
    const { epoch, block, index } = this.#cursor;
    return epoch + (block * this.#options.buffer + index) / this.#corpus.size;
  }

  /** What is drawn next; undefined once at the end of each epoch. */
  async next(): Promise<U | undefined> {
    for (;;) {
      this.#items ??= await this.#readBlock();
      while (this.#cursor.index < this.#items.length) {
        const drawn = this.#options.prepare(this.#items[this.#cursor.index++]);
        if (drawn !== undefined) return drawn;
      }
      const { epoch, block } = this.#cursor;
      const ended = this.#items.length < this.#options.buffer;
      this.#items = undefined;
      if (!ended) {
        this.#cursor = { epoch, block: block + 1, start: this.#end, index: 0 };
        continue;
      }
      this.#rows = undefined;
      this.#cursor = { epoch: epoch + 1, block: 0, start: CORPUS_START, index: 0 };
      return undefined;
    }
  }

  async #readBlock(): Promise<T[]> {
    const { buffer } = this.#options;
    const { epoch, block, start } = this.#cursor;
    this.#rows ??= this.#corpus.read(this.#fileOrder(), start);
    const items: T[] = [];
    while (items.length < buffer) {
      const { done, value } = await this.#rows.next();
      if (done) break;
      items.push(value.item);
      this.#end = value.next;
    }
    return this.#random('data-order', block === 0 ? `${epoch}` : `${epoch}/${block}`).shuffle(items);
  }

  #fileOrder(): number[] {
    const files = Array.from({ length: this.#corpus.files }, (_, i) => i);
    if (this.#corpus.size <= this.#options.buffer) return files; // one block is in random order anyway
    return this.#random('data-files', `${this.#cursor.epoch}`).shuffle(files);
  }

  #random(what: string, which: string): Random {
    const { seed, corpus } = this.#options;
    return new Random(seed, `${what}${corpus === 0 ? '' : `-${corpus}`}/${which}`);
  }

  /**
   * The next `size`, all of one epoch, so that none comes twice: what is left of an epoch when it is less is passed over (in
   * another epoch it is others).
   * @returns fewer if that is all that an epoch has
   */
  async nextBatch(size: number): Promise<U[]> {
    let batch: U[] = [];
    let wholeEpoch = this.#cursor.block === 0 && this.#cursor.index === 0;
    while (batch.length < size) {
      const drawn = await this.next();
      if (drawn !== undefined) batch.push(drawn);
      else if (wholeEpoch) return batch;
      else {
        batch = [];
        wholeEpoch = true;
      }
    }
    return batch;
  }
}
