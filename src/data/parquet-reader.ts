import {
  type AsyncBuffer,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';
import { messageOf, UserError } from '../errors.ts';
import { exactNumber } from '../exact-number.ts';
import { memoryNotice } from './parquet-size.ts';
import { type FoundRow, InvalidUtf8, type RowPlace, type WantedColumns } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { firstInvalidByte } from './utf8.ts';

/** Decoded bytes that are held at once: row groups with more are decoded in parts. */
const PART_BYTES = 64 << 20;

/**
 * A `.parquet` file, whose columns are those of its schema. Memory holds what is decoded of 64 MiB; and compressed as in the file
 * the pages of that, or, where the file has no page index, the wanted columns of one row group.
 */
export async function* readParquetRows(
  file: SourceFile,
  start: RowPlace,
  wanted: WantedColumns,
): AsyncGenerator<FoundRow> {
  const { buffer, metadata } = await openParquet(file);
  const columns = columnsOf(metadata);
  const read = wanted.all.filter((name) => columns.includes(name));
  for (const [from, to] of partsOf(metadata, read, start.row)) {
    let values: Record<string, unknown>[];
    try {
      values = await readPart(buffer, metadata, read, from, to);
    } catch (thrown) {
      if (thrown instanceof UserError) throw thrown;
      const problem = `${file.name}: rows ${from + 1} to ${to} cannot be decoded (${messageOf(thrown)})`;
      const rows = { firstRow: from + 1, rows: to - from };
      yield { next: { row: to, byte: 0 }, problem: new UserError(problem, { cause: thrown }), ...rows };
      continue;
    }
    for (const [i, row] of values.entries()) {
      const number = from + i + 1;
      yield { next: { row: number, byte: 0 }, row: { file: file.name, row: number, values: row, columns } };
    }
  }
}

/**
 * What to tell the user about the memory that a file takes.
 * @throws UserError if that is more than can be
 */
export async function parquetNotice(file: SourceFile, wanted: WantedColumns): Promise<string | undefined> {
  const { metadata } = await openParquet(file);
  const columns = columnsOf(metadata);
  return memoryNotice(
    file.name,
    metadata,
    wanted.all.filter((name) => columns.includes(name)),
  );
}

const columnsOf = (metadata: FileMetaData): string[] =>
  parquetSchema(metadata).children.map(({ element }) => element.name);

async function openParquet(file: SourceFile): Promise<{ buffer: AsyncBuffer; metadata: FileMetaData }> {
  const byteLength = await file.size();
  const slice = async (from: number, to = byteLength) => (await file.read(from, to - from)).buffer;
  const buffer = { byteLength, slice };
  try {
    return { buffer, metadata: await parquetMetadataAsync(buffer) };
  } catch (thrown) {
    if (thrown instanceof UserError) throw thrown;
    const reason = byteLength === 0 ? 'it is empty' : messageOf(thrown);
    throw new UserError(`${file.name}: not a whole Parquet file (${reason}). Is the download complete?`, {
      cause: thrown,
    });
  }
}

/** Ranges of rows that are read at once, from row `start` on. */
function* partsOf(metadata: FileMetaData, columns: readonly string[], start: number): Generator<[number, number]> {
  let first = 0;
  for (const { num_rows, columns: chunks } of metadata.row_groups) {
    const rows = Number(num_rows);
    const bytes = chunks.reduce((sum, { meta_data }) => {
      const isRead = meta_data !== undefined && columns.includes(meta_data.path_in_schema[0]);
      return isRead ? sum + Number(meta_data.total_uncompressed_size) : sum;
    }, 0);
    const size = Math.max(1, Math.ceil(rows / Math.ceil(Math.max(1, bytes) / PART_BYTES)));
    for (let from = 0; from < rows; from += size) {
      const range: [number, number] = [Math.max(start, first + from), first + Math.min(rows, from + size)];
      if (range[0] < range[1]) yield range;
    }
    first += rows;
  }
}

/** A string, or what is there instead: one bad row must not cost the others of its part. */
function stringFromBytes(bytes: Uint8Array | undefined): string | InvalidUtf8 | undefined {
  if (bytes === undefined) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return new InvalidUtf8(firstInvalidByte(bytes));
  }
}

async function readPart(
  file: AsyncBuffer,
  metadata: FileMetaData,
  columns: string[],
  rowStart: number,
  rowEnd: number,
): Promise<Record<string, unknown>[]> {
  if (columns.length === 0) return Array.from({ length: rowEnd - rowStart }, () => ({}));
  const parsers = { stringFromBytes };
  const options = { file, metadata, columns, rowStart, rowEnd, compressors, parsers, useOffsetIndex: true };
  const rows = await parquetReadObjects(options);
  return rows.map((row) => Object.fromEntries(Object.entries(row).map(([name, value]) => [name, plain(value)])));
}

/** A value as JSON would have it. */
function plain(value: unknown): unknown {
  if (value === undefined || value === null) return null;
  if (typeof value === 'bigint') return exactNumber(value);
  if (typeof value !== 'object' || value instanceof InvalidUtf8) return value;
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) return Array.from(value as Uint8Array);
  if (Array.isArray(value)) return value.map(plain);
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item)]));
}
