import { execFileSync } from 'node:child_process';
import { closeSync, linkSync, openSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { Corpus } from '../../src/data/corpus.ts';
import { documentOf } from '../../src/data/document.ts';
import { openCorpora } from '../../src/data/weighted-corpora.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

const OPTIONS = { columns: { text: 'text', all: ['text', 'id'] }, parse: documentOf } as const;
const open = (...paths: string[]) => Corpus.open(paths, { ...OPTIONS, onBadRows: 'error' });
function write(name: string, ...parts: (string | Buffer)[]): string {
  const file = openSync(folder.in(name), 'w');
  for (const part of parts) writeSync(file, Buffer.from(part));
  closeSync(file);
  return folder.in(name);
}
async function expectError(opened: Promise<unknown>, message: RegExp): Promise<void> {
  await expect(opened).rejects.toMatchObject({ name: 'UserError', message: expect.stringMatching(message) });
}

describe('what is no file', () => {
  it.skipIf(process.platform === 'win32')(
    'is refused before it is opened: a pipe would wait for a writer',
    async () => {
      execFileSync('mkfifo', [folder.in('pipe.jsonl')]);
      await expectError(
        open(folder.in('pipe.jsonl')),
        /data .*pipe\.jsonl: is a pipe, and data is read more than once\. Write it into a file, .*: --data - < .*pipe\.jsonl$/,
      );
      await expectError(open('/dev/null'), /data \/dev\/null: is a device,/);
    },
  );

  it('is refused: a folder by the name of a file, links to nothing and to themselves, a name that cannot be', async () => {
    symlinkSync('nothing.txt', folder.in('link.txt'));
    symlinkSync('loop.txt', folder.in('loop.txt'));
    await expectError(open(folder.in('link.txt')), /cannot read .*link\.txt: no such file or folder \(ENOENT\)/);
    await expectError(open(folder.in('loop.txt')), /cannot read .*loop\.txt: too many symbolic links \(ELOOP\)/);
    await expectError(open(folder.in('li*.txt')), /data .*li\*\.txt: no file matches the pattern/);
    await expectError(open('a\0.txt'), /data "a\\u0000\.txt": a name cannot have a zero byte/);
  });

  it('is refused: one file under two names, in one corpus or two', async () => {
    const path = write('a.txt', 'some text');
    symlinkSync('a.txt', folder.in('b.txt'));
    linkSync(path, folder.in('c.txt'));
    for (const other of [folder.in('b.txt'), folder.in('c.txt'), `${folder.path}/./a.txt`]) {
      const message = /data .*: given twice, also as .*a\.txt; name each file once/;
      await expectError(open(path, other), message);
      await expectError(
        openCorpora([path, other], { dataWeights: [1, 2] }, { ...OPTIONS, onBadRows: 'error' }),
        message,
      );
    }
  });
});

describe('a file that is not what its name says', () => {
  it.each(['txt', 'jsonl', 'json', 'csv'])('.%s that is compressed', async (extension) => {
    const gzipped = write(`gzipped.${extension}`, gzipSync('{"text":"a"}\n'));
    await expectError(
      open(gzipped),
      /byte 1 \(0x8b\) is not UTF-8; the file looks like gzip\. Give it a name that ends/,
    );
    const zstd = write(`zstd.${extension}`, Buffer.from([0x28, 0xb5, 0x2f, 0xfd, 4, 0]));
    await expectError(open(zstd), /byte 1 \(0xb5\) is not UTF-8; the file looks like zstd\. Give it a name that ends/);
  });

  it('.zst without a byte', async () => {
    await expectError(open(write('a.txt.zst')), /a\.txt\.zst: cannot be decompressed after byte 0 .*the file is empty/);
  });
});

describe('byte order mark and line ends of Windows', () => {
  it.each([
    ['jsonl', '\ufeff{"text":"a"}\r\n\r\n{"text":"b"}\r\n'],
    ['json', '\ufeff[{"text":"a"},\r\n{"text":"b"}]\r\n'],
    ['csv', '\ufefftext,x\r\na,1\r\n\r\nb,2\r\n'],
  ])('do not matter in .%s', async (extension, content) => {
    for (const path of [write(`a.${extension}`, content), write(`a.${extension}.gz`, gzipSync(content))]) {
      const corpus = await open(path);
      const texts: string[] = [];
      for await (const { item } of corpus.read()) texts.push(item.text);
      expect(texts).toEqual(['a', 'b']);
    }
  });
});

describe('what is too long', () => {
  const MIB = 2 ** 20;

  it('for a document is a bad row, whatever the format', async () => {
    const text = 'x'.repeat(16 * MIB);
    const most = write('most.jsonl', `{"text":"${text}"}`);
    expect((await open(most)).size).toBe(1);
    const long = write('long.jsonl', `{"text":"${text}y"}\n{"text":"short"}\n`);
    await expectError(
      open(long),
      /long\.jsonl:1: "text" has 16777217 characters, and a document may have 16777216\. Split it into documents\. To leave/,
    );
    const skipped = await Corpus.open([long], { ...OPTIONS, onBadRows: 'skip' });
    expect([skipped.size, skipped.badRows.count]).toEqual([1, 1]);
    await expectError(
      open(write('a.txt', text, 'y')),
      /may have 16777216\. Split it .*, for example with --txt-documents/,
    );
    await expectError(
      open(write('b.txt', text, text, text, 'y')),
      /b\.txt: more bytes than one document may have \(50331648\)\. .*: --txt-documents paragraph, or line/,
    );
  });

  it('for a row of a .csv, because of a quote that nothing closes, ends at some time', async () => {
    const line = `${'x'.repeat(MIB - 1)}\n`;
    const path = write('a.csv', 'text\n"', ...Array.from({ length: 65 }, () => line));
    await expectError(
      open(path),
      /the row that begins in line 2 has more than 67108864 characters\. Are the quotes of a/,
    );
  });

  it('for a message: the names of thousands of columns', async () => {
    const columns = Array.from({ length: 5000 }, (_, i) => [`c${i}`, 1]);
    const path = write('a.jsonl', JSON.stringify(Object.fromEntries(columns)));
    await expectError(open(path), /found the columns "c0", .*, "c29" and 4970 more\. To leave/);
  });
});

describe('null', () => {
  it('is no row, and no text', async () => {
    await expectError(open(write('a.jsonl', 'null\n')), /a\.jsonl:1: expected a JSON object, found null/);
    await expectError(open(write('b.json', '[null]')), /b\.json:1: expected a JSON object, found null/);
    await expectError(open(write('c.jsonl', '{"text":null}')), /c\.jsonl:1: "text" must be a string, found null/);
  });
});

it.skipIf(process.getuid?.() === 0 || process.platform === 'win32')(
  'a file without permission to read it',
  async () => {
    writeFileSync(folder.in('a.txt'), 'x', { mode: 0 });
    await expectError(open(folder.in('a.txt')), /cannot read .*a\.txt: permission denied \(EACCES\)/);
  },
);
