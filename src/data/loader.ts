import { internal, UserError } from '../errors.ts';
import type { Seed } from '../random.ts';
import type { Item } from './corpus.ts';
import { ShuffledStream, type StreamCursor } from './shuffled-stream.ts';
import type { WeightedCorpus } from './weighted-corpora.ts';

/** Where a loader stands, as JSON. */
export interface DataCursor {
  /** Rows drawn so far, by corpus. */
  drawn: number[];
  streams: StreamCursor[];
}

/** How a DataLoader goes through its rows. */
export interface LoaderOptions<T, U> {
  seed: Seed;
  /** Rows of a corpus that are in memory, and are shuffled together. */
  shuffleBuffer: number;
  /** What is drawn for a row; undefined: the row is of no use and passed over. */
  prepare: (item: T) => U | undefined;
  /** The error for a corpus in which no row is of use. */
  noneOfUse: () => UserError;
  /** Continue from here. */
  cursor?: DataCursor | undefined;
}

/** Batches that are looked at for what each takes of a corpus. */
const CHECKED_BATCHES = 100;

/**
 * Draws rows from one or several corpora, without an end, in an order that depends on the data, the seed and the options
 * alone. Each corpus starts over when it has been gone through.
 *
 * Corpora take turns by weight: the next row comes from the one that is furthest behind its share. So at any time each has
 * given its share, to within about a row.
 */
export class DataLoader<T extends Item, U> {
  readonly #corpora: readonly WeightedCorpus<T>[];
  readonly #streams: ShuffledStream<T, U>[];
  readonly #shares: number[];
  readonly #drawn: number[];
  readonly #noneOfUse: () => UserError;
  #checkedSize = 0;

  constructor(corpora: readonly WeightedCorpus<T>[], options: LoaderOptions<T, U>) {
    const { shuffleBuffer: buffer, cursor, seed, prepare } = options;
    if (cursor !== undefined && cursor.streams.length !== corpora.length) throw internal('a cursor of other data');
    const total = corpora.reduce((sum, { weight }) => sum + weight, 0);
    this.#corpora = corpora;
    this.#shares = corpora.map(({ weight }) => weight / total);
    this.#streams = corpora.map(
      ({ corpus }, i) =>
        new ShuffledStream(corpus, { seed, corpus: i, buffer, prepare, ...(cursor && { cursor: cursor.streams[i] }) }),
    );
    this.#drawn = cursor?.drawn.slice() ?? corpora.map(() => 0);
    this.#noneOfUse = options.noneOfUse;
  }

  /** Of what was drawn last: a loader made with it draws what this one would draw next. */
  get cursor(): DataCursor {
    return { drawn: [...this.#drawn], streams: this.#streams.map((stream) => stream.cursor) };
  }

  /** Epochs gone through, by corpus, with the part of the one at hand. */
  get epochs(): number[] {
    return this.#streams.map((stream) => stream.epochs);
  }

  /** The corpus that is furthest behind its share; it counts as drawn from. */
  #takeTurn(drawn = this.#drawn): number {
    const total = drawn.reduce((sum, count) => sum + count, 1);
    const behind = this.#shares.map((share, i) => share * total - drawn[i]);
    const turn = behind.indexOf(Math.max(...behind));
    drawn[turn]++;
    return turn;
  }

  /** Turns by corpus of the next `size`. */
  #takeTurns(size: number, drawn = this.#drawn): number[] {
    const counts = this.#corpora.map(() => 0);
    for (let i = 0; i < size; i++) counts[this.#takeTurn(drawn)]++;
    return counts;
  }

  /** That no corpus has fewer rows than a later batch takes of it: batches differ by a row or two. */
  #checkShares(size: number, flag: string): void {
    if (this.#checkedSize === size || this.#corpora.length === 1) return;
    const drawn = [...this.#drawn];
    for (let batch = 0; batch < CHECKED_BATCHES; batch++) {
      for (const [i, count] of this.#takeTurns(size, drawn).entries()) {
        const rows = this.#corpora[i].corpus.size;
        if (rows < count) throw this.#tooFew(i, rows, count, flag);
      }
    }
    this.#checkedSize = size;
  }

  /**
   * The next row, over the ends of epochs.
   * @throws UserError if no row of a corpus is of use
   */
  async next(): Promise<U> {
    const stream = this.#streams[this.#takeTurn()];
    // An epoch may end at once; two in a row without a row mean that there is none.
    for (let ends = 0; ends < 2; ) {
      const drawn = await stream.next();
      if (drawn !== undefined) return drawn;
      ends++;
    }
    throw this.#noneOfUse();
  }

  /**
   * The next `size` rows, all different; what is left of an epoch when it is too little is passed over.
   * @param flag what sets the size, for messages
   * @throws UserError if a corpus has fewer rows than its share of the batch
   */
  async nextBatch(size: number, flag = 'the size of the batch'): Promise<U[]> {
    this.#checkShares(size, flag);
    const batch: U[] = [];
    for (const [i, count] of this.#takeTurns(size).entries()) {
      const part = await this.#streams[i].nextBatch(count);
      if (part.length < count) throw this.#tooFew(i, part.length, count, flag);
      batch.push(...part);
    }
    return batch;
  }

  #tooFew(i: number, found: number, wanted: number, flag: string): UserError {
    if (found === 0) return this.#noneOfUse();
    if (this.#corpora.length === 1) {
      return new UserError(
        `the data has ${found} documents that can be used, but a step takes ${wanted}. Lower ${flag} to ${found} or less, or add data`,
      );
    }
    const { name, weight } = this.#corpora[i];
    return new UserError(
      `data ${name}: has ${found} documents that can be used, but a step takes ${wanted} by its weight ${weight}. Lower ${flag} or the ` +
        'weight, or add data',
    );
  }
}
