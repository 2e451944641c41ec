import { appendFileSync, copyFileSync, readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { type FileMetaData, parquetMetadata } from 'hyparquet';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { openDataFiles } from '../../src/data/data-files.ts';
import { readDocuments } from '../../src/data/documents.ts';
import { largestPiece, memoryNotice } from '../../src/data/parquet-size.ts';
import { type FoundRow, type RowPlace, START } from '../../src/data/row.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { goldenPath } from '../golden/golden.ts';
import { collect } from './fixture.ts';

// What pyarrow wrote (test/golden/make_data.py): one table in every format, and tables with what is wrong.
const golden = (name: string) => goldenPath('data', name);
const COLUMNS = ['text', 'id', 'positions', 'prompt', 'response', 'answer', 'messages', 'score', 'kept'];
const EXPECTED = readFileSync(golden('documents.jsonl'), 'utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line));
const WHOLE = readdirSync(goldenPath('data')).filter((name) => !/^(null|latin1|pages|frames|ids)/.test(name));

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => {
    vi.unstubAllEnvs();
    folder[Symbol.dispose]();
  };
});

async function rowsOf(path: string, start: RowPlace = START): Promise<FoundRow[]> {
  const [{ file, read }] = await openDataFiles([path]);
  return collect(read(file, start, { text: 'text', all: COLUMNS }));
}
const valuesOf = (rows: readonly FoundRow[]) => rows.map((found) => ('row' in found ? found.row.values : undefined));

describe.each(WHOLE)('%s', (name) => {
  it('gives the rows that pyarrow wrote, nulls, lists and structs included', async () => {
    const rows = await rowsOf(golden(name));
    expect(valuesOf(rows)).toEqual(EXPECTED);
    expect(rows.map((found) => 'row' in found && [found.row.file, found.row.row])).toEqual(
      EXPECTED.map((_, i) => [golden(name), i + 1]),
    );
  });

  it('gives the same rows from every place on', async () => {
    const rows = await rowsOf(golden(name));
    for (const [i, { next }] of rows.entries()) expect(await rowsOf(golden(name), next)).toEqual(rows.slice(i + 1));
  });

  it('gives the documents of the .jsonl', async () => {
    const without = (documents: readonly { id: string; source: object }[], file: string) =>
      documents.map(({ source: _, ...rest }) => ({ ...rest, id: rest.id.replace(file, 'FILE') }));
    const expected = await collect(readDocuments([golden('documents.jsonl')]));
    expect(expected).toHaveLength(7);
    const documents = await collect(readDocuments([golden(name)]));
    expect(without(documents, golden(name))).toEqual(without(expected, golden('documents.jsonl')));
  });
});

async function expectError(path: string, message: string | RegExp): Promise<void> {
  const documents = collect(readDocuments([path]));
  await expect(documents).rejects.toMatchObject({ name: 'UserError' });
  await expect(documents).rejects.toThrow(message);
}

it('frames.txt.zst: gives the lines of all frames, from any place on', async () => {
  const [{ file, read }] = await openDataFiles([golden('frames.txt.zst')]);
  const wanted = { text: 'text', all: ['text'], txtDocuments: 'line' } as const;
  const rows = await collect(read(file, START, wanted));
  const expected = Array.from({ length: 150_100 }, (_, i) => ({ text: `line ${i} of some text` }));
  expect(valuesOf(rows)).toEqual(expected);
  for (const i of [99_999, 149_999, 150_098, 150_099]) {
    expect(valuesOf(await collect(read(file, rows[i].next, wanted)))).toEqual(expected.slice(i + 1));
  }
});

