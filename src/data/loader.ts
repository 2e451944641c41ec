import { internal, UserError } from '../errors.ts';
import { Random, type Seed } from '../random.ts';

/** Where a loader stands, as JSON: the next batch starts at `index` of the epoch's order. */
export interface DataCursor {
  epoch: number;
  index: number;
  /** Items of the data that the cursor belongs to. */
  size: number;
}

/** How a DataLoader goes through its items. */
export interface LoaderOptions {
  seed: Seed;
  /** Continue from here. */
  cursor?: DataCursor;
  /** Words of error messages: what the items are, and the flag that sets how many a step takes, in units of `unit`. */
  names?: { items: string; flag: string; unit?: number };
}

/**
 * Goes through items epoch by epoch, each in its own order, a function of the seed and the epoch alone.
 *
 * A batch never holds an item twice: what is left of an epoch when it is less than a batch is passed over (in another
 * epoch it is other items).
 */
export class DataLoader<Item> {
  readonly #items: readonly Item[];
  readonly #seed: Seed;
  readonly #names: { items: string; flag: string; unit?: number };
  #epoch = 0;
  #index = 0;
  #order: number[];

  /** @throws UserError if the cursor is of other data */
  constructor(items: readonly Item[], options: LoaderOptions) {
    this.#items = items;
    this.#seed = options.seed;
    this.#names = options.names ?? { items: 'documents', flag: '--documents-per-step' };
    const { cursor } = options;
    if (cursor !== undefined) {
      if (cursor.size !== items.length) {
        throw new UserError(
          `the data has ${items.length} ${this.#names.items}, but had ${cursor.size} when the run was interrupted: ` +
            'continue with the data it was started with',
        );
      }
      this.#epoch = cursor.epoch;
      this.#index = cursor.index;
    }
    this.#order = this.#shuffled();
  }

  get cursor(): DataCursor {
    return { epoch: this.#epoch, index: this.#index, size: this.#items.length };
  }

  #shuffled(): number[] {
    return new Random(this.#seed, `data-order/${this.#epoch}`).shuffle(this.#items.map((_, i) => i));
  }

  /** @throws UserError if there are fewer than `size` items; call it before the work starts. */
  checkBatchSize(size: number): void {
    const { items, flag, unit = 1 } = this.#names;
    if (!Number.isInteger(size) || size < 1) throw internal(`a batch of ${size} ${items}`);
    if (size <= this.#items.length) return;
    const hint =
      this.#items.length > 0 ? `Lower ${flag} to ${this.#items.length * unit} or less, or add data` : 'Add data';
    throw new UserError(`the data has ${this.#items.length} ${items}, but a step takes ${size}. ${hint}`);
  }

  /** The next `size` items, all different. */
  nextBatch(size: number): Item[] {
    this.checkBatchSize(size);
    if (this.#index + size > this.#items.length) {
      this.#epoch++;
      this.#index = 0;
      this.#order = this.#shuffled();
    }
    const batch = this.#order.slice(this.#index, this.#index + size).map((i) => this.#items[i]);
    this.#index += size;
    return batch;
  }
}
