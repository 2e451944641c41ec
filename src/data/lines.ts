import { constants } from 'node:buffer';
import { UserError } from '../errors.ts';
import type { RowPlace } from './row.ts';
import type { SourceFile } from './source-file.ts';

const NEWLINE = 0x0a;

export interface Line {
  /** Without its end, which is \n; a \r before it is white space of the line. */
  bytes: Buffer;
  /** Of its first byte in the file. */
  offset: number;
  /** Behind its end. */
  next: RowPlace;
}

/**
 * Lines of a file from a place on, read as a stream: memory holds one line and a chunk.
 * @throws UserError if the file cannot be read or has a line longer than a string can be
 */
export async function* readLines(file: SourceFile, start: RowPlace): AsyncGenerator<Line> {
  let pieces: Buffer[] = [];
  let length = 0; // bytes in `pieces`
  let { row, byte: offset } = start;
  const push = (piece: Buffer) => {
    pieces.push(piece);
    length += piece.length;
    if (length > constants.MAX_STRING_LENGTH) {
      throw new UserError(`${file.name}:${row + 1}: a line of more than ${constants.MAX_STRING_LENGTH} bytes`);
    }
  };
  const take = (endBytes: 0 | 1): Line => {
    const bytes = pieces.length === 1 ? pieces[0] : Buffer.concat(pieces);
    const line = { bytes, offset, next: { row: row + 1, byte: offset + length + endBytes } };
    ({ row, byte: offset } = line.next);
    pieces = [];
    length = 0;
    return line;
  };
  for await (const chunk of file.chunks(start.byte)) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, from)) {
      push(chunk.subarray(from, end));
      yield take(1);
      from = end + 1;
    }
    if (from < chunk.length) push(chunk.subarray(from));
  }
  if (length > 0) yield take(0);
}
