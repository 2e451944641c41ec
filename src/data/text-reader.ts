import { constants } from 'node:buffer';
import { UserError } from '../errors.ts';
import { MAX_CHARACTERS } from './document.ts';
import { type Line, readLines } from './lines.ts';
import type { FoundRow, RowPlace, TextDocuments, WantedColumns } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { decodeUtf8 } from './utf8.ts';

/** No text of the characters that a document may have is longer. */
const MAX_BYTES = 3 * MAX_CHARACTERS;

/**
 * A `.txt` file: one row that is all of it, or a row for each line or paragraph that is not white space. The number of a row is
 * that of its first line. Lines and paragraphs are read as a stream, a whole file is held in memory.
 */
export function readTextRows(
  file: SourceFile,
  start: RowPlace,
  { text: column, txtDocuments = 'file' }: WantedColumns,
): AsyncGenerator<FoundRow> {
  return txtDocuments === 'file' ? readWhole(file, start, column) : readPieces(file, start, column, txtDocuments);
}

async function* readWhole(file: SourceFile, start: RowPlace, column: string): AsyncGenerator<FoundRow> {
  if (start.row > 0) return;
  const next = { row: 1, byte: 0 };
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const chunk of file.chunks()) {
    pieces.push(chunk);
    length += chunk.length;
    if (length <= MAX_BYTES) continue;
    const problem = new UserError(
      `${file.name}: more bytes than one document may have (${MAX_BYTES}). If its paragraphs or lines are documents: ` +
        '--txt-documents paragraph, or line. Otherwise split it into documents, one JSON object with a "text" a line, in a ' +
        '.jsonl file',
    );
    yield { next, problem, firstRow: 1, rows: 1 };
    return;
  }
  try {
    const text = decodeUtf8(Buffer.concat(pieces), file.name);
    if (text.trim() === '') {
      throw new UserError(`${file.name}: the file ${text === '' ? 'is empty' : 'holds white space only'}`);
    }
    yield { next, row: { file: file.name, row: 1, values: { [column]: text }, columns: [column] } };
  } catch (thrown) {
    if (!(thrown instanceof UserError)) throw thrown;
    yield { next, problem: thrown, firstRow: 1, rows: 1 };
  }
}

async function* readPieces(
  file: SourceFile,
  start: RowPlace,
  column: string,
  kind: Exclude<TextDocuments, 'file'>,
): AsyncGenerator<FoundRow> {
  for await (const lines of kind === 'line' ? linesOf(file, start) : paragraphsOf(file, start)) {
    const { next } = lines[lines.length - 1];
    const number = lines[0].next.row;
    try {
      const text = lines
        .map(({ bytes, offset, next: { row } }) => decodeUtf8(bytes, `${file.name}:${row}`, offset).replace(/\r$/, ''))
        .join('\n');
      yield { next, row: { file: file.name, row: number, values: { [column]: text }, columns: [column] } };
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
      yield { next, problem: thrown, firstRow: number, rows: 1 };
    }
  }
}

async function* linesOf(file: SourceFile, start: RowPlace): AsyncGenerator<Line[]> {
  for await (const line of readLines(file, start)) if (!isBlank(line)) yield [line];
}

/** Lines up to a blank one, or to the end. */
async function* paragraphsOf(file: SourceFile, start: RowPlace): AsyncGenerator<Line[]> {
  let paragraph: Line[] = [];
  let length = 0;
  for await (const line of readLines(file, start)) {
    if (!isBlank(line)) {
      // A chunk of the file that the line is a part of would stay as long as the line.
      paragraph.push({ ...line, bytes: Buffer.from(line.bytes) });
      length += line.bytes.length + 1;
      if (length <= constants.MAX_STRING_LENGTH) continue;
      throw new UserError(
        `${file.name}:${paragraph[0].next.row}: a paragraph of more than ${constants.MAX_STRING_LENGTH} bytes; its end is a ` +
          'blank line. If lines are documents: --txt-documents line',
      );
    }
    if (paragraph.length > 0) yield paragraph;
    paragraph = [];
    length = 0;
  }
  if (paragraph.length > 0) yield paragraph;
}

/** White space only, or the byte order mark of a file that begins with a blank line. */
function isBlank({ bytes, offset }: Line): boolean {
  // Decoding is what takes time, and nearly every line shows what it is at its start.
  const isStart = bytes.length > 0 && bytes[0] > 0x20 && bytes[0] < 0x7f;
  return (
    !isStart &&
    bytes
      .toString('utf8')
      .replace(offset === 0 ? /^\ufeff/ : '', '')
      .trim() === ''
  );
}
