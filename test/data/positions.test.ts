import { describe, expect, it } from 'vitest';
import { choosePositions, needsPosition, type PositionOptions } from '../../src/data/positions.ts';

const document = (length: number, id = 'a', listedPositions?: number[]) => ({
  id,
  tokens: new Int32Array(length),
  ...(listedPositions !== undefined && { listedPositions }),
});

const options = (rest: Partial<PositionOptions> = {}): PositionOptions => ({ seed: 0, step: 1, horizon: 1, ...rest });

describe('uniform', () => {
  it('takes distinct positions, ascending, with context before and the horizon after', () => {
    for (let step = 0; step < 50; step++) {
      const positions = choosePositions(
        'uniform',
        document(20),
        options({ step, count: 5, horizon: 4, minContext: 3 }),
      );
      expect(new Set(positions).size).toBe(5);
      expect(positions).toEqual([...positions].sort((a, b) => a - b));
      expect(positions.every((t) => t >= 3 && t + 4 <= 20)).toBe(true);
    }
  });

  it('reaches all positions equally often', () => {
    const counts = new Array<number>(8).fill(0);
    for (let step = 0; step < 3000; step++) {
      for (const t of choosePositions('uniform', document(8), options({ step, count: 3 }))) counts[t]++;
    }
    expect(counts[0]).toBe(0);
    // 7 positions, 3 a step: 3000 * 3/7 = 1286 expected, standard deviation 27.
    for (const count of counts.slice(1)) expect(Math.abs(count - 1286)).toBeLessThan(110);
  });

  it('depends on seed, step and document, and on nothing else', () => {
    const at = (rest: Partial<PositionOptions>, id = 'a') =>
      choosePositions('uniform', document(1000, id), options(rest));
    expect(at({})).toEqual(at({}));
    expect(new Set([at({}), at({ seed: 1 }), at({ step: 2 }), at({}, 'b')].flat()).size).toBe(4);
  });

  it('gives all positions of a short document, none of one too short', () => {
    expect(choosePositions('uniform', document(4), options({ count: 9 }))).toEqual([1, 2, 3]);
    expect(choosePositions('uniform', document(4), options({ horizon: 3 }))).toEqual([1]);
    expect(choosePositions('uniform', document(4), options({ horizon: 4 }))).toEqual([]);
    expect(choosePositions('uniform', document(0), options())).toEqual([]);
  });
});

describe('every', () => {
  it('takes each k-th', () => {
    expect(choosePositions('every', document(5), options())).toEqual([1, 2, 3, 4]);
    expect(choosePositions('every', document(9), options({ stride: 3, minContext: 2, horizon: 2 }))).toEqual([2, 5]);
    expect(choosePositions('every', document(1), options())).toEqual([]);
    expect(choosePositions('every', document(0), options({ stride: 7 }))).toEqual([]);
  });
});

describe('column', () => {
  it('takes those of the data that have context and horizon', () => {
    const listed = document(10, 'a', [0, 2, 8, 9]);
    expect(choosePositions('column', listed, options())).toEqual([2, 8, 9]);
    expect(choosePositions('column', listed, options({ horizon: 2, minContext: 3 }))).toEqual([8]);
  });

  it('says when the data has none', () => {
    expect(() => choosePositions('column', document(10), options())).toThrow(
      'document a: --position-strategy column, but the data has no column "positions"',
    );
  });
});

describe('entropy and surprise', () => {
  const scores = [9, 1, 5, 2, 5, 3, 8];
  it.each(['entropy', 'surprise'] as const)(
    '%s takes the highest scores, of equal ones the first, in order',
    (strategy) => {
      const choose = (count: number, rest = {}) =>
        choosePositions(strategy, document(7), options({ scores, count, ...rest }));
      expect(choose(1)).toEqual([6]);
      expect(choose(2)).toEqual([2, 6]);
      expect(choose(3, { horizon: 2 })).toEqual([2, 4, 5]);
      expect(choose(2, { minContext: 5 })).toEqual([5, 6]);
      expect(choose(9)).toEqual([1, 2, 3, 4, 5, 6]);
      expect(choose(1, { horizon: 7 })).toEqual([]);
      expect(() => choosePositions(strategy, document(7), options())).toThrow('internal: positions by score without');
    },
  );
});

describe('needsPosition', () => {
  it('holds exactly where a position can be chosen', () => {
    for (const strategy of ['uniform', 'column', 'every'] as const) {
      for (let length = 0; length < 6; length++) {
        const listed = document(length, 'a', [0, 3]);
        const rules = { horizon: 2, minContext: 2 };
        const chosen = choosePositions(strategy, listed, options(rules));
        expect(needsPosition(strategy, rules).holds(listed)).toBe(chosen.length > 0);
      }
    }
  });
});
