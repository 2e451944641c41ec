import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { openDataFiles } from '../../src/data/data-files.ts';
import { readDocuments } from '../../src/data/documents.ts';
import { readLines } from '../../src/data/lines.ts';
import { type RowPlace, START } from '../../src/data/row.ts';
import { SourceFile } from '../../src/data/source-file.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { collect } from './fixture.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

function file(name: string, content: string | Uint8Array): string {
  writeFileSync(folder.in(name), content);
  return folder.in(name);
}

const read = (...paths: string[]) => collect(readDocuments(paths));

async function expectError(path: string, message: string): Promise<void> {
  await expect(read(path)).rejects.toMatchObject({ name: 'UserError', message: expect.stringContaining(message) });
}

describe('.txt', () => {
  it('is one document, without its byte order mark', async () => {
    const path = file('a.txt', '\ufeffone\ntwo\n');
    expect(await read(path)).toEqual([{ id: `${path}:1`, text: 'one\ntwo\n', source: { file: path, row: 1 } }]);
  });

  it('refuses what is missing, empty or not UTF-8', async () => {
    await expectError(folder.in('none.txt'), `cannot read ${folder.in('none.txt')}: no such file or folder (ENOENT)`);
    await expectError(file('empty.txt', ''), 'empty.txt: the file is empty');
    await expectError(file('blank.txt', ' \n'), 'blank.txt: the file holds white space only');
    await expectError(file('latin1.txt', Buffer.from('né, déjà', 'latin1')), 'latin1.txt: byte 1 (0xe9) is not UTF-8');
    await expectError(file('cut.txt', Buffer.from('aé日').subarray(0, -1)), 'cut.txt: byte 3 (0xe6) is not UTF-8');
    await expectError(file('utf16.txt', Buffer.from('\ufeffab', 'utf16le')), 'iconv -f UTF-16 -t UTF-8');
  });
});

describe('.txt by lines and paragraphs', () => {
  const CONTENT = '\ufeff\n \t\none\r\ntwo\n\r\n\n\u3000\n 日本\nfour';
  const EXPECTED = {
    line: [
      [3, 'one'],
      [4, 'two'],
      [8, ' 日本'],
      [9, 'four'],
    ],
    paragraph: [
      [3, 'one\ntwo'],
      [8, ' 日本\nfour'],
    ],
  };

  it.each(['line', 'paragraph'] as const)('%s: gives what is not blank, from every place on', async (txtDocuments) => {
    for (const [name, bytes] of [
      ['a.txt', Buffer.from(CONTENT)],
      ['a.txt.gz', gzipSync(CONTENT)],
    ] as const) {
      const path = file(name, bytes);
      const documents = await collect(readDocuments([path], { txtDocuments }));
      expect(documents.map(({ source, text }) => [source.row, text])).toEqual(EXPECTED[txtDocuments]);
      expect(documents[0].id).toBe(`${path}:3`);
      const [{ file: source, read: rowsFrom }] = await openDataFiles([path]);
      const wanted = { text: 'text', all: ['text'], txtDocuments };
      const rows = await collect(rowsFrom(source, START, wanted));
      for (const [i, { next }] of rows.entries()) {
        expect(await collect(rowsFrom(source, next, wanted))).toEqual(rows.slice(i + 1));
      }
    }
  });

  it('names the line of what cannot be read, and goes on behind it', async () => {
    const content = Buffer.concat([Buffer.from('a\nb'), Buffer.from([0xff]), Buffer.from('\n\nc\n')]);
    const path = file('a.txt', content);
    const [{ file: source, read: rowsFrom }] = await openDataFiles([path]);
    for (const [txtDocuments, texts] of [
      ['line', ['a', undefined, 'c']],
      ['paragraph', [undefined, 'c']],
    ] as const) {
      const rows = await collect(rowsFrom(source, START, { text: 'text', all: ['text'], txtDocuments }));
      expect(rows.map((found) => ('row' in found ? found.row.values.text : undefined))).toEqual(texts);
      expect(rows.find((found) => 'problem' in found)).toMatchObject({
        problem: { message: expect.stringContaining('a.txt:2: byte 3 (0xff) is not UTF-8') },
      });
    }
  });

  it('of blank lines alone is an error', async () => {
    const path = file('a.txt', '\n \r\n\n');
    await expect(collect(readDocuments([path], { txtDocuments: 'line' }))).rejects.toThrow('the file holds no rows');
    await expect(collect(readDocuments([path], { txtDocuments: 'paragraph' }))).rejects.toThrow(
      'the file holds no rows',
    );
  });
});

