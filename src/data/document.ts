import { UserError } from '../errors.ts';
import { describe, InvalidUtf8, placeOf, type Row } from './row.ts';

/**
 * Characters (UTF-16 units) of a text: the tokenizer takes about 150 bytes of memory for each, and a process has 4 GB by default.
 */
export const MAX_CHARACTERS = 2 ** 24;

/** One text of the data, as read. */
export interface Document {
  /** The row's id, or `FILE:ROW`. Random numbers are drawn for it, so it must be the document's own. */
  id: string;
  /** Never empty, no lone surrogates. */
  text: string;
  /** `row` is the row of the file, from 1: of a .jsonl the line. */
  source: { file: string; row: number };
  /** Offsets in Unicode code points, 0 <= offset < length, before which the data lets a thought begin. */
  positions?: readonly number[];
}

/** Names of the columns that make a document. */
export interface DocumentColumns {
  text: string;
  /** Strings or numbers; a file need not have it. */
  id: string;
  /** Lists of offsets; a file need not have it. Undefined: they are not read. */
  positions: string | undefined;
}

export const DOCUMENT_COLUMNS = { text: 'text', id: 'id', positions: 'positions' } satisfies DocumentColumns;

/** The columns to read. */
export const wantedOf = ({ text, id, positions }: DocumentColumns): string[] => [
  ...[text, id],
  ...(positions === undefined ? [] : [positions]),
];

/**
 * The document of a row.
 * @throws UserError that names file, row and column, and what was expected and found
 */
export function documentOf(row: Row, columns: DocumentColumns = DOCUMENT_COLUMNS): Document {
  const text = textOf(row, columns.text);
  const positions = columns.positions === undefined ? undefined : (row.values[columns.positions] ?? undefined);
  return {
    id: idOf(row, columns.id),
    text,
    source: { file: row.file, row: row.row },
    ...(positions !== undefined && { positions: checkPositions(positions, text, row, columns) }),
  };
}

/**
 * The text in a column.
 * @throws UserError if the row has no such column, or in it no text: not a string, empty, not Unicode
 */
export function textOf(row: Row, column: string): string {
  const text = row.values[column];
  const place = placeOf(row);
  if (text === undefined) {
    const columns = row.columns.length === 0 ? 'no columns' : `the columns ${listed(row.columns)}`;
    throw new UserError(`${place}: expected a column "${column}", found ${columns}`);
  }
  if (text instanceof InvalidUtf8) throw new UserError(`${place}: byte ${text.byte} of "${column}" is not UTF-8`);
  if (typeof text !== 'string') throw new UserError(`${place}: "${column}" must be a string, found ${describe(text)}`);
  if (text.trim() === '') throw new UserError(`${place}: "${column}" is empty`);
  if (text.length > MAX_CHARACTERS) {
    throw new UserError(
      `${place}: "${column}" has ${text.length} characters, and a document may have ${MAX_CHARACTERS}. Split it into documents` +
        `${/\.txt(\.\w+)?$/i.test(row.file) ? ', for example with --txt-documents paragraph, or line' : ''}`,
    );
  }
  const surrogate = /\p{Surrogate}/u.exec(text);
  if (surrogate !== null) {
    const code = text.charCodeAt(surrogate.index).toString(16);
    throw new UserError(
      `${place}: "${column}" has half a character (\\u${code} without its pair) at ${surrogate.index}`,
    );
  }
  return text;
}

const LISTED_COLUMNS = 30;

/** Names of columns, for messages. */
export function listed(columns: readonly string[], note: (name: string) => string = () => ''): string {
  const more = columns.length > LISTED_COLUMNS ? ` and ${columns.length - LISTED_COLUMNS} more` : '';
  const names = columns.slice(0, LISTED_COLUMNS).map((name) => `"${name}"${note(name)}`);
  return `${names.join(', ')}${more}`;
}

/** The id in a column, `FILE:ROW` where the row has none. */
export function idOf(row: Row, column: string): string {
  const id = row.values[column] ?? undefined;
  if (id === undefined) return placeOf(row);
  if (typeof id === 'string' || typeof id === 'number') return String(id);
  throw new UserError(`${placeOf(row)}: "${column}" must be a string or a number, found ${describe(id)}`);
}

function checkPositions(positions: unknown, text: string, row: Row, columns: DocumentColumns): number[] {
  const place = `${placeOf(row)}: "${columns.positions}"`;
  if (!Array.isArray(positions)) {
    throw new UserError(`${place} must be an array of offsets into "${columns.text}", found ${describe(positions)}`);
  }
  const length = [...text].length;
  return positions.map((position: unknown, i) => {
    if (typeof position === 'number' && Number.isInteger(position) && position >= 0 && position < length)
      return position;
    const found = typeof position === 'number' ? position : describe(position);
    throw new UserError(
      `${place}[${i}] must be an integer from 0 to ${length - 1} ` +
        `("${columns.text}" has ${length} characters), found ${found}`,
    );
  });
}
