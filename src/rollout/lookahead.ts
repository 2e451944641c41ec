/** Reads ahead in a stream: looks at items before taking them. */
export class Lookahead<T> {
  readonly #source: Iterator<T> | AsyncIterator<T>;
  readonly #check: (item: T) => void;
  readonly #read: T[] = [];
  #ended = false;

  /** `check` is called on every item as it is read, and may throw. */
  constructor(source: Iterable<T> | AsyncIterable<T>, check: (item: T) => void) {
    this.#check = check;
    this.#source = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  /** The next `count` items, fewer at the end of the stream. */
  async peek(count: number): Promise<readonly T[]> {
    while (!this.#ended && this.#read.length < count) {
      const result = await this.#source.next();
      if (result.done) {
        this.#ended = true;
      } else {
        this.#check(result.value);
        this.#read.push(result.value);
      }
    }
    return this.#read.slice(0, count);
  }

  /** Takes the next item, if it has been peeked at. */
  shift(): T | undefined {
    return this.#read.shift();
  }

  /** Tells the source that no more is wanted. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#source.return?.();
  }
}
