import type { BranchRow, Thought } from './branch-row.ts';
import type { DocumentNeed } from './cache-shape.ts';
import type { CacheSource } from './rollout-buffers.ts';

/** A row at work and the slot that it holds among those of its document. */
export interface LiveRow {
  slot: number;
  row: BranchRow;
}

/** The branches of one document: those being written hold slots, the others wait for one. */
export class Lane<Document> {
  readonly document: Document;
  /** All of them, in the order of the rows. */
  readonly thoughts: Thought[];
  readonly #waiting: BranchRow[];
  readonly #need: DocumentNeed;
  #slots: (BranchRow | undefined)[] = [];
  #place = 0;

  /**
   * It has no place before `moveTo`.
   * @param need `rows`: slots that it asks for at most; it makes use of more
   */
  constructor(document: Document, rows: readonly BranchRow[], need: DocumentNeed) {
    this.document = document;
    this.thoughts = rows.map((row) => row.thought);
    this.#waiting = [...rows];
    this.#need = need;
  }

  /** Index of the document in the caches. */
  get place(): number {
    return this.#place;
  }

  get done(): boolean {
    return this.#waiting.length === 0 && this.#slots.every((row) => row === undefined);
  }

  get live(): LiveRow[] {
    return this.#slots.flatMap((row, slot) => (row === undefined ? [] : [{ slot, row }]));
  }

  /** What its next step needs. */
  get need(): DocumentNeed {
    const { live } = this;
    return {
      trunk: this.#need.trunk,
      rows: Math.max(live.length, Math.min(this.#need.rows, live.length + this.#waiting.length)),
      branch: live.reduce((longest, { row }) => Math.max(longest, row.written + 1), 1),
    };
  }

  /**
   * Gives it a place in the caches with `slots` slots: the rows at work come first, then as many as wait.
   * @returns where it was, and in which slots the rows at work
   */
  moveTo(place: number, slots: number): CacheSource {
    const { live } = this;
    const source = { document: this.#place, rows: live.map(({ slot }) => slot) };
    this.#place = place;
    this.#slots = Array.from({ length: slots }, (_, s) => live[s]?.row ?? this.#waiting.shift());
    return source;
  }

  /** A finished row leaves its slot to the next one waiting. */
  release(slot: number): void {
    this.#slots[slot] = this.#waiting.shift();
  }
}