describe('.jsonl', () => {
  it('gives ids, positions and lines; blank lines and further columns do not matter', async () => {
    const path = file(
      'a.JSONL',
      '{"text": "a", "n": 1}\r\n\n{"text": "日b", "positions": [1, 0], "id": 7}\n{"id": "x", "text": "c"}',
    );
    expect(await read(path)).toEqual([
      { id: `${path}:1`, text: 'a', source: { file: path, row: 1 } },
      { id: '7', text: '日b', source: { file: path, row: 3 }, positions: [1, 0] },
      { id: 'x', text: 'c', source: { file: path, row: 4 } },
    ]);
  });

  it.each([
    ['{"text": "a"}\n{"text": ', ':2: not a JSON object on one line'],
    ['[\n', `. A JSON array becomes lines with: jq -c '.[]'`],
    ['[{"text": "a"}]', ':1: expected a JSON object, found an array. A JSON array becomes lines'],
    ['{"prompt": "a", "n": 1}', ':1: expected a column "text", found the columns "prompt", "n"'],
    ['{}', 'found no columns'],
    ['{"text": 3}', ':1: "text" must be a string, found a number'],
    ['{"text": " "}', ':1: "text" is empty'],
    ['{"text": "a\\ud83d"}', ':1: "text" has half a character (\\ud83d without its pair) at 1'],
    ['{"text": "a", "id": {}}', ':1: "id" must be a string or a number, found an object'],
    ['{"text": "a", "positions": 0}', ':1: "positions" must be an array of offsets into "text", found a number'],
    [
      '{"text": "a👧", "positions": [0, 2]}',
      ':1: "positions"[1] must be an integer from 0 to 1 ("text" has 2 characters), found 2',
    ],
    ['{"text": "a", "positions": ["0"]}', 'found a string'],
    ['\n \n', 'a.jsonl: the file holds no rows'],
    ['', 'a.jsonl: the file holds no rows'],
  ])('refuses %j', (content, message) => expectError(file('a.jsonl', content), message));

  it('counts bytes from the start of the file', async () => {
    const content = Buffer.concat([Buffer.from('{"text": "é"}\n{"text": "'), Buffer.from([0xff]), Buffer.from('"}\n')]);
    await expectError(file('a.jsonl', content), `a.jsonl:2: byte ${content.indexOf(0xff)} (0xff) is not UTF-8`);
  });

  it('gives the documents before a bad line', async () => {
    const documents = readDocuments([file('a.jsonl', '{"text": "a"}\n{')]);
    expect((await documents.next()).value).toMatchObject({ text: 'a' });
    await expect(documents.next()).rejects.toThrow('a.jsonl:2');
  });
});

describe('readLines', () => {
  it('joins lines over the chunks of the stream', async () => {
    const lines = Array.from({ length: 300 }, (_, i) => 'é'.repeat((i * 37) % 1500));
    const path = file('long', lines.join('\n'));
    const textsFrom = async (start: RowPlace) =>
      (await collect(readLines(new SourceFile(path), start))).map(({ bytes }) => bytes.toString());
    expect(await textsFrom(START)).toEqual(lines);
    const places = (await collect(readLines(new SourceFile(path), START))).map(({ next }) => next);
    for (const at of [0, 7, 150, 298]) expect(await textsFrom(places[at])).toEqual(lines.slice(at + 1));
  });
});

describe('readDocuments', () => {
  it('goes through files in order, up to a limit', async () => {
    const paths = [file('b.txt', 'b'), file('a.jsonl', '{"text": "1"}\n{"text": "2"}\n{"text": broken')];
    const texts = (await collect(readDocuments(paths, { limit: 3 }))).map(({ text }) => text);
    expect(texts).toEqual(['b', '1', '2']);
  });

  it('finds unknown extensions before it reads', async () => {
    const known =
      '.txt, .jsonl, .json, .csv, .parquet, .arrow, .feather, .txt.gz, .txt.zst, .jsonl.gz, .jsonl.zst, .json.gz, .json.zst, .csv.gz or .csv.zst';
    const message = `a.tsv: cannot tell how to read it: expected ${known}, found ".tsv"`;
    await expect(readDocuments([file('a.txt', 'a'), 'a.tsv']).next()).rejects.toThrow(message);
    await expectError('corpus', `corpus: cannot tell how to read it: expected ${known}, found a name without`);
    await expectError('a.parquet.gz', 'found ".parquet.gz"');
  });
});
