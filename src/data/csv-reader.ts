import { UserError } from '../errors.ts';
import { MAX_CHARACTERS } from './document.ts';
import { readLines } from './lines.ts';
import type { FoundRow, RowPlace } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { decodeUtf8 } from './utf8.ts';

/** Characters of a record. */
const MAX_RECORD = 4 * MAX_CHARACTERS;

/** One record while its lines come in: a quoted field may hold line ends. */
class CsvRecord {
  readonly fields: string[] = [];
  /** What is wrong with it; its fields are read on for where it ends. */
  problem: string | undefined;
  /** Characters so far. */
  length = 0;
  #field = '';
  /** In `closed` a quote has just been read within quotes: it ends the field, unless another one follows. */
  #state: 'start' | 'plain' | 'quoted' | 'closed' = 'start';

  /** @returns whether the record ends with this line */
  add(line: string): boolean {
    this.length += line.length + 1;
    // A line end is \n or \r\n, and only within quotes is part of the value.
    const text = line.endsWith('\r') ? line.slice(0, -1) : line;
    for (let at = 0; at < text.length; ) at = this.#read(text, at);
    if (this.#state === 'quoted') {
      this.#field += `${line.slice(text.length)}\n`;
      return false;
    }
    this.#end();
    return true;
  }

  /** @returns where to read on */
  #read(text: string, at: number): number {
    const upTo = (character: string): number => {
      const found = text.indexOf(character, at);
      const end = found < 0 ? text.length : found;
      this.#field += text.slice(at, end);
      return end;
    };
    const character = text[at];
    if (this.#state === 'quoted') {
      const end = upTo('"');
      if (end < text.length) this.#state = 'closed';
      return end + 1;
    }
    if (character === ',') {
      this.#end();
      return at + 1;
    }
    if (character === '"' && this.#state !== 'plain') {
      if (this.#state === 'closed') this.#field += '"';
      this.#state = 'quoted';
      return at + 1;
    }
    if (this.#state === 'closed')
      this.problem = 'text behind the closing quote of a field; a quote in it is written ""';
    this.#state = 'plain';
    return upTo(',');
  }

  #end(): void {
    this.fields.push(this.#field);
    this.#field = '';
    this.#state = 'start';
  }
}

/**
 * A `.csv` file as in RFC 4180: commas, a first line with the columns, values that hold commas, quotes or line ends in double quotes.
 * All values are text. Blank lines are skipped. A place in the middle is found by reading what lies before.
 */
export async function* readCsvRows(file: SourceFile, start: RowPlace): AsyncGenerator<FoundRow> {
  let columns: string[] | undefined;
  let record: CsvRecord | undefined;
  let line = 0; // first of the record
  let row = 0;
  for await (const { bytes, offset, next } of readLines(file, { row: 0, byte: 0 })) {
    if (record === undefined) {
      if (bytes.toString('latin1').trim() === '') continue;
      record = new CsvRecord();
      line = next.row;
    }
    try {
      decodeUtf8(bytes, `${file.name}: line ${next.row}`, offset);
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
      record.problem = thrown.message.slice(`${file.name}: `.length);
    }
    const text = bytes.toString('utf8');
    if (record.length + text.length > MAX_RECORD) {
      throw new UserError(
        `${file.name}: the row that begins in line ${line} has more than ${MAX_RECORD} characters. Are the quotes of a field ` +
          'never closed?',
      );
    }
    if (!record.add(offset === 0 ? text.replace(/^\ufeff/, '') : text)) continue;
    const { fields, problem } = record;
    record = undefined;
    if (columns === undefined) {
      columns = headerOf(file, fields, problem);
      continue;
    }
    row++;
    if (row <= start.row) continue;
    const found = { next: { row, byte: 0 } };
    const wrong =
      problem ??
      (fields.length === columns.length
        ? undefined
        : `expected ${columns.length} fields, as in the first line, found ${fields.length}`);
    if (wrong !== undefined) {
      yield {
        ...found,
        problem: new UserError(`${file.name}:${row} (line ${line}): ${wrong}`),
        firstRow: row,
        rows: 1,
      };
      continue;
    }
    const values = Object.fromEntries(columns.map((name, i) => [name, fields[i]]));
    yield { ...found, row: { file: file.name, row, values, columns } };
  }
  if (record !== undefined) {
    throw new UserError(
      `${file.name}: the quotes of a field in line ${line} or later are never closed. Is the download complete?`,
    );
  }
}

function headerOf(file: SourceFile, columns: string[], problem: string | undefined): string[] {
  if (problem !== undefined) throw new UserError(`${file.name}: the first line, which has the columns: ${problem}`);
  const twice = columns.find((name, i) => columns.indexOf(name) !== i);
  if (twice === undefined) return columns;
  throw new UserError(`${file.name}: the first line has the column "${twice}" twice`);
}
