/** Two FNV-1a hashes of 32 and 21 bits side by side, as an integer from 1 to 2^53 - 1. */
function hashOf(text: string): number {
  let [a, b] = [0x811c9dc5, 0xcbf29ce4];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    a = Math.imul(a ^ code, 0x01000193);
    b = Math.imul(b ^ code, 0x01000197);
  }
  return (b >>> 11) * 0x100000000 + (a >>> 0) || 1;
}

/**
 * Which ids have been seen, at 16 to 32 bytes an id however long it is: a hash table of their hashes, so that two ids may be
 * taken for one. (A JavaScript Set takes more, and ends at 2^24 entries.)
 */
export class IdSet {
  #table = new Float64Array(1024); // 0: free
  #size = 0;

  /** False if the id may have been there before. */
  add(id: string): boolean {
    if (2 * this.#size >= this.#table.length) this.#grow();
    return this.#insert(hashOf(id));
  }

  #insert(hash: number): boolean {
    const { length } = this.#table; // a power of two
    for (let slot = hash % length; ; slot = (slot + 1) % length) {
      if (this.#table[slot] === hash) return false;
      if (this.#table[slot] !== 0) continue;
      this.#table[slot] = hash;
      this.#size++;
      return true;
    }
  }

  #grow(): void {
    const before = this.#table;
    this.#table = new Float64Array(2 * before.length);
    this.#size = 0;
    for (const hash of before) if (hash !== 0) this.#insert(hash);
  }
}
