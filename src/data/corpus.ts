import { createHash } from 'node:crypto';
import { internal, UserError } from '../errors.ts';
import { BadRows } from './bad-rows.ts';
import { type DataFile, givenTwice, openDataFiles } from './data-files.ts';
import { IdSet } from './id-set.ts';
import { noRows, type Problem, placeOf, type Row, type RowPlace, START, sameId, type WantedColumns } from './row.ts';

/** What a row becomes. */
export interface Item {
  /** Distinct within the data: random numbers are drawn for it. */
  id: string;
  source: { file: string; row: number };
}

/** What is read, and what becomes of it. */
export interface CorpusOptions<T extends Item> {
  columns: WantedColumns;
  /** Throws a UserError for a row that is of no use. */
  parse: (row: Row) => T;
  /** Use only the first rows. */
  limit?: number | undefined;
  /** Rows that cannot be read or parsed: the first one is an error, or they are left out and counted. */
  onBadRows: 'error' | 'skip';
}

/** A place between two rows: `file` counts in the order in which the files are read. */
export interface CorpusPlace extends RowPlace {
  file: number;
}

export const CORPUS_START: CorpusPlace = { file: 0, ...START };

interface CheckedFile extends DataFile {
  /** Row behind the last one to use. */
  end: number;
}

/** What has been opened before: corpora that are used together have no file and no id in common. */
export interface OpenedBefore {
  files: CheckedFile[];
  ids: IdSet;
}

/**
 * The rows of some files. They stay there: opening goes through all of them once, to check, count and hash them, and reading
 * goes through them again, in memory that does not grow with their number (but for ids of the data's own, 16 to 32 bytes each).
 */
export class Corpus<T extends Item> {
  readonly #files: readonly CheckedFile[];
  readonly #options: CorpusOptions<T>;
  /** Rows to use. */
  readonly size: number;
  readonly badRows: BadRows;
  /** What to tell the user of the files. */
  readonly notices: readonly string[];
  /** SHA-256 of the rows to use and of where they lie in their files, and of the names of `unnamed`. */
  readonly hash: string;
  /** The same, whatever the files are called. */
  readonly textHash: string;
  /** Names of the files with rows that have no id of their own: they are named after them. */
  readonly unnamed: readonly string[];

  private constructor(
    files: readonly CheckedFile[],
    options: CorpusOptions<T>,
    {
      size,
      badRows,
      notices,
      textHash,
      unnamed,
    }: Pick<Corpus<T>, 'size' | 'badRows' | 'notices' | 'textHash' | 'unnamed'>,
  ) {
    this.#files = files;
    this.#options = options;
    this.size = size;
    this.badRows = badRows;
    this.notices = notices;
    this.textHash = textHash;
    this.unnamed = unnamed;
    this.hash = createHash('sha256')
      .update(JSON.stringify([textHash, unnamed]))
      .digest('hex');
  }

  /**
   * @param patterns names of files, patterns, `-`
   * @throws UserError for a file that cannot be read, a bad row unless they are skipped, an id that occurs twice, no rows
   */
  static async open<T extends Item>(
    patterns: readonly string[],
    options: CorpusOptions<T>,
    before: OpenedBefore = { files: [], ids: new IdSet() },
  ): Promise<Corpus<T>> {
    const files = await openDataFiles(patterns);
    for (const { file, identity } of files) {
      const other = before.files.find((opened) => opened.identity === identity);
      if (other !== undefined) throw givenTwice(file.name, other.file.name);
    }
    const hash = createHash('sha256');
    const badRows = new BadRows();
    const { limit = Infinity } = options;
    const checked: CheckedFile[] = [];
    const unnamed: string[] = [];
    const notices: string[] = [];
    let size = 0;
    for (const [i, dataFile] of files.entries()) {
      if (size >= limit) break;
      const file = { ...dataFile, end: Infinity };
      checked.push(file);
      before.files.push(file);
      const notice = await file.notice?.(file.file, options.columns);
      if (notice !== undefined) notices.push(notice);
      let empty = true;
      for await (const found of itemsOf(file, START, options)) {
        empty = false;
        if ('problem' in found) {
          if (options.onBadRows === 'error') throw hinted(found.problem);
          badRows.add(file.file.name, found);
          continue;
        }
        const { item, next } = found;
        // `FILE:ROW` is nobody else's, unless a row has it as an id of its own.
        const named = item.id !== placeOf(item.source);
        if (named && !before.ids.add(item.id)) await refuseSecond(before.files, item, options);
        if (!named && unnamed.at(-1) !== item.source.file) unnamed.push(item.source.file);
        const text = { ...item, source: undefined, ...(!named && { id: undefined }) };
        hash.update(`${JSON.stringify([i, next.row, next.byte, text])}\n`);
        if (++size < limit) continue;
        file.end = next.row;
        break;
      }
      if (empty) throw noRows(file.file);
    }
    if (size === 0) {
      const why = `all ${badRows.count} rows are bad, the first: ${badRows.first[0]}`;
      throw new UserError(`data ${patterns.join(', ')}: no rows to use: ${why}`);
    }
    return new Corpus(checked, options, { size, badRows, notices, textHash: hash.digest('hex'), unnamed });
  }

  get files(): number {
    return this.#files.length;
  }

  /**
   * The rows to use, from a place on.
   * @param order in which the files are read, by index
   */
  async *read(
    order: readonly number[] = this.#files.map((_, i) => i),
    start: CorpusPlace = CORPUS_START,
  ): AsyncGenerator<{ item: T; next: CorpusPlace }> {
    let from: RowPlace = start;
    for (let i = start.file; i < order.length; i++) {
      for await (const found of itemsOf(this.#files[order[i]], from, this.#options)) {
        if ('item' in found) yield { item: found.item, next: { file: i, ...found.next } };
      }
      from = START;
    }
  }
}

type FoundItem<T> = { next: RowPlace } & ({ item: T } | Problem);

async function* itemsOf<T extends Item>(
  { file, read, end }: CheckedFile,
  start: RowPlace,
  { columns, parse }: CorpusOptions<T>,
): AsyncGenerator<FoundItem<T>> {
  if (start.row >= end) return;
  for await (const found of read(file, start, columns)) {
    if ('problem' in found) yield found;
    else yield parsed(found, parse);
    if (found.next.row >= end) return;
  }
}

function parsed<T>({ next, row }: { next: RowPlace; row: Row }, parse: (row: Row) => T): FoundItem<T> {
  try {
    return { next, item: parse(row) };
  } catch (thrown) {
    if (thrown instanceof UserError) return { next, problem: thrown, firstRow: row.row, rows: 1 };
    throw thrown;
  }
}

const hinted = (problem: UserError): UserError =>
  new UserError(`${problem.message}. To leave such rows out and go on: --on-bad-rows skip`, { cause: problem });

/** Throws if an earlier item has the same id, and not only the same hash of it. */
async function refuseSecond<T extends Item>(
  files: readonly CheckedFile[],
  second: T,
  options: CorpusOptions<T>,
): Promise<void> {
  for (const file of files) {
    for await (const found of itemsOf(file, START, options)) {
      if (!('item' in found) || found.item.id !== second.id) continue;
      const [first, place] = [placeOf(found.item.source), placeOf(second.source)];
      if (first === place) return;
      throw sameId(second.id, place, first);
    }
  }
  throw internal(`id ${second.id} is gone`);
}
