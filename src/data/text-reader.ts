import { constants } from 'node:buffer';
import { readFile, stat } from 'node:fs/promises';
import { UserError } from '../errors.ts';
import { fileError } from '../file-error.ts';
import type { Document } from './document.ts';
import { decodeUtf8 } from './utf8.ts';

/** A `.txt` file is one document. */
export async function* readTextFile(path: string): AsyncGenerator<Document> {
  let bytes: Buffer;
  try {
    const { size } = await stat(path);
    if (size > constants.MAX_STRING_LENGTH) {
      throw new UserError(
        `${path}: ${size} bytes is more than one document may have (${constants.MAX_STRING_LENGTH}). ` +
          'Split it into documents, one JSON object with a "text" a line, in a .jsonl file',
      );
    }
    bytes = await readFile(path);
  } catch (thrown) {
    throw fileError('cannot read', path, thrown);
  }
  const text = decodeUtf8(bytes, path);
  if (text.trim() === '')
    throw new UserError(`${path}: the file ${text === '' ? 'is empty' : 'holds white space only'}`);
  yield { id: `${path}:1`, text, source: { file: path, row: 1 } };
}
