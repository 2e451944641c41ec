import { describe, expect, it } from 'vitest';
import { BadRows, badRowsNotice } from '../../src/data/bad-rows.ts';
import { UserError } from '../../src/errors.ts';

const bad = (place: string, firstRow: number, rows = 1) => ({
  ...{ firstRow, rows },
  problem: new UserError(`${place}: "text" is empty`),
});
const lines = ({ list }: BadRows): unknown[] =>
  list
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));

describe('BadRows', () => {
  it('lists file, row and reason, and shows the first messages', () => {
    const rows = new BadRows();
    rows.add('a.csv', bad('a.csv:3 (line 4)', 3));
    rows.add('b.parquet', { ...bad('', 11, 10), problem: new UserError('b.parquet: rows 11 to 20 cannot be decoded') });
    rows.add('c.txt', bad('c.txt', 1));
    rows.add('c.txt', { ...bad('', 2), problem: new UserError(`c.txt:2: ${'x'.repeat(600)}`) });
    expect(lines(rows)).toEqual([
      { file: 'a.csv', row: 3, rows: 1, reason: '(line 4): "text" is empty' },
      { file: 'b.parquet', row: 11, rows: 10, reason: 'rows 11 to 20 cannot be decoded' },
      { file: 'c.txt', row: 1, rows: 1, reason: '"text" is empty' },
      { file: 'c.txt', row: 2, rows: 1, reason: 'x'.repeat(500) },
    ]);
    expect(rows.count).toBe(13);
    // What --json prints of them.
    expect(Object.keys(JSON.parse(JSON.stringify(rows)))).toEqual(['count', 'first']);
    expect(badRowsNotice(rows, 'run/bad-rows.jsonl')).toMatch(
      /^warning: 13 rows are bad and left out \(listed in run\/bad-rows\.jsonl\): a\.csv:3 \(line 4\): "text" is empty; b\.par.*; \.\.\.$/,
    );
    expect(badRowsNotice(new BadRows(), 'x')).toBeUndefined();
    expect(new BadRows().list).toBe('');
  });

  it('are bounded, whatever comes, of several corpora together', () => {
    const [one, other] = [new BadRows(), new BadRows()];
    for (let i = 1; i <= 10_003; i++) one.add('a.jsonl', bad(`a.jsonl:${i}`, i));
    for (let i = 1; i <= 6000; i++) other.add('b.jsonl', bad(`b.jsonl:${i}`, i));
    expect(lines(one)).toHaveLength(10_001);
    expect(lines(one).at(-1)).toEqual({ not_listed: 3 });
    const all = lines(BadRows.of([other, one]));
    expect(all).toHaveLength(10_001);
    expect(all[5999]).toMatchObject({ file: 'b.jsonl', row: 6000 });
    expect(all[9999]).toMatchObject({ file: 'a.jsonl', row: 4000 });
    expect(all.at(-1)).toEqual({ not_listed: 6003 });
    expect(BadRows.of([other, one])).toMatchObject({ count: 16_003, first: [...other.first, ...one.first] });
  });
});
