import { rmSync } from 'node:fs';
import { mkdtemp, open, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, isAbsolute, join } from 'node:path';
import { glob, isDynamicPattern } from 'tinyglobby';
import { UserError } from '../errors.ts';
import { errnoOf, fileError } from '../file-error.ts';
import { readArrowFileRows } from './arrow-reader.ts';
import { readCsvRows } from './csv-reader.ts';
import { COMPRESSED, compressionOf } from './decompress.ts';
import { readJsonRows } from './json-reader.ts';
import { readJsonlRows } from './jsonl-reader.ts';
import { parquetNotice, readParquetRows } from './parquet-reader.ts';
import type { RowReader, WantedColumns } from './row.ts';
import { SourceFile } from './source-file.ts';
import { readTextRows } from './text-reader.ts';

/** Standard input, among the names of files. */
export const STDIN = '-';

/** What a resume needs besides the command, as the end of a sentence. */
export const resumeInput = (patterns: readonly string[]): string =>
  patterns.includes(STDIN) ? ', and the same data on standard input' : '';

/** Reader by file name extension: a new format is a new line here. */
const READERS: Readonly<Record<string, RowReader>> = {
  '.txt': readTextRows,
  '.jsonl': readJsonlRows,
  '.json': readJsonRows,
  '.csv': readCsvRows,
  '.parquet': readParquetRows,
  '.arrow': readArrowFileRows,
  '.feather': readArrowFileRows,
};
const NOTICES: Readonly<Record<string, DataFile['notice']>> = { '.parquet': parquetNotice };
/** Formats that are read from the start to the end, and so may be compressed. */
const COMPRESSIBLE: readonly string[] = ['.txt', '.jsonl', '.json', '.csv'];

/** A file and how it is read. */
export interface DataFile {
  file: SourceFile;
  /** The same for every name of the file. */
  identity: string;
  read: RowReader;
  /**
   * What to tell the user of a file before it is read.
   * @throws UserError if it cannot be read in the memory that there is
   */
  notice?: (file: SourceFile, wanted: WantedColumns) => Promise<string | undefined>;
}

function readerOf(path: string): Omit<DataFile, 'file' | 'identity'> {
  const name = path.toLowerCase();
  const compression = compressionOf(name) ?? '';
  const extension = extname(name.slice(0, name.length - compression.length));
  if (Object.hasOwn(READERS, extension) && (compression === '' || COMPRESSIBLE.includes(extension))) {
    const notice = NOTICES[extension];
    return { read: READERS[extension], ...(notice && { notice }) };
  }
  const found = extension === '' ? 'a name without an extension' : `"${extension}${compression}"`;
  const known = Object.keys(READERS).concat(
    COMPRESSIBLE.flatMap((format) => COMPRESSED.map((compression) => format + compression)),
  );
  throw new UserError(
    `${path}: cannot tell how to read it: expected ${known.slice(0, -1).join(', ')} or ${known.at(-1)}, found ${found}`,
  );
}

/**
 * The files that names, patterns (`data/*.jsonl`) and `-` for standard input stand for, in the order given; those of a pattern
 * in the order of their names.
 * @throws UserError for a pattern without a match, a format that is not known, a folder, a file given twice
 */
export async function openDataFiles(
  patterns: readonly string[],
  stdin: AsyncIterable<Uint8Array> = process.stdin,
): Promise<DataFile[]> {
  const files: DataFile[] = [];
  const seen = new Map<string, string>();
  for (const pattern of patterns) {
    for (const path of pattern === STDIN ? [STDIN] : await matchesOf(pattern)) {
      const identity = await identityOf(path);
      const before = seen.get(identity);
      if (before !== undefined) throw givenTwice(path, before === path ? pattern : before);
      seen.set(identity, path);
      files.push(path === STDIN ? await spool(stdin) : { file: new SourceFile(path), identity, ...readerOf(path) });
    }
  }
  return files;
}

/** The error for a file that is given a second time. */
export const givenTwice = (path: string, also: string): UserError =>
  new UserError(`data ${path}: given twice, also as ${also}; name each file once`);

async function statIfThere(path: string) {
  // Node.js throws an error of another kind.
  if (path.includes('\0')) throw new UserError(`data ${JSON.stringify(path)}: a name cannot have a zero byte`);
  try {
    return await stat(path, { bigint: true }); // a number would not tell all of Windows's files apart
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw fileError('cannot read', path, thrown);
  }
}

/**
 * The same for every name of a file; of one that is not there the name.
 * @throws UserError for what is neither a file nor a folder: opening a pipe would wait for someone to write into it
 */
async function identityOf(path: string): Promise<string> {
  const stats = path === STDIN ? undefined : await statIfThere(path);
  if (stats === undefined) return path;
  if (stats.isFile() || stats.isDirectory()) return `${stats.dev}:${stats.ino}`;
  const kind = stats.isFIFO() ? 'a pipe' : stats.isSocket() ? 'a socket' : 'a device';
  throw new UserError(
    `data ${path}: is ${kind}, and data is read more than once. Write it into a file, or give it on standard input: ` +
      `--data ${STDIN} < ${path}`,
  );
}

async function matchesOf(pattern: string): Promise<string[]> {
  const stats = await statIfThere(pattern);
  if (stats?.isDirectory() && extname(pattern) === '') {
    throw new UserError(`data ${pattern}: is a folder; name its files, for example as "${join(pattern, '*.jsonl')}"`);
  }
  // A name with brackets in it may also be just that.
  if (stats !== undefined || !isDynamicPattern(pattern)) return [pattern];
  const forward = process.platform === 'win32' ? pattern.replaceAll('\\', '/') : pattern;
  const matches = await glob(forward, { absolute: isAbsolute(pattern), expandDirectories: false });
  if (matches.length === 0) throw new UserError(`data ${pattern}: no file matches the pattern`);
  return matches.sort((a, b) => (a < b ? -1 : 1));
}

/**
 * Standard input as a file: training goes through its data many times. It is JSONL if it begins with `{`, otherwise one text.
 * The copy is removed when the process ends.
 */
async function spool(stdin: AsyncIterable<Uint8Array>): Promise<DataFile> {
  const folder = await mkdtemp(join(tmpdir(), 'rlp-ort-stdin-'));
  const path = join(folder, 'stdin');
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  try {
    const copy = await open(path, 'wx');
    try {
      let start = '';
      for await (const chunk of stdin) {
        if (start.trim() === '') start = Buffer.from(chunk.subarray(0, 4096)).toString('utf8');
        await copy.writeFile(chunk);
      }
      const isJsonl = start
        .replace(/^\ufeff/, '')
        .trimStart()
        .startsWith('{');
      return { file: new SourceFile(path, 'stdin'), identity: STDIN, read: isJsonl ? readJsonlRows : readTextRows };
    } finally {
      await copy.close();
    }
  } catch (thrown) {
    throw fileError('cannot copy standard input to', path, thrown);
  }
}