describe.each(['pages-1.parquet', 'pages-2.parquet'])('%s: a row group of many pages', (name) => {
  const expected = Array.from({ length: 600 }, (_, i) => ({ ...EXPECTED[i % 7], id: `row-${i}` }));

  it('gives the rows that pyarrow wrote, from any place on', async () => {
    const rows = await rowsOf(golden(name));
    expect(valuesOf(rows)).toEqual(expected);
    for (let i = 0; i < 600; i += 61) expect(await rowsOf(golden(name), rows[i].next)).toEqual(rows.slice(i + 1));
  });

  it('is read page by page', async () => {
    const [{ file, read }] = await openDataFiles([golden(name)]);
    const reads = vi.spyOn(file, 'read');
    await collect(read(file, { row: 590, byte: 0 }, { text: 'text', all: ['id', 'positions', 'messages'] }));
    const lengths = reads.mock.calls.map(([, length]) => length);
    const metadata = parquetMetadata(readFileSync(golden(name)));
    const [{ columns }] = metadata.row_groups;
    const chunks = columns.filter(({ meta_data }) => /id|positions|messages/.test(meta_data?.path_in_schema[0] ?? ''));
    const whole = chunks.reduce((sum, { meta_data }) => sum + Number(meta_data?.total_compressed_size), 0);
    const ofMetadata = lengths.indexOf(Math.max(...lengths)); // the end of the file, which is all of this one
    expect(lengths.toSpliced(ofMetadata, 1).reduce((a, b) => a + b)).toBeLessThan(whole / 2);
  });
});

