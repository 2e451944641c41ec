import { expect, test } from 'vitest';
import { CacheFit, type CacheShape, keysOf, shapeFor } from '../../src/rollout/cache-shape.ts';

const shape = (documents: number, rowsPerDocument: number, trunkCapacity: number, branchCapacity: number) => ({
  ...{ documents, rowsPerDocument, trunkCapacity, branchCapacity },
});

test('a shape holds the largest of the documents, in buckets', () => {
  const need = { trunk: 65, rows: 3, branch: 1 };
  expect(shapeFor([need, { trunk: 3, rows: 8, branch: 33 }], 500)).toEqual(shape(2, 8, 128, 64));
  const capacities = [1, 32, 33, 65, 97, 129, 161, 225, 289].map((branch) => shapeFor([{ ...need, branch }], 500));
  expect(capacities.map(({ branchCapacity }) => branchCapacity)).toEqual([32, 32, 64, 96, 128, 160, 224, 288, 384]);
  expect(shapeFor([{ ...need, branch: 97 }], 100)).toEqual(shape(1, 3, 128, 100));
  expect(shapeFor([need], 14)).toEqual(shape(1, 3, 128, 14));
  expect(keysOf(shape(2, 8, 128, 64))).toBe(2 * 8 * 192);
});

test('caches grow at once, and what is twice too large shrinks along', () => {
  const fit = new CacheFit();
  const now = shape(4, 16, 512, 64);
  expect(fit.next(now, now)).toBeUndefined();
  expect(fit.next(now, shape(4, 16, 576, 64))).toEqual(shape(4, 16, 576, 64));
  expect(fit.next(now, shape(3, 9, 320, 96))).toEqual(shape(4, 16, 512, 96));
  expect(fit.next(now, shape(2, 8, 256, 96))).toEqual(shape(2, 8, 256, 96));
});

test('caches shrink after eight steps in a row that need at most half of them', () => {
  const fit = new CacheFit();
  const now = shape(4, 16, 512, 64);
  const steps = (need: CacheShape, count: number) => Array.from({ length: count }, () => fit.next(now, need));
  const half = shape(4, 8, 512, 64);
  expect(steps(half, 7)).toEqual(Array(7).fill(undefined));
  expect(steps(shape(4, 9, 512, 64), 1)).toEqual([undefined]); // more than half: counted anew
  expect(steps(half, 8)).toEqual([...Array(7).fill(undefined), half]);
  expect(steps(half, 8)).toEqual([...Array(7).fill(undefined), half]);
  expect(steps(shape(4, 16, 256, 32), 8).at(-1)).toEqual(shape(4, 16, 256, 32)); // half of the keys
});
