import { constants } from 'node:buffer';
import { messageOf, UserError } from '../errors.ts';
import { readJsonlRows } from './jsonl-reader.ts';
import { describe, type FoundRow, type RowPlace } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { decodeUtf8 } from './utf8.ts';

/** A `.json` file: an array of objects, which is held in memory as a whole; or an object a line, as many call their JSONL. */
export async function* readJsonRows(file: SourceFile, start: RowPlace): AsyncGenerator<FoundRow> {
  if (!(await isArray(file))) {
    yield* readJsonlRows(file, start);
    return;
  }
  for (const [i, values] of (await readArray(file)).entries()) {
    if (i < start.row) continue;
    const next = { row: i + 1, byte: 0 };
    if (typeof values !== 'object' || values === null || Array.isArray(values)) {
      const problem = new UserError(`${file.name}:${next.row}: expected a JSON object, found ${describe(values)}`);
      yield { next, problem, rows: 1 };
      continue;
    }
    yield { next, row: { file: file.name, row: next.row, values: { ...values }, columns: Object.keys(values) } };
  }
}

async function isArray(file: SourceFile): Promise<boolean> {
  for await (const chunk of file.chunks()) {
    const text = chunk
      .toString('utf8')
      .replace(/^\ufeff/, '')
      .trimStart();
    if (text !== '') return text.startsWith('[');
  }
  return false;
}

async function readArray(file: SourceFile): Promise<unknown[]> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const chunk of file.chunks()) {
    pieces.push(chunk);
    length += chunk.length;
    if (length <= constants.MAX_STRING_LENGTH) continue;
    throw new UserError(
      `${file.name}: more bytes than a JSON array may have (${constants.MAX_STRING_LENGTH}). Make lines of it: jq -c '.[]'`,
    );
  }
  const text = decodeUtf8(Buffer.concat(pieces), file.name);
  try {
    return JSON.parse(text) as unknown[];
  } catch (cause) {
    throw new UserError(`${file.name}: not a whole JSON array (${messageOf(cause)}). Is the download complete?`, {
      cause,
    });
  }
}