describe('the memory that a Parquet file takes', () => {
  /** The metadata with chunks of another size, and without their page index. */
  const sized = (name: string, bytes: number, indexed: boolean): FileMetaData => {
    const metadata = parquetMetadata(readFileSync(golden(name)));
    return {
      ...metadata,
      row_groups: metadata.row_groups.map((group, i) => ({
        ...group,
        columns: group.columns.map(({ offset_index_length, meta_data, ...chunk }) => ({
          ...chunk,
          ...(indexed && { offset_index_length }),
          ...(meta_data && { meta_data: { ...meta_data, total_compressed_size: BigInt(i === 1 ? bytes : 1000) } }),
        })),
      })),
    };
  };

  it('is that of the largest row group, in the columns that are read', () => {
    expect(largestPiece(sized('zstd.parquet', 5000, false), ['text', 'id'])).toEqual({ group: 2, bytes: 10_000 });
    expect(largestPiece(sized('zstd.parquet', 5000, false), ['text'])).toEqual({ group: 2, bytes: 5000 });
    expect(largestPiece(sized('pages-1.parquet', 0, true), ['text'])).toEqual({ group: 1, bytes: 0 });
  });

  it('is told where it is much, and refused where it is too much', () => {
    const told = (mib: number, columns = ['text', 'id']) =>
      memoryNotice('a.parquet', sized('zstd.parquet', mib * 2 ** 20, false), columns);
    const advice = /Smaller row groups or a page index take less: pyarrow\.parquet\.write_table\(/;
    expect(told(128)).toBeUndefined();
    expect(told(129)).toMatch(
      /^warning: a\.parquet: row group 2 has 258 MiB of "text", "id" without a page index, which are in memory in one piece/,
    );
    expect(told(129)).toMatch(advice);
    expect(told(2048, ['text'])).toMatch(/has 2048 MiB/);
    expect(() => told(2049, ['text'])).toThrow(
      /^a\.parquet: row group 2 has 2049 MiB of "text" without a page index, .*; at most 2048 MiB can be\./,
    );
    expect(() => told(2049, ['text'])).toThrow(advice);
  });
});

describe('columns', () => {
  it('are named by the caller', async () => {
    const columns = { text: 'prompt', id: 'response', positions: 'none' };
    for (const name of ['zstd.parquet', 'stream.arrow', 'documents.jsonl']) {
      const [document] = await collect(readDocuments([golden(name)], { columns }));
      expect(document).toEqual({
        ...{ id: 'It is 0.', text: 'What is 0 + 0?', source: { file: golden(name), row: 1 } },
      });
    }
  });

  it('that are missing or of another type are an error that says what there is', async () => {
    const read = (name: string, text: string) =>
      collect(readDocuments([golden(name)], { columns: { text, id: 'id', positions: 'positions' } }));
    const all = COLUMNS.map((name) => `"${name}"`).join(', ');
    for (const name of ['zstd.parquet', 'stream.arrow', 'documents.jsonl']) {
      await expect(read(name, 'body')).rejects.toThrow(`${name}:1: expected a column "body", found the columns ${all}`);
      await expect(read(name, 'answer')).rejects.toThrow(`${name}:1: "answer" must be a string, found a number`);
      await expect(read(name, 'messages')).rejects.toThrow(`${name}:1: "messages" must be a string, found an array`);
    }
  });

  it.each(['null.parquet', 'null.feather'])('may have nulls, but a text is no null: %s', async (name) => {
    await expectError(golden(name), `${name}:2: "text" must be a string, found null`);
  });

  it.each(['ids.parquet', 'ids.feather'])('of ids may have integers that are no exact numbers: %s', async (name) => {
    const ids = (await collect(readDocuments([golden(name)]))).map(({ id }) => id);
    expect(ids).toEqual(['9007199254740993', '9007199254740994', '-7']);
  });

  it.each(['latin1.parquet', 'latin1.feather'])('of text are UTF-8: %s', async (name) => {
    await expectError(golden(name), `${name}:2: byte 3 of "text" is not UTF-8`);
  });
});

describe('files that are cut off or damaged', () => {
  it.each([
    ['zstd.parquet', /zstd\.parquet: not a whole Parquet file \(.*PAR1.*\)\. Is the download complete\?/],
    ['file.arrow', /file\.arrow: not a whole Arrow file.*does not end with a footer/],
    ['lz4.feather', /lz4\.feather: not a whole Arrow file.*does not end with a footer/],
    ['stream.arrow', /stream\.arrow: not a whole Arrow file/],
    ['documents.jsonl.gz', /documents\.jsonl\.gz: cannot be decompressed after byte \d+ .*unexpected end of file/],
    ['documents.jsonl.zst', /documents\.jsonl\.zst: cannot be decompressed after byte 0 .*unexpected EOF/],
    [
      'frames.txt.zst',
      /frames\.txt\.zst: cannot be decompressed after byte \d+ .*unexpected EOF.*Is the download complete/,
    ],
  ])('%s', async (name, message) => {
    for (const kept of [0.3, 0.8]) {
      copyFileSync(golden(name), folder.in(name));
      truncateSync(folder.in(name), Math.floor(readFileSync(golden(name)).length * kept));
      await expectError(folder.in(name), message);
    }
  });

  it.each([
    ['a.parquet', 'not a whole Parquet file (it is empty)'],
    ['a.arrow', 'not a whole Arrow file'],
    ['a.txt.gz', 'a.txt.gz'],
  ])('%s without a byte', async (name, message) => {
    writeFileSync(folder.in(name), '');
    await expectError(folder.in(name), message);
  });

  it.each(['a.txt.zst', 'a.jsonl.gz'])('%s that is not compressed', async (name) => {
    writeFileSync(folder.in(name), 'This is plain text, of some length.\n');
    await expectError(folder.in(name), /a\.\w+\.\w+: cannot be decompressed after byte 0 of its content \(.*\)/);
  });

  it.each(['a.parquet', 'a.arrow', 'a.feather'])('%s that is something else', async (name) => {
    writeFileSync(
      folder.in(name),
      'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22ee\n',
    );
    await expectError(folder.in(name), /a\.\w+: not a whole (Parquet|Arrow) file/);
  });

  it('lose the rows of a row group that is damaged, and no others', async () => {
    const bytes = readFileSync(golden('zstd.parquet'));
    const { row_groups: groups } = parquetMetadata(bytes);
    const [text] = groups[1].columns;
    const at = Number(text.meta_data?.dictionary_page_offset);
    bytes.fill(0xff, at, at + 40);
    writeFileSync(folder.in('a.parquet'), bytes);
    const rows = await rowsOf(folder.in('a.parquet'));
    const bad = rows.filter((found) => 'problem' in found);
    expect(bad).toHaveLength(1);
    expect(bad[0]).toMatchObject({ rows: 3, next: { row: 6 } });
    expect('problem' in bad[0] && bad[0].problem.message).toMatch(/a\.parquet: rows 4 to 6 cannot be decoded/);
    expect(valuesOf(rows).filter((values) => values !== undefined)).toEqual([...EXPECTED.slice(0, 3), EXPECTED[6]]);
  });
});

describe('a file that changes while it is read', () => {
  const lines = Array.from({ length: 60_000 }, (_, i) => `{"text":"this is line ${i}"}\n`).join(''); // over 1 MiB

  it.each([
    ['by growing', (path: string) => appendFileSync(path, '{"text":"new"}\n'), /it had \d+ bytes, now it has \d+/],
    ['by being written over', (path: string) => writeFileSync(path, lines), /it was written to or replaced/],
    ['by being cut', (path: string) => truncateSync(path, 10), /now it has 10\)/],
  ])('%s is named', async (_how, change, message) => {
    const path = folder.in('log.jsonl');
    writeFileSync(path, lines);
    const documents = readDocuments([path]);
    await documents.next();
    change(path);
    const rest = collect(documents);
    await expect(rest).rejects.toMatchObject({ name: 'UserError' });
    await expect(rest).rejects.toThrow(/log\.jsonl: changed while it was read/);
    await expect(rest).rejects.toThrow(message);
  });
});

