import { UserError } from '../errors.ts';
import { readJsonElements } from './json-array.ts';
import { parseRow, readJsonlRows } from './jsonl-reader.ts';
import type { FoundRow, RowPlace } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { decodeUtf8 } from './utf8.ts';

/** A `.json` file: an array of objects; or an object a line, as many call their JSONL. */
export async function* readJsonRows(file: SourceFile, start: RowPlace): AsyncGenerator<FoundRow> {
  if (!(await isArray(file))) {
    yield* readJsonlRows(file, start);
    return;
  }
  for await (const { bytes, offset, next } of readJsonElements(file, start)) {
    const place = `${file.name}:${next.row}`;
    try {
      const values = parseRow(decodeUtf8(bytes, place, offset), place, 'not a JSON object');
      yield { next, row: { file: file.name, row: next.row, values, columns: Object.keys(values) } };
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
      yield { next, problem: thrown, firstRow: next.row, rows: 1 };
    }
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
