import { expect, it } from 'vitest';
import { microBatches, packMicroBatches, paddedTokens } from '../src/micro-batches.ts';
import type { TreeDocument } from '../src/tree-batch.ts';

/** A document of so many trunk tokens, with branches of so many tokens. */
const tree = (trunk: number, ...branches: number[]): TreeDocument => ({
  trunk: new Int32Array(trunk),
  losses: [],
  branches: branches.map((length) => ({ trunkLength: 1, tokens: new Int32Array(length), losses: [] })),
});

it('counts tokens with their padding: D (P + R L)', () => {
  expect(paddedTokens([tree(10, 4, 6)])).toBe(10 + 2 * 6);
  expect(paddedTokens([tree(10, 4, 6), tree(3, 1, 1, 1)])).toBe(2 * (10 + 3 * 6));
  expect(paddedTokens([tree(10)])).toBe(10); // what stands in for branches does not count
});

it('fills each micro-batch up to the budget, in order', () => {
  const documents = [tree(10), tree(12), tree(9), tree(20), tree(1)];
  // Two documents of up to 12 trunk tokens: 24; a third would make it 36.
  expect(microBatches(documents, 26)).toEqual([[tree(10), tree(12)], [tree(9)], [tree(20)], [tree(1)]]);
  expect(microBatches(documents, 42)).toEqual([documents.slice(0, 3), documents.slice(3)]);
  expect(microBatches(documents, 1000)).toEqual([documents]);
});

it('gives a document over the budget a micro-batch of its own', () => {
  expect(microBatches([tree(2), tree(50), tree(2)], 8)).toEqual([[tree(2)], [tree(50)], [tree(2)]]);
});

it('makes no micro-batch of nothing', () => {
  expect(microBatches([], 8)).toEqual([]);
});

it('packs documents of like shape together, each once', () => {
  const documents = [tree(10), tree(40), tree(11), tree(39), tree(12)];
  expect(microBatches(documents, 84).map((batch) => paddedTokens(batch))).toEqual([80, 78, 12]);
  const packed = packMicroBatches(documents, 84);
  expect(packed).toEqual([
    [tree(40), tree(39)],
    [tree(12), tree(11), tree(10)],
  ]);
});

it('cuts a document over the budget by its branches; the loss of the trunk is counted once', () => {
  const document = { ...tree(10, 4, 5, 3, 5, 2), losses: [{ token: 0, target: 1, nllWeight: 1 }] };
  const packed = packMicroBatches([document], 20); // a trunk of 10 leaves room for two branches of 5
  expect(packed.map(([{ branches }]) => branches.length)).toEqual([2, 2, 1]);
  expect(packed.flatMap(([{ branches }]) => branches)).toEqual(document.branches);
  expect(packed.flatMap(([{ losses }]) => losses)).toEqual(document.losses);
  expect(packMicroBatches([document], 12).map(([{ branches }]) => branches.length)).toEqual([1, 1, 1, 1, 1]);
});
