import { UserError } from '../errors.ts';
import type { SourceFile } from './source-file.ts';

/** One row of a data file. */
export interface Row {
  /** Name of the file, as it was given. */
  file: string;
  /** Line of a .jsonl, row of a table, first line of the document in a .txt; from 1. */
  row: number;
  /** Values by column name, as JSON has them; a value that a table does not have is null. */
  values: Readonly<Record<string, unknown>>;
  /** All columns of the row, also those that were not asked for and are not in `values`. */
  columns: readonly string[];
}

/** `file:row`, as messages name a row. */
export const placeOf = ({ file, row }: { file: string; row: number }): string => `${file}:${row}`;

/** The error for two rows of one id. */
export const sameId = (id: string, place: string, first: string): UserError =>
  new UserError(
    `${place}: the id "${id}" is also that of ${first}. Random numbers are drawn by id, so each document needs its own; ` +
      'without a column "id" it is the file and the row',
  );

/** The error for a file without a row. */
export const noRows = ({ name }: SourceFile): UserError =>
  new UserError(
    `${name}: the file holds no rows${/\.jsonl(\.\w+)?$/i.test(name) ? '; expected a JSON object a line' : ''}`,
  );

/** Where a reader stands in a file: the rows before it, and their bytes where rows are lines (otherwise 0). */
export interface RowPlace {
  row: number;
  byte: number;
}

export const START: RowPlace = { row: 0, byte: 0 };

/** Why there is no row. */
export interface Problem {
  problem: UserError;
  /** Number of the row, or of the first of several that could only be read together. */
  firstRow: number;
  rows: number;
}

/** A row, or why there is none; `next` is the place behind it. */
export type FoundRow = { next: RowPlace } & ({ row: Row } | Problem);

/** What a document of a .txt is. */
export type TextDocuments = 'file' | 'line' | 'paragraph';

/** What is wanted of each row. */
export interface WantedColumns {
  /** Under which the text of a .txt is given. */
  text: string;
  /** Columns to decode, `text` among them if it is wanted; a file need not have all of them. */
  all: readonly string[];
  /** Default 'file'. */
  txtDocuments?: TextDocuments | undefined;
}

/**
 * Reads the rows of a file from a place on, in memory that does not grow with the file.
 * @throws UserError for a file that cannot be read as a whole; what is wrong with a single row is a problem instead
 */
export type RowReader = (file: SourceFile, start: RowPlace, wanted: WantedColumns) => AsyncGenerator<FoundRow>;

/** A value that should have been text and is not UTF-8. */
export class InvalidUtf8 {
  /** Offset of the first byte, in the value, that is not part of a character. */
  readonly byte: number;

  constructor(byte: number) {
    this.byte = byte;
  }
}

/** What a value is, for `expected ..., found ...`. */
export function describe(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  if (value instanceof InvalidUtf8) return 'bytes that are not UTF-8';
  if (Array.isArray(value)) return 'an array';
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`;
}
