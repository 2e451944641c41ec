import { pipeline, Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { Decompress } from 'fzstd';
import { messageOf, UserError } from '../errors.ts';
import { errnoOf } from '../file-error.ts';

const CHUNK_BYTES = 1 << 20;
/** Compressed bytes that are decompressed at once: a block of 4 bytes can stand for 128 KiB. */
const ZSTD_PIECE_BYTES = 1 << 12;

/** Content of a compressed file, piece by piece. A CompressionError is what is wrong with it. */
type Decompressor = (compressed: AsyncIterable<Buffer>) => AsyncGenerator<Buffer>;

class CompressionError extends Error {}

/** By the last extension of a file's name. */
const DECOMPRESSORS: Readonly<Record<string, Decompressor>> = { '.gz': gunzipped, '.zst': unzstd };

/** Extensions that stand for a compressed file. */
export const COMPRESSED: readonly string[] = Object.keys(DECOMPRESSORS);

/** The extension by which a file is compressed; undefined if it is not. */
export const compressionOf = (name: string): string | undefined =>
  COMPRESSED.find((extension) => name.toLowerCase().endsWith(extension));

/**
 * The content of a compressed file from a byte of it on. It has no places to start at: what lies before is decompressed and
 * dropped.
 * @throws UserError if the file is not whole, with the byte of the content up to which it is
 */
export async function* decompressed(
  name: string,
  extension: string,
  compressed: AsyncIterable<Buffer>,
  from: number,
): AsyncGenerator<Buffer> {
  let position = 0;
  try {
    for await (const chunk of DECOMPRESSORS[extension](compressed)) {
      const end = position + chunk.length;
      if (end > from) yield chunk.subarray(Math.max(0, from - position));
      position = end;
    }
  } catch (thrown) {
    if (!(thrown instanceof CompressionError)) throw thrown;
    throw new UserError(
      `${name}: cannot be decompressed after byte ${position} of its content (${thrown.message}). Is the download complete?`,
      { cause: thrown.cause },
    );
  }
}

async function* gunzipped(compressed: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  try {
    // With a callback, an error of either end is thrown by the loop and nowhere else.
    yield* pipeline(Readable.from(compressed), gunzip, () => {}) as AsyncIterable<Buffer>;
  } catch (thrown) {
    if (!errnoOf(thrown)?.startsWith('Z_')) throw thrown;
    throw new CompressionError(messageOf(thrown), { cause: thrown });
  }
}

/** Memory holds the window of a frame, which its header sets: 8 MiB at most unless zstd was told otherwise. Checksums are not compared. */
async function* unzstd(compressed: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = [];
  const stream = new Decompress((piece) => {
    if (piece.length > 0) pieces.push(Buffer.from(piece.buffer, piece.byteOffset, piece.length));
  });
  const push = (bytes: Uint8Array, isLast: boolean): Buffer[] => {
    pieces = [];
    try {
      stream.push(bytes, isLast);
    } catch (cause) {
      throw new CompressionError(messageOf(cause), { cause });
    }
    return pieces;
  };
  let isEmpty = true;
  for await (const chunk of compressed) {
    isEmpty = false;
    for (let i = 0; i < chunk.length; i += ZSTD_PIECE_BYTES)
      yield* push(chunk.subarray(i, i + ZSTD_PIECE_BYTES), false);
  }
  if (isEmpty) throw new CompressionError('the file is empty');
  yield* push(new Uint8Array(0), true);
}
