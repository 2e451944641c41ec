import { readFileSync, writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { openDataFiles } from '../../src/data/data-files.ts';
import { readDocuments } from '../../src/data/documents.ts';
import { type FoundRow, type RowPlace, START } from '../../src/data/row.ts';
import { Random } from '../../src/random.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { goldenPath, readGoldenJson } from '../golden/golden.ts';
import { collect } from './fixture.ts';

/** What Python's csv module wrote (test/golden/make_csv.py). */
const EXPECTED = readGoldenJson<Record<string, string>[]>('csv/rows');

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

async function rowsOf(path: string, start: RowPlace = START): Promise<FoundRow[]> {
  const [{ file, read }] = await openDataFiles([path]);
  return collect(read(file, start, { text: 'text', all: [] }));
}
const valuesOf = (rows: readonly FoundRow[]) => rows.map((found) => ('row' in found ? found.row.values : undefined));
const problemsOf = (rows: readonly FoundRow[]) =>
  rows.flatMap((found) => ('problem' in found ? found.problem.message : []));
const write = (name: string, content: string | Buffer) => {
  writeFileSync(folder.in(name), content);
  return folder.in(name);
};

describe('.csv', () => {
  it.each(['unix', 'minimal', 'excel'])('%s: gives the rows that Python wrote, from every place on', async (name) => {
    const path = goldenPath('csv', `${name}.csv`);
    const rows = await rowsOf(path);
    expect(valuesOf(rows)).toEqual(EXPECTED);
    expect('row' in rows[1] && rows[1].row).toMatchObject({ file: path, row: 2, columns: Object.keys(EXPECTED[0]) });
    for (const [i, { next }] of rows.entries()) expect(await rowsOf(path, next)).toEqual(rows.slice(i + 1));
    const compressed = write('rows.csv.gz', gzipSync(readFileSync(path)));
    expect(valuesOf(await rowsOf(compressed))).toEqual(EXPECTED);
  });

  it('goes on behind a row that is bad', async () => {
    const latin1 = Buffer.concat([Buffer.from('"x\ny '), Buffer.from([0xe9]), Buffer.from('",2\n')]);
    const bad = 'text,id\na,1\n\nonly one\n"a" b,3\n5" pipe,4\n';
    const rows = await rowsOf(write('a.csv', Buffer.concat([Buffer.from(bad), latin1, Buffer.from('last,9')])));
    expect(valuesOf(rows)).toEqual([
      { text: 'a', id: '1' },
      undefined,
      undefined,
      { text: '5" pipe', id: '4' },
      undefined,
      { text: 'last', id: '9' },
    ]);
    const [count, quote, utf8] = problemsOf(rows);
    expect(count).toMatch(/a\.csv:2 \(line 4\): expected 2 fields, as in the first line, found 1$/);
    expect(quote).toMatch(
      /a\.csv:3 \(line 5\): text behind the closing quote of a field; a quote in it is written ""$/,
    );
    expect(utf8).toMatch(/a\.csv:5 \(line 7\): line 8: byte 45 \(0xe9\) is not UTF-8\./);
  });

  it.each([
    ['a quote that stays open', 'text\n"a\nb\n', /the quotes of a field in line 2 or later are never closed\. Is the/],
    ['a column twice', 'a,b,a\n', /the first line has the column "a" twice/],
    ['only columns', 'a,b\n', /a\.csv: the file holds no rows$/],
  ])('refuses %s', async (_what, content, message) => {
    await expect(collect(readDocuments([write('a.csv', content)]))).rejects.toThrow(message);
  });
});

describe('.json', () => {
  it('is an array of objects, or an object a line', async () => {
    for (const content of [JSON.stringify(EXPECTED, null, 2), EXPECTED.map((row) => JSON.stringify(row)).join('\n')]) {
      const path = write('a.json', `\ufeff\n${content}`.replace('\ufeff\n{', '{'));
      const rows = await rowsOf(path);
      expect(valuesOf(rows)).toEqual(EXPECTED);
      for (const i of rows.keys()) expect(await rowsOf(path, rows[i].next)).toEqual(rows.slice(i + 1));
    }
  });

  it('is cut where JSON.parse has its elements, whatever they hold and wherever a chunk ends', async () => {
    const random = new Random(0, 'json');
    const strange = ['"', '\\', '\\"', ']', '[{', '}', ',', '日', '\u2028', '\n', ''];
    const value = (depth: number): unknown => {
      const kind = random.integer(depth > 3 ? 4 : 6);
      if (kind < 2)
        return Array.from({ length: random.integer(6) }, () => strange[random.integer(strange.length)]).join('');
      if (kind === 2) return -1.5e-7;
      if (kind === 3) return null;
      const items = Array.from({ length: random.integer(4) }, () => value(depth + 1));
      return kind === 4 ? items : Object.fromEntries(items.map((item) => [`${value(9)}k`, item]));
    };
    // Some elements reach over the chunks of a MiB that a file is read in.
    const elements = Array.from({ length: 300 }, (_, i) => ({ [`a${i}`]: value(0), pad: 'é'.repeat(i * 20) }));
    const path = write('a.json', JSON.stringify(elements, null, 1));
    expect(JSON.stringify(elements).length).toBeGreaterThan(900_000);
    const rows = await rowsOf(path);
    expect(valuesOf(rows)).toEqual(elements);
    for (const i of [0, 150, 298, 299]) expect(await rowsOf(path, rows[i].next)).toEqual(rows.slice(i + 1));
  });

  it('names what is no row, and goes on behind it', async () => {
    const rows = await rowsOf(write('a.json', '[{"text":"x"}, 3, [1] , nul,{"a":1], {"text":"y"} ]\n'));
    expect(valuesOf(rows)).toEqual([{ text: 'x' }, undefined, undefined, undefined, undefined, { text: 'y' }]);
    expect(problemsOf(rows)).toEqual([
      expect.stringMatching(/a\.json:2: expected a JSON object, found a number$/),
      expect.stringMatching(/a\.json:3: expected a JSON object, found an array$/),
      expect.stringMatching(/a\.json:4: not a JSON object \(.*\)$/),
      expect.stringMatching(/a\.json:5: not a JSON object \(.*\)$/),
    ]);
    const latin1 = Buffer.concat([Buffer.from('[{"text":"'), Buffer.from([0xe9]), Buffer.from('"}]')]);
    expect(problemsOf(await rowsOf(write('b.json', latin1)))[0]).toMatch(/b\.json:1: byte 10 \(0xe9\) is not UTF-8/);
  });

  it.each([
    ['[{"text":"x"},', /b\.json: not a whole JSON array: it ends after 1 elements, without a \]\. Is the download/],
    ['[{"text":"x', /b\.json: not a whole JSON array: it ends after 0 elements/],
    ['[{"text":"x"},]', /b\.json: byte 14: not a JSON array: expected an element, found \]/],
    ['[,{"text":"x"}]', /b\.json: byte 1: not a JSON array: expected an element, found ,/],
    ['[{"text":"x"}] []', /b\.json: byte 15: not a JSON array: expected nothing behind its \], found \[/],
    ['[{"text":"x"}]\0', /found 0x00/],
    ['[]', /b\.json: the file holds no rows/],
    ['', /b\.json: the file holds no rows/],
    ['\ufeff \n', /b\.json: the file holds no rows/],
  ])('refuses %j', async (content, message) => {
    await expect(collect(readDocuments([write('b.json', content)]))).rejects.toThrow(message);
  });
});
