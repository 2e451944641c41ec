import type { RolloutDocument } from '../rollout/index.ts';

/** Documents in a row without one to use, in multiples of those of a step, after which no more are looked at. */
export const BARREN_STEPS = 10;

/** How the documents of a step are found. */
export interface DrawOptions<T> {
  /** Documents that a step trains on. */
  perStep: number;
  /** The next of the data, over the ends of epochs. */
  nextBatch(count: number): Promise<T[]>;
  /** Those of use, with their positions, in their order. */
  place(documents: T[]): Promise<RolloutDocument[]>;
}

/** Draws documents for one step from the data, none of them twice. */
export class StepDraw<T extends { id: string }> {
  readonly #options: DrawOptions<T>;
  readonly #seen = new Set<string>();
  #found = 0;

  constructor(options: DrawOptions<T>) {
    this.#options = options;
  }

  /** Documents looked at, each once. */
  get seen(): number {
    return this.#seen.size;
  }

  /** Of these, the share that is of use. */
  get share(): number {
    return this.#found / this.#seen.size;
  }

  /**
   * Up to `count` documents of use that the step has not had: what is of no use is replaced by what comes next. Fewer, or none,
   * where BARREN_STEPS * perStep in a row are of no use or had before, as those of small data are.
   * @param count at most perStep
   */
  async next(count: number): Promise<RolloutDocument[]> {
    const { perStep, nextBatch, place } = this.#options;
    const found: RolloutDocument[] = [];
    for (let barren = 0; found.length < count && barren < BARREN_STEPS * perStep; ) {
      const batch = await nextBatch(Math.min(count - found.length, BARREN_STEPS * perStep - barren));
      const fresh = batch.filter(({ id }) => !this.#seen.has(id));
      for (const { id } of fresh) this.#seen.add(id);
      const placed = fresh.length === 0 ? [] : await place(fresh);
      barren = placed.length > 0 ? 0 : barren + batch.length;
      found.push(...placed);
    }
    this.#found += found.length;
    return found;
  }
}
