import {
  type AsyncRecordBatchFileReader,
  type AsyncRecordBatchStreamReader,
  CompressionType,
  compressionRegistry,
  type Data,
  DataType,
  type RecordBatch,
  RecordBatchReader,
  Type,
  Vector,
} from 'apache-arrow';
import { decompressZstd } from 'hyparquet-compressors';
import { exactNumber } from './exact-number.ts';
import { decompressLz4Frame } from './lz4-frame.ts';

// apache-arrow knows of compressed buffers but leaves the codecs to others. Feather files are LZ4 unless told otherwise.
// A copy: fzstd's result may begin anywhere in its buffer, typed arrays must not.
compressionRegistry.set(CompressionType.ZSTD, { decode: (data) => decompressZstd(data).slice() });
compressionRegistry.set(CompressionType.LZ4_FRAME, { decode: decompressLz4Frame });

const MAGIC = 'ARROW1';

/** The bytes of a file, by place or from the start on. */
export interface ArrowBytes {
  size: number;
  /** `length` bytes from `position`; fewer where the file ends. */
  read: (position: number, length: number) => Promise<Uint8Array>;
  chunks: () => AsyncIterable<Uint8Array>;
}

/** Some rows of a file. */
export interface ArrowRows {
  /** Row of the file, from 0, that is row 0 here. */
  first: number;
  length: number;
  /** All columns of the schema. */
  columns: readonly string[];
  /** A value as JSON has it: null, lists as arrays, structs as objects. Text that is not UTF-8 is `invalid` of its bytes. */
  value: (column: string, row: number) => unknown;
}

/**
 * Rows of an Arrow IPC file (.arrow, .feather) or stream, record batch by record batch: memory holds one.
 * @param invalid makes what stands for text that is not UTF-8
 * @throws Error, by apache-arrow's words, for what is not whole, and for what it does not support
 */
export async function* readArrowRows(
  bytes: ArrowBytes,
  invalid: (bytes: Uint8Array) => unknown,
): AsyncGenerator<ArrowRows> {
  const start = Buffer.from(await bytes.read(0, MAGIC.length)).toString('latin1');
  if (start === MAGIC) {
    const end = Buffer.from(await bytes.read(bytes.size - MAGIC.length, MAGIC.length)).toString('latin1');
    if (end !== MAGIC || bytes.size < 24) throw new Error('it does not end with a footer');
  }
  const reader = await (start === MAGIC ? fileReader(bytes) : RecordBatchReader.from(bytes.chunks()));
  await reader.open();
  // A file that is no Arrow stream is, to the reader, a stream that ends before its schema.
  if (reader.schema === undefined) throw new Error('it has no schema');
  const columns = reader.schema.fields.map(({ name }) => name);
  const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
  const decode = (text: Uint8Array): unknown => {
    try {
      return decoder.decode(text);
    } catch {
      return invalid(text);
    }
  };
  let first = 0;
  for await (const batch of reader as AsyncIterable<RecordBatch>) {
    yield {
      first,
      length: batch.numRows,
      columns,
      value(column, row) {
        const data = batch.getChild(column)?.data[0];
        return data === undefined ? null : valueAt(data, row, decode);
      },
    };
    first += batch.numRows;
  }
}

/** A reader of the file format takes a file handle; this one stays closed between reads. */
function fileReader({
  size,
  read,
}: ArrowBytes): Promise<AsyncRecordBatchFileReader> | Promise<AsyncRecordBatchStreamReader> {
  const handle = {
    fd: 0,
    stat: async () => ({ size }),
    async read(buffer: Uint8Array, offset: number, length: number, position: number) {
      const bytes = await read(position, length);
      buffer.set(bytes, offset);
      return { bytesRead: bytes.length, buffer };
    },
    close: async () => {},
  };
  return RecordBatchReader.from(handle as unknown as Parameters<typeof RecordBatchReader.from>[0]) as never;
}

function valueAt(data: Data, row: number, decode: (bytes: Uint8Array) => unknown): unknown {
  if (!data.getValid(row)) return null;
  const { type } = data;
  if (DataType.isDictionary(type)) {
    const dictionary = data.dictionary as Vector;
    let index = Number(data.values[row]);
    for (const part of dictionary.data) {
      if (index < part.length) return valueAt(part, index, decode);
      index -= part.length;
    }
    return null;
  }
  const [from, to] = [Number(data.valueOffsets?.[row] ?? 0), Number(data.valueOffsets?.[row + 1] ?? 0)];
  switch (type.typeId) {
    case Type.Utf8:
    case Type.LargeUtf8:
      return decode((data.values as Uint8Array).subarray(from, to));
    case Type.List:
    case Type.LargeList:
      return Array.from({ length: to - from }, (_, i) => valueAt(data.children[0], from + i, decode));
    case Type.Struct:
      return Object.fromEntries(
        type.children.map(({ name }: { name: string }, i: number) => [name, valueAt(data.children[i], row, decode)]),
      );
    default: {
      const value: unknown = new Vector([data]).get(row);
      return typeof value === 'bigint' ? exactNumber(value) : value;
    }
  }
}
