import type { BranchRow, Thought } from './branch-row.ts';

/** A row at work and the slot of the caches it holds. */
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
  readonly #slots: (BranchRow | undefined)[];
  readonly #firstSlot: number;

  /** Holds slots firstSlot .. firstSlot + slots - 1. */
  constructor(document: Document, rows: readonly BranchRow[], firstSlot: number, slots: number) {
    this.document = document;
    this.thoughts = rows.map((row) => row.thought);
    this.#waiting = [...rows];
    this.#firstSlot = firstSlot;
    this.#slots = Array.from({ length: slots }, () => this.#waiting.shift());
  }

  get done(): boolean {
    return this.#slots.every((row) => row === undefined);
  }

  get live(): LiveRow[] {
    return this.#slots.flatMap((row, s) => (row === undefined ? [] : [{ slot: this.#firstSlot + s, row }]));
  }

  /** A finished row leaves its slot to the next one waiting. */
  release(slot: number): void {
    this.#slots[slot - this.#firstSlot] = this.#waiting.shift();
  }
}
