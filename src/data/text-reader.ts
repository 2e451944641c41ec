import { constants } from 'node:buffer';
import { UserError } from '../errors.ts';
import type { FoundRow, RowPlace, WantedColumns } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { decodeUtf8 } from './utf8.ts';

/** A `.txt` file is one row, all of it the text. */
export async function* readTextRows(
  file: SourceFile,
  start: RowPlace,
  { text: column }: WantedColumns,
): AsyncGenerator<FoundRow> {
  if (start.row > 0) return;
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const chunk of file.chunks()) {
    pieces.push(chunk);
    length += chunk.length;
    if (length > constants.MAX_STRING_LENGTH) {
      throw new UserError(
        `${file.name}: more bytes than one document may have (${constants.MAX_STRING_LENGTH}). ` +
          'Split it into documents, one JSON object with a "text" a line, in a .jsonl file',
      );
    }
  }
  const next = { row: 1, byte: 0 };
  try {
    const text = decodeUtf8(Buffer.concat(pieces), file.name);
    if (text.trim() === '') {
      throw new UserError(`${file.name}: the file ${text === '' ? 'is empty' : 'holds white space only'}`);
    }
    yield { next, row: { file: file.name, row: 1, values: { [column]: text }, columns: [column] } };
  } catch (thrown) {
    if (!(thrown instanceof UserError)) throw thrown;
    yield { next, problem: thrown, rows: 1 };
  }
}
