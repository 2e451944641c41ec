import { expect, it } from 'vitest';
import type { RolloutDocument } from '../../src/rollout/index.ts';
import { fillStep, MAX_BATCHES } from '../../src/train/dynamic-sampling.ts';
import { BARREN_STEPS, StepDraw } from '../../src/train/step-draw.ts';

const documentOf = (n: number): RolloutDocument => ({ id: String(n), tokens: Int32Array.of(n), positions: [1] });
const numbers = (documents: readonly RolloutDocument[]) => documents.map(({ id }) => Number(id));

/** 0, 1, 2 ...; `size` of them, or without an end. */
function drawing(size = Number.POSITIVE_INFINITY) {
  const asked: number[] = [];
  let next = 0;
  return {
    asked,
    draw: async (count: number) => {
      asked.push(count);
      const documents = Array.from({ length: Math.min(count, size - next) }, (_, i) => documentOf(next + i));
      next += documents.length;
      return documents;
    },
  };
}

/** Rounds are their documents, and those that `holds` says give a gradient. */
const fill = (wanted: number, draw: (count: number) => Promise<RolloutDocument[]>, holds: (n: number) => boolean) =>
  fillStep({
    ...{ wanted, draw },
    sample: async (documents) => documents,
    keptOf: async (documents) => documents.filter(({ id }) => holds(Number(id))),
  });

it('samples once where all give a gradient', async () => {
  const { asked, draw } = drawing();
  const { rounds, kept, sampled, withGradient } = await fill(4, draw, () => true);
  expect(asked).toEqual([4]);
  expect(rounds.map(numbers)).toEqual([[0, 1, 2, 3]]);
  expect({ kept: numbers(kept), sampled, withGradient }).toEqual({ kept: [0, 1, 2, 3], sampled: 4, withGradient: 4 });
});

it('draws what is missing by the share that gave a gradient, and trains on the first', async () => {
  const { asked, draw } = drawing();
  const { kept, sampled, withGradient } = await fill(6, draw, (n) => n % 3 === 0);
  // 2 of 6, so 4 more need 12, of which a round takes 6: 4 of 12. Then 2 need 6 again.
  expect(asked).toEqual([6, 6, 6]);
  expect({ kept: numbers(kept), sampled, withGradient }).toEqual({
    ...{ kept: [0, 3, 6, 9, 12, 15], sampled: 18, withGradient: 6 },
  });
  const other = drawing();
  // 3 of 4, so 1 more needs 4/3: 2, and both give a gradient.
  const more = await fill(4, other.draw, (n) => n > 0);
  expect(other.asked).toEqual([4, 2]);
  expect({ kept: numbers(more.kept), sampled: more.sampled, withGradient: more.withGradient }).toEqual({
    ...{ kept: [1, 2, 3, 4], sampled: 6, withGradient: 5 },
  });
});

it('ends after so many documents, or with the data, with fewer or none', async () => {
  const endless = drawing();
  const none = await fill(4, endless.draw, () => false);
  expect(endless.asked).toEqual(Array.from({ length: MAX_BATCHES }, () => 4));
  expect({ ...none, rounds: none.rounds.length }).toEqual({
    rounds: MAX_BATCHES,
    kept: [],
    sampled: 40,
    withGradient: 0,
  });
  const one = await fill(4, drawing().draw, (n) => n === 7);
  expect({ kept: numbers(one.kept), sampled: one.sampled }).toEqual({ kept: [7], sampled: 40 });
  const small = await fill(4, drawing(6).draw, (n) => n % 2 === 0);
  expect({ kept: numbers(small.kept), sampled: small.sampled }).toEqual({ kept: [0, 2, 4], sampled: 6 });
});

it('a step draws no document twice, and passes over those without a place', async () => {
  const looked: number[] = [];
  let next = 0;
  /** 0 to 9 over and over. */
  const draw = new StepDraw({
    perStep: 4,
    nextBatch: async (count) => Array.from({ length: count }, () => ({ id: String(next++ % 10) })),
    place: async (batch) => {
      looked.push(...batch.map(({ id }) => Number(id)));
      return batch.map(({ id }) => documentOf(Number(id))).filter(({ id }) => Number(id) % 2 === 1);
    },
  });
  expect(numbers(await draw.next(2))).toEqual([1, 3]); // 0 1, 2, 3
  expect(next).toBe(4);
  expect(numbers(await draw.next(4))).toEqual([5, 7, 9]); // and then nothing new
  expect(looked).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect({ seen: draw.seen, share: draw.share }).toEqual({ seen: 10, share: 0.5 });
  expect(next).toBe(10 + BARREN_STEPS * 4);
  expect(await draw.next(4)).toEqual([]);
});