describe('openDataFiles', () => {
  const names = async (...patterns: string[]) => (await openDataFiles(patterns)).map(({ file }) => file.name);

  it('takes patterns, each in the order of its names', async () => {
    for (const name of ['b.jsonl', 'a.jsonl', 'c.txt', 'x[1].txt']) writeFileSync(folder.in(name), 'x');
    expect(await names(folder.in('*.jsonl'))).toEqual([folder.in('a.jsonl'), folder.in('b.jsonl')]);
    expect(await names(folder.in('{c,b}.*'), folder.in('a.jsonl'))).toEqual(
      ['b.jsonl', 'c.txt', 'a.jsonl'].map((name) => folder.in(name)),
    );
    // A name that looks like a pattern and is there is a name.
    expect(await names(folder.in('x[1].txt'))).toEqual([folder.in('x[1].txt')]);
    const relative = await names('test/golden/data/*.feather');
    expect(relative).toContain('test/golden/data/lz4.feather');
  });

  it('refuses patterns without a match, folders, and files given twice', async () => {
    await expect(names(folder.in('*.txt'))).rejects.toThrow(/data .*\*\.txt: no file matches the pattern/);
    await expect(names(folder.path)).rejects.toThrow(/is a folder; name its files, for example as ".*\*\.jsonl"/);
    writeFileSync(folder.in('a.txt'), 'x');
    await expect(names(folder.in('a.txt'), folder.in('*.txt'))).rejects.toThrow(
      /a\.txt: given twice, also as .*\*\.txt/,
    );
  });

  async function fromStdin(...pieces: string[]) {
    vi.stubEnv('TMPDIR', folder.path); // where the copy goes; it lives as long as the process
    const stdin = (async function* () {
      for (const piece of pieces) yield Buffer.from(piece);
    })();
    const [{ file, read }] = await openDataFiles(['-'], stdin);
    return collect(read(file, START, { text: 'text', all: ['text'] }));
  }

  it('reads standard input: JSONL if it begins with {, otherwise one text', async () => {
    expect(valuesOf(await fromStdin('\n {"te', 'xt":"a"}\n{"text":"b"}'))).toEqual([{ text: 'a' }, { text: 'b' }]);
    expect(await fromStdin('A text\n', '{and its end}')).toMatchObject([
      { row: { file: 'stdin', row: 1, values: { text: 'A text\n{and its end}' } } },
    ]);
    expect(await fromStdin()).toMatchObject([{ problem: { message: 'stdin: the file is empty' } }]);
  });
});
