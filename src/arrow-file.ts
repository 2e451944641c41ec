import { type FileHandle, open } from 'node:fs/promises';
import { Message, type MessageHeader, MetadataVersion, type Schema } from 'apache-arrow';
// The footer is part of the file format but not of the package's main entry.
import { FileBlock, Footer } from 'apache-arrow/ipc/metadata/file';
import { END_OF_STREAM, encodeSchema } from './arrow-batch.ts';
import { internal, UserError } from './errors.ts';
import { fileError } from './file-error.ts';

/**
 * The Arrow IPC file format (arrow.apache.org/docs/format/Columnar.html#ipc-file-format): magic and padding, the messages
 * of the streaming format (schema, record batches, end of stream), footer, footer length, magic. Up to the footer it is a
 * stream, so a file that was cut anywhere still holds every batch before the cut.
 *
 * The messages are walked here: apache-arrow's own file writer keeps all bytes until the end and leaves the schema message
 * out, without which a cut file could not be read.
 */
const MAGIC = Buffer.from('ARROW1');
const HEADER_BYTES = 8;

/** A whole record batch message in a file: where, and how many rows. */
export interface BatchBlock {
  offset: number;
  /** Marker, length, flatbuffer and padding. */
  metadataLength: number;
  bodyLength: number;
  rows: number;
}

export interface FileLayout {
  schema: Schema;
  /** The schema's message as the file has it. */
  schemaMessage: Uint8Array;
  blocks: BatchBlock[];
  /** Offset behind the last whole batch (behind the schema if there is none): where the next batch goes. */
  end: number;
  /** Whether the file was finished: the footer is there. */
  complete: boolean;
}

/** Magic, padding and schema message: what a file starts with. */
export function fileHeader(schema: Schema): Uint8Array {
  return Buffer.concat([MAGIC, Buffer.alloc(HEADER_BYTES - MAGIC.length), encodeSchema(schema)]);
}

/** End of stream, footer, its length and the magic: what a finished file ends with. */
export function fileFooter(schema: Schema, blocks: readonly BatchBlock[]): Uint8Array {
  const fileBlocks = blocks.map((block) => new FileBlock(block.metadataLength, block.bodyLength, block.offset));
  const footer = Footer.encode(new Footer(schema, MetadataVersion.V5, fileBlocks, []));
  const length = Buffer.alloc(4);
  length.writeInt32LE(footer.length);
  return Buffer.concat([END_OF_STREAM, footer, length, MAGIC]);
}

/** The block of a record batch message that is to be written at `offset`. */
export function blockOf(message: Uint8Array, offset: number): BatchBlock {
  const metadataLength = 8 + Buffer.from(message.buffer, message.byteOffset, 8).readInt32LE(4);
  const header = decodeMessage(message.subarray(8, metadataLength));
  if (!header?.isRecordBatch()) throw internal('a batch was encoded as another message');
  return { offset, metadataLength, bodyLength: header.bodyLength, rows: header.header().length };
}

export async function openFile(path: string, flags: string): Promise<FileHandle> {
  try {
    return await open(path, flags);
  } catch (thrown) {
    throw fileError('cannot open', path, thrown);
  }
}

/** `length` bytes from `offset`; fewer where the file ends. */
export async function readBytes(file: FileHandle, offset: number, length: number): Promise<Buffer> {
  const buffer = Buffer.alloc(length);
  let filled = 0;
  while (filled < length) {
    const { bytesRead } = await file.read(buffer, filled, length - filled, offset + filled);
    if (bytesRead === 0) break;
    filled += bytesRead;
  }
  return buffer.subarray(0, filled);
}

export async function writeBytes(file: FileHandle, offset: number, bytes: Uint8Array): Promise<void> {
  let written = 0;
  while (written < bytes.length) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, offset + written);
    written += bytesWritten;
  }
}

/** Undefined if the bytes are no message: a cut file may end in anything. */
function decodeMessage(flatbuffer: Uint8Array): Message<MessageHeader> | undefined {
  try {
    return Message.decode(flatbuffer);
  } catch {
    return undefined;
  }
}

interface FoundMessage {
  message: Message<MessageHeader>;
  metadataLength: number;
}

/** The message at `offset` if all of it, body included, lies before `size`; undefined at the end of the stream too. */
async function messageAt(file: FileHandle, offset: number, size: number): Promise<FoundMessage | undefined> {
  const prefix = await readBytes(file, offset, 8);
  if (prefix.length < 8 || prefix.readInt32LE(0) !== -1) return undefined;
  const length = prefix.readInt32LE(4);
  if (length <= 0 || offset + 8 + length > size) return undefined;
  const message = decodeMessage(await readBytes(file, offset + 8, length));
  if (message === undefined || message.bodyLength < 0) return undefined;
  const metadataLength = 8 + length;
  return offset + metadataLength + message.bodyLength > size ? undefined : { message, metadataLength };
}

async function hasFooter(file: FileHandle, size: number): Promise<boolean> {
  if (size < HEADER_BYTES + END_OF_STREAM.length + 4 + MAGIC.length) return false;
  return MAGIC.equals(await readBytes(file, size - MAGIC.length, MAGIC.length));
}

/**
 * Finds the whole messages of a file that may have been cut anywhere. Undefined if it was cut before the end of the schema,
 * so that nothing is lost by starting it anew. UserError if it is no Arrow file.
 */
export async function scanFile(path: string, file: FileHandle): Promise<FileLayout | undefined> {
  const { size } = await file.stat();
  const start = await readBytes(file, 0, HEADER_BYTES);
  if (!start.subarray(0, MAGIC.length).equals(MAGIC.subarray(0, start.length))) {
    const found = start.subarray(0, MAGIC.length).toString('latin1');
    throw new UserError(
      `${path}: not an Arrow IPC file: expected it to start with 'ARROW1', found ${JSON.stringify(found)}`,
    );
  }
  const complete = await hasFooter(file, size);
  const first = await messageAt(file, HEADER_BYTES, size);
  if (!first?.message.isSchema()) {
    if (first === undefined && !complete) return undefined;
    throw new UserError(`${path}: an Arrow IPC file without a schema message at its start; rlp-ort cannot read it`);
  }
  const blocks: BatchBlock[] = [];
  let end = HEADER_BYTES + first.metadataLength;
  for (;;) {
    const found = await messageAt(file, end, size);
    if (!found?.message.isRecordBatch()) break;
    const { message, metadataLength } = found;
    blocks.push({ offset: end, metadataLength, bodyLength: message.bodyLength, rows: message.header().length });
    end += metadataLength + message.bodyLength;
  }
  // In an unfinished file anything may follow the last whole batch; in a finished one only the end of the stream.
  if (complete && !(await readBytes(file, end, END_OF_STREAM.length)).equals(END_OF_STREAM)) {
    throw new UserError(`${path}: damaged, or not written by rlp-ort: expected a record batch at byte ${end}`);
  }
  const schemaMessage = await readBytes(file, HEADER_BYTES, first.metadataLength);
  return { schema: first.message.header(), schemaMessage, blocks, end, complete };
}
