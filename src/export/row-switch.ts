import type { GraphBuilder } from './builder.ts';
import type { Dim, Value } from './ir.ts';

/**
 * A part of a graph that is computed only where a condition known at run time holds, without control flow: it works on
 * all rows of its operands then, and on none otherwise, which costs next to nothing.
 */
export class RowSwitch {
  readonly #b: GraphBuilder;
  readonly #rows: Dim;
  readonly #name: string;
  readonly #count: Value;

  /** condition bool []. `name`: symbol of the number of rows that the part works on. */
  constructor(b: GraphBuilder, name: string, rows: Dim, condition: Value) {
    this.#b = b;
    this.#rows = rows;
    this.#name = name;
    this.#count = b.mul(b.dim(rows), b.cast(condition, 'int64')); // (1)
  }

  /** The rows of x where the condition holds, none where it does not. */
  on(x: Value): Value {
    return this.#slice(x, this.#b.int64s([0]), this.#count, this.#name);
  }

  /** No rows of x where the condition holds, all where it does not. */
  off(x: Value): Value {
    return this.#slice(x, this.#count, this.#b.dim(this.#rows), `not ${this.#name}`);
  }

  /** Puts together the rows of a result for either case. */
  merge(on: Value, off: Value): Value {
    return this.#b.reshape(this.#b.concat([on, off], 0), [this.#rows, ...on.shape.slice(1)]);
  }

  #slice(x: Value, start: Value, end: Value, rows: string): Value {
    return this.#b.node('Slice', [x, start, end, this.#b.int64s([0])], {}, [[rows, ...x.shape.slice(1)]])[0];
  }
}
