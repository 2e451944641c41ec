import { describe, expect, it } from 'vitest';
import { packDocuments } from '../../src/data/packing.ts';

const pack = (documents: number[][], length: number, eosId: number | undefined = 0) =>
  packDocuments(documents, { length, eosId }).map((block) => [...block]);

describe('packDocuments', () => {
  it('joins documents by the end-of-document token; blocks overlap by one token', () => {
    expect(
      pack(
        [
          [1, 2, 3],
          [4, 5],
        ],
        4,
      ),
    ).toEqual([
      [1, 2, 3, 0],
      [0, 4, 5, 0],
    ]);
    expect(pack([[1, 2, 3], [4]], 4)).toEqual([
      [1, 2, 3, 0],
      [0, 4, 0],
    ]);
  });

  it('has every token but the first as a target exactly once', () => {
    for (let length = 2; length < 12; length++) {
      const blocks = pack([[1, 2, 3, 4], [5], [6, 7, 8]], length);
      expect(blocks.flatMap((block) => block.slice(1))).toEqual([2, 3, 4, 0, 5, 0, 6, 7, 8, 0]);
      expect(blocks.every((block) => block.length >= 2 && block.length <= length)).toBe(true);
    }
  });

  it('adds no second end, nothing for empty documents, and nothing without an end token', () => {
    expect(pack([[1, 0], [], [2]], 8)).toEqual([[1, 0, 2, 0]]);
    expect(packDocuments([[1], [2]], { length: 8, eosId: undefined }).map((block) => [...block])).toEqual([[1, 2]]);
    expect(pack([], 8)).toEqual([]);
    expect(pack([[0]], 8)).toEqual([]);
  });
});
