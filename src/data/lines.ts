import { constants } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { UserError } from '../errors.ts';
import { fileError } from '../file-error.ts';
import { decodeUtf8 } from './utf8.ts';

const NEWLINE = 0x0a;

export interface Line {
  text: string;
  /** From 1. */
  number: number;
}

/**
 * Lines of a UTF-8 file without their ends (\n or \r\n), read as a stream: memory holds one line.
 * @throws UserError if the file cannot be read, is not UTF-8, or has a line longer than a string can be
 */
export async function* readLines(path: string): AsyncGenerator<Line> {
  let pieces: Buffer[] = [];
  let length = 0; // bytes in `pieces`
  let offset = 0; // of the line in the file
  let number = 0;
  const push = (piece: Buffer) => {
    pieces.push(piece);
    length += piece.length;
    if (length > constants.MAX_STRING_LENGTH) {
      throw new UserError(`${path}:${number + 1}: a line of more than ${constants.MAX_STRING_LENGTH} bytes`);
    }
  };
  const take = (): Line => {
    const bytes = Buffer.concat(pieces);
    number++;
    const text = decodeUtf8(bytes, path, offset);
    pieces = [];
    length = 0;
    return { text: text.endsWith('\r') ? text.slice(0, -1) : text, number };
  };
  for await (const chunk of chunksOf(path)) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      push(chunk.subarray(start, end));
      const size = length + 1;
      yield take();
      offset += size;
      start = end + 1;
    }
    if (start < chunk.length) push(chunk.subarray(start));
  }
  if (length > 0) yield take();
}

async function* chunksOf(path: string): AsyncGenerator<Buffer> {
  try {
    for await (const chunk of createReadStream(path)) yield chunk as Buffer;
  } catch (thrown) {
    throw fileError('cannot read', path, thrown);
  }
}
