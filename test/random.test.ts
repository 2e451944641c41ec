import { describe, expect, test } from 'vitest';
import { philox4x32, Random, thoughtStream, thoughtUniforms, uniform, type Words4 } from '../src/random.ts';

const thought = { seed: 7, step: 3, document: 'shard-0:12', position: 40, rollout: 1 };

/** Sum of (observed - expected)^2 / expected over equally likely cells. */
function chiSquare(counts: readonly number[]): number {
  const expected = counts.reduce((a, b) => a + b, 0) / counts.length;
  return counts.reduce((sum, n) => sum + (n - expected) ** 2 / expected, 0);
}

describe('philox4x32', () => {
  // Known-answer vectors of the Random123 distribution (kat_vectors, "philox4x32 10").
  const vectors: [Words4, [number, number], Words4][] = [
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ];
  test.each(vectors)('known answer for counter %j, key %j', (counter, key, expected) => {
    expect(philox4x32(counter, key)).toEqual(expected);
  });
});

describe('thought uniforms', () => {
  test('do not depend on the order of calls', () => {
    const stream = thoughtStream(thought);
    const forward = Array.from({ length: 50 }, (_, i) => stream(i));
    const again = thoughtStream(thought);
    const backward = Array.from({ length: 50 }, (_, i) => again(49 - i)).reverse();
    expect(backward).toEqual(forward);
    expect(forward[17]).toBe(thoughtUniforms(thought, 17));
  });

  test('are pinned: a change here changes every recorded run', () => {
    expect([0, 1, 5, 4000].map((i) => thoughtUniforms(thought, i))).toMatchInlineSnapshot(`
      [
        0.8135087490081787,
        0.3730674982070923,
        0.01787358522415161,
        0.49047714471817017,
      ]
    `);
  });

  test('differ in every coordinate, and hold seeds of 64 bits', () => {
    const variants = [
      thought,
      { ...thought, seed: 8 },
      { ...thought, seed: 7n + (1n << 63n) },
      { ...thought, step: 4 },
      { ...thought, document: 'shard-0:13' },
      { ...thought, position: 41 },
      { ...thought, rollout: 2 },
      { ...thought, document: 'é\ud800' },
    ];
    expect(new Set(variants.map((v) => thoughtUniforms(v, 0))).size).toBe(variants.length);
    expect(thoughtUniforms({ ...thought, seed: 7n }, 0)).toBe(thoughtUniforms(thought, 0));
    expect(uniform(1, 'a', 'b', 'c')).not.toBe(uniform(1, 'a', 'b,c'));
  });

  test('are exact in float32 and below 1', () => {
    const stream = thoughtStream(thought);
    for (let i = 0; i < 1000; i++) {
      const u = stream(i);
      expect(Math.fround(u)).toBe(u);
      expect(u >= 0 && u < 1).toBe(true);
    }
  });

  test('are uniform along tokens and across rollouts (chi-square, 63 degrees of freedom)', () => {
    const cells = 64;
    const draws = 20_000;
    const along = new Array<number>(cells).fill(0);
    const across = new Array<number>(cells).fill(0);
    const stream = thoughtStream(thought);
    for (let i = 0; i < draws; i++) {
      along[Math.floor(stream(i) * cells)]++;
      across[Math.floor(thoughtUniforms({ ...thought, rollout: i }, 0) * cells)]++;
    }
    // 99.9% quantile of chi-square with 63 degrees of freedom: 103.4; its 0.1% quantile: 33.9.
    for (const counts of [along, across]) {
      expect(chiSquare(counts)).toBeLessThan(103.4);
      expect(chiSquare(counts)).toBeGreaterThan(33.9);
    }
  });

  test('refuse a seed that is no 64-bit integer', () => {
    expect(() => uniform(-1, 's')).toThrow('seed -1: expected an integer from 0 to 2^64 - 1');
    expect(() => uniform(0.5, 's')).toThrow('seed 0.5: expected an integer');
    expect(() => uniform(1n << 64n, 's')).toThrow('seed 18446744073709551616');
    expect(() => uniform(1, 's', Number.NaN)).toThrow('internal:');
  });
});

describe('Random', () => {
  test('shuffles deterministically, differently by seed and stream', () => {
    const shuffled = (seed: number, stream: string) =>
      new Random(seed, stream).shuffle(Array.from({ length: 20 }, (_, i) => i));
    expect(shuffled(1, 'order')).toEqual(shuffled(1, 'order'));
    expect(shuffled(1, 'order')).not.toEqual(shuffled(2, 'order'));
    expect(shuffled(1, 'order')).not.toEqual(shuffled(1, 'positions'));
    expect(shuffled(1, 'order').sort((a, b) => a - b)).toEqual(Array.from({ length: 20 }, (_, i) => i));
  });

  test('every permutation of 4 is equally likely', () => {
    const random = new Random(5, 'permutations');
    const counts = new Map<string, number>();
    for (let i = 0; i < 24_000; i++) {
      const key = random.shuffle([0, 1, 2, 3]).join('');
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
    expect(counts.size).toBe(24);
    // 99.9% quantile of chi-square with 23 degrees of freedom.
    expect(chiSquare([...counts.values()])).toBeLessThan(49.7);
  });

  test('resumes exactly from its state, through JSON', () => {
    const random = new Random(2n ** 64n - 1n, 'data');
    for (let i = 0; i < 7; i++) random.integer(10);
    const resumed = Random.from(JSON.parse(JSON.stringify(random.state())));
    const draw = (r: Random) => [r.float(), r.integer(3), r.normal(), r.shuffle([1, 2, 3, 4, 5])];
    expect(draw(resumed)).toEqual(draw(random));
  });

  test('normal has mean 0 and variance 1', () => {
    const random = new Random(11, 'normal');
    const n = 20_000;
    const values = Array.from({ length: n }, () => random.normal());
    const mean = values.reduce((a, b) => a + b, 0) / n;
    const variance = values.reduce((a, b) => a + (b - mean) ** 2, 0) / n;
    // 4 standard errors.
    expect(Math.abs(mean)).toBeLessThan(4 / Math.sqrt(n));
    expect(Math.abs(variance - 1)).toBeLessThan(4 * Math.sqrt(2 / n));
  });

  test('integer covers [0, n) and refuses other n', () => {
    const random = new Random(3, 'integers');
    expect(new Set(Array.from({ length: 200 }, () => random.integer(5)))).toEqual(new Set([0, 1, 2, 3, 4]));
    expect(random.integer(1)).toBe(0);
    expect(random.integer(2 ** 32)).toBeLessThan(2 ** 32);
    expect(() => random.integer(0)).toThrow('internal: Random.integer(0)');
  });
});
