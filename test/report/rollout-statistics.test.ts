import { expect, test } from 'vitest';
import { distribution, rolloutStatistics, type ThoughtRow } from '../../src/report/rollout-statistics.ts';
import { formatThought, selectThoughts } from '../../src/report/thoughts.ts';

function row(reward: number, more: Partial<ThoughtRow> = {}): ThoughtRow {
  const place = { step: 0, documentId: 'd', position: 3, rollout: 0 };
  const texts = { context: 'two and two', thought: 'add\n"them"', target: ' four' };
  return { ...place, ...texts, reward, advantage: 0.25, finishReason: 'closed', thoughtLength: 4, ...more };
}

test('a distribution by hand', () => {
  expect(distribution([1, 2, 3, 6])).toEqual({ mean: 3, std: Math.sqrt(3.5), min: 1, max: 6 });
  expect(distribution([])).toEqual({ mean: Number.NaN, std: Number.NaN, min: Number.NaN, max: Number.NaN });
  expect(distribution([1, Number.NaN]).mean).toBeNaN();
});

test('statistics of two groups, one without spread', () => {
  const rows = [
    row(1),
    row(-1, { finishReason: 'length', thoughtLength: 8 }),
    row(0.5, { documentId: 'e' }),
    row(0.5, { documentId: 'e', finishReason: 'eos' }),
  ];
  expect(rolloutStatistics(rows)).toMatchObject({
    rows: 4,
    documents: 2,
    positions: 2,
    reward: { mean: 0.25, min: -1, max: 1 },
    sharePositive: 0.75,
    shareWithoutSpread: 0.5,
    thoughtLength: { mean: 5, max: 8 },
    finishReasons: { closed: 2, length: 1, eos: 1 },
  });
});

test('best, worst and random thoughts share none', () => {
  const rows = [3, 1, 4, 1.5, 5, 9, 2, 6].map((reward) => row(reward));
  const { best, worst, random } = selectThoughts(rows, 2, 0);
  expect(best.map(({ reward }) => reward)).toEqual([9, 6]);
  expect(worst.map(({ reward }) => reward)).toEqual([1, 1.5]);
  expect(random).toHaveLength(2);
  for (const chosen of random) expect([...best, ...worst]).not.toContain(chosen);
  expect(selectThoughts(rows, 2, 0).random).toEqual(random);
  expect(selectThoughts(rows.slice(0, 3), 2, 0)).toMatchObject({ best: [{}, {}], worst: [{}], random: [] });
  expect(selectThoughts(rows, 0, 0)).toEqual({ best: [], worst: [], random: [] });
});

test('a thought as text, with and without colour', () => {
  expect(formatThought(row(1.5, { finishReason: 'length' }), false)).toMatchInlineSnapshot(`
    "  reward +1.500  advantage +0.250  d @ 3  step 0  (length)
        text    two and two
        thought add\\n"them"
        then     four"
  `);
  expect(formatThought(row(1.5), true)).toContain('\u001b[32m+1.500\u001b[39m');
  expect(formatThought(row(-1.5), true)).toContain('\u001b[31m-1.500\u001b[39m');
  const long = formatThought(row(0, { context: 'x'.repeat(200), thought: `a${'b'.repeat(900)}c` }), false);
  expect(long).toMatch(/…x{90}\n/);
  expect(long).toMatch(/ab{149} … b{149}c/);
});
