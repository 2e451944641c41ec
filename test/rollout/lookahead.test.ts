import { expect, test, vi } from 'vitest';
import { Lookahead } from '../../src/rollout/lookahead.ts';

const unchecked = () => {};

async function* stream(items: readonly number[], ended: () => void): AsyncGenerator<number> {
  try {
    yield* items;
  } finally {
    ended();
  }
}

test('peeks without taking, and no further than asked', async () => {
  const pulled: number[] = [];
  const lookahead = new Lookahead([1, 2, 3], (item) => pulled.push(item));
  expect(await lookahead.peek(2)).toEqual([1, 2]);
  expect(pulled).toEqual([1, 2]);
  expect(lookahead.shift()).toBe(1);
  expect(await lookahead.peek(1)).toEqual([2]);
  expect(await lookahead.peek(9)).toEqual([2, 3]);
  expect([lookahead.shift(), lookahead.shift(), lookahead.shift()]).toEqual([2, 3, undefined]);
});

test('closes a source that it has not read to its end, once', async () => {
  const ended = vi.fn();
  const lookahead = new Lookahead(stream([1, 2, 3], ended), unchecked);
  await lookahead.peek(1);
  expect(ended).not.toHaveBeenCalled();
  await lookahead.close();
  await lookahead.close();
  expect(ended).toHaveBeenCalledTimes(1);
});

test('checks items as they are read', async () => {
  const lookahead = new Lookahead([1, -1], (item) => {
    if (item < 0) throw new Error(`item ${item}`);
  });
  expect(await lookahead.peek(1)).toEqual([1]);
  await expect(lookahead.peek(2)).rejects.toThrow('item -1');
});
