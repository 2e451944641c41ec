import { createHash } from 'node:crypto';
import { internal, UserError } from './errors.ts';

/**
 * Counter-based random numbers: Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
 * A number is a pure function of a 64-bit seed and of what it is drawn for, so batch composition, thread count, order of
 * calls and interruptions cannot change it.
 */

/** 128-bit counter or 4 output words, uint32 each, word 0 first. */
export type Words4 = [number, number, number, number];

/** High and low halves of the 64-bit product of two uint32: every intermediate stays below 2^53. */
function multiply(a: number, b: number): [high: number, low: number] {
  const carry = Math.floor((a * (b & 0xffff)) / 0x10000);
  return [Math.floor((a * (b >>> 16) + carry) / 0x10000), Math.imul(a, b) >>> 0];
}

/** Philox4x32 with 10 rounds: counter (4 x uint32) and key (2 x uint32) to 4 random uint32. */
export function philox4x32(counter: Readonly<Words4>, key: readonly [number, number]): Words4 {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const [high0, low0] = multiply(0xd2511f53, c0);
    const [high1, low1] = multiply(0xcd9e8d57, c2);
    [c0, c1, c2, c3] = [(high1 ^ c1 ^ k0) >>> 0, low1, (high0 ^ c3 ^ k1) >>> 0, low0];
    k0 = (k0 + 0x9e3779b9) >>> 0;
    k1 = (k1 + 0xbb67ae85) >>> 0;
  }
  return [c0, c1, c2, c3];
}

/** A seed as the user gives it: an integer of 64 bits, a `number` where it is exact. */
export type Seed = number | bigint;

function keyOf(seed: Seed): [number, number] {
  if (typeof seed === 'number' && !Number.isSafeInteger(seed)) {
    throw new UserError(`seed ${seed}: expected an integer from 0 to 2^53 - 1 (larger ones as bigint)`);
  }
  const bits = BigInt(seed);
  if (bits < 0n || bits >= 1n << 64n) throw new UserError(`seed ${seed}: expected an integer from 0 to 2^64 - 1`);
  return [Number(bits & 0xffffffffn), Number(bits >> 32n)];
}

/** What a number is drawn for: document ids, steps, positions ... */
export type Coordinate = string | number;

/**
 * 96 bits of SHA-256 over the JSON of [stream, ...coordinates], which no two different tuples share. They become counter
 * words 1-3; word 0 counts within the stream. Hashing makes room for ids of any length; two of 2^32 thoughts collide with
 * a chance of 2^-33.
 */
function streamWords(stream: string, coordinates: readonly Coordinate[]): [number, number, number] {
  for (const value of coordinates) {
    if (typeof value === 'number' && !Number.isSafeInteger(value)) {
      throw internal(`random stream '${stream}': coordinate ${value} is not an integer`);
    }
  }
  const digest = createHash('sha256')
    .update(JSON.stringify([stream, ...coordinates]))
    .digest();
  return [digest.readUInt32LE(0), digest.readUInt32LE(4), digest.readUInt32LE(8)];
}

/** Word `index` of a stream. A Philox block holds 4 words; callers mostly walk upwards, so the last block is kept. */
function wordStream(seed: Seed, stream: string, coordinates: readonly Coordinate[]): (index: number) => number {
  const key = keyOf(seed);
  const words = streamWords(stream, coordinates);
  let block = -1;
  let output: Words4 = [0, 0, 0, 0];
  return (index) => {
    const wanted = Math.floor(index / 4);
    if (!Number.isInteger(index) || index < 0 || wanted > 0xffffffff) {
      throw internal(`random stream '${stream}': index ${index} is not an integer from 0 to 2^34 - 1`);
    }
    if (wanted !== block) {
      output = philox4x32([wanted, ...words], key);
      block = wanted;
    }
    return output[index % 4];
  };
}

/** 24 bits in [0, 1): exact in float32, and never rounded up to 1 there. */
const toUniform = (word: number): number => (word >>> 8) / 0x1000000;

/** Uniform numbers by index: `stream(i)` in [0, 1) with 24 bits, in any order, always the same. */
export type UniformStream = (index: number) => number;

/** The uniform numbers of these coordinates; streams with different tags are independent. */
export function uniformStream(seed: Seed, stream: string, ...coordinates: Coordinate[]): UniformStream {
  const word = wordStream(seed, stream, coordinates);
  return (index) => toUniform(word(index));
}

/** One uniform number in [0, 1) with 24 bits for these coordinates; streams with different tags are independent. */
export function uniform(seed: Seed, stream: string, ...coordinates: Coordinate[]): number {
  return uniformStream(seed, stream, ...coordinates)(0);
}

/** Which thought: rollout g of the group at a position of a document, in a step. */
export interface ThoughtId {
  seed: Seed;
  step: number;
  document: string;
  position: number;
  rollout: number;
}

/** The uniforms of one thought by token index. Keep it for the life of the thought: it costs one hash to make. */
export function thoughtStream({ seed, step, document, position, rollout }: ThoughtId): UniformStream {
  return uniformStream(seed, 'thought', step, document, position, rollout);
}

/** The uniform in [0, 1) (24 bits, exact in float32) that samples token `tokenIndex` of a thought. */
export function thoughtUniforms(thought: ThoughtId, tokenIndex: number): number {
  return thoughtStream(thought)(tokenIndex);
}

/** State of a `Random` as JSON: `drawn` counts 32-bit words. */
export interface RandomState {
  seed: string;
  stream: string;
  drawn: number;
}

/** A sequence of random values for shuffles and choices. Its whole state is a counter, so a run resumes exactly. */
export class Random {
  readonly #seed: bigint;
  readonly #stream: string;
  readonly #word: (index: number) => number;
  #drawn = 0;

  /** `stream` names the use ('data-order', 'positions' ...): generators of one seed and different names are independent. */
  constructor(seed: Seed, stream: string) {
    this.#word = wordStream(seed, `random:${stream}`, []);
    this.#seed = BigInt(seed);
    this.#stream = stream;
  }

  static from(state: RandomState): Random {
    const random = new Random(BigInt(state.seed), state.stream);
    random.#drawn = state.drawn;
    return random;
  }

  state(): RandomState {
    return { seed: String(this.#seed), stream: this.#stream, drawn: this.#drawn };
  }

  /** 32 random bits. */
  #next(): number {
    return this.#word(this.#drawn++);
  }

  /** In [0, 1), 53 bits. */
  float(): number {
    return ((this.#next() >>> 5) * 0x4000000 + (this.#next() >>> 6)) / 2 ** 53;
  }

  /** Integer in [0, n) without modulo bias; 1 <= n <= 2^32. */
  integer(n: number): number {
    if (!Number.isInteger(n) || n < 1 || n > 2 ** 32) throw internal(`Random.integer(${n}): expected 1 <= n <= 2^32`);
    const limit = 2 ** 32 - (2 ** 32 % n);
    for (;;) {
      const word = this.#next();
      if (word < limit) return word % n;
    }
  }

  /** Standard normal by Box-Muller; the second value is dropped so that the counter alone is the state. */
  normal(): number {
    // 1 - u is in (0, 1], where the logarithm is finite.
    return Math.sqrt(-2 * Math.log(1 - this.float())) * Math.cos(2 * Math.PI * this.float());
  }

  /** Fisher-Yates in place; returns its argument. */
  shuffle<T extends unknown[]>(items: T): T {
    for (let i = items.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [items[i], items[j]] = [items[j], items[i]];
    }
    return items;
  }
}
