import { describe, expect, it } from 'vitest';
import { DataLoader } from '../../src/data/loader.ts';

const items = Array.from({ length: 10 }, (_, i) => i);
const sorted = (batch: number[]) => [...batch].sort((a, b) => a - b);

describe('DataLoader', () => {
  it('gives every item once an epoch, in another order each', () => {
    const loader = new DataLoader(items, { seed: 3 });
    const epochs = [0, 1].map(() => [...loader.nextBatch(5), ...loader.nextBatch(5)]);
    expect(epochs.map(sorted)).toEqual([items, items]);
    expect(epochs[0]).not.toEqual(epochs[1]);
    expect(epochs[0]).not.toEqual(items);
  });

  it('never has an item twice in a batch, and uses all of them in time', () => {
    const loader = new DataLoader(items, { seed: 3 });
    const seen = new Set<number>();
    for (let step = 0; step < 30; step++) {
      const batch = loader.nextBatch(4);
      expect(new Set(batch).size).toBe(4);
      for (const item of batch) seen.add(item);
    }
    expect(loader.cursor).toEqual({ epoch: 14, index: 8, size: 10 });
    expect(seen.size).toBe(10);
  });

  it('depends on the seed alone', () => {
    const first = (seed: number) => new DataLoader(items, { seed }).nextBatch(10);
    expect(first(3)).toEqual(first(3));
    expect(first(3)).not.toEqual(first(4));
  });

  it('continues from its cursor, wherever it stands', () => {
    const loader = new DataLoader(items, { seed: 3 });
    for (let step = 0; step < 8; step++) {
      const cursor = JSON.parse(JSON.stringify(loader.cursor));
      expect(new DataLoader(items, { seed: 3, cursor }).nextBatch(3)).toEqual(loader.nextBatch(3));
    }
  });

  it('refuses steps that are larger than the data, and cursors of other data', () => {
    const loader = new DataLoader(items, { seed: 3 });
    expect(() => loader.nextBatch(11)).toThrow(
      'the data has 10 documents, but a step takes 11. Lower --documents-per-step to 10 or less, or add data',
    );
    const names = { items: 'blocks', flag: '--batch-tokens' };
    expect(() => new DataLoader([], { seed: 3, names }).checkBatchSize(1)).toThrow('the data has 0 blocks');
    const cursor = { epoch: 0, index: 4, size: 9 };
    expect(() => new DataLoader(items, { seed: 3, cursor })).toThrow('the data has 10 documents, but had 9 when');
  });
});
