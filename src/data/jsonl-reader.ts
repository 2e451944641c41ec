import { messageOf, UserError } from '../errors.ts';
import { readLines } from './lines.ts';
import { describe, type FoundRow, type RowPlace } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { decodeUtf8 } from './utf8.ts';

/** A `.jsonl` file: one JSON object a line, whose keys are the columns. Blank lines are skipped. */
export async function* readJsonlRows(file: SourceFile, start: RowPlace): AsyncGenerator<FoundRow> {
  for await (const { bytes, offset, next } of readLines(file, start)) {
    const place = `${file.name}:${next.row}`;
    try {
      const line = decodeUtf8(bytes, place, offset);
      if (line.trim() === '') continue;
      const values = parseRow(line, place);
      yield { next, row: { file: file.name, row: next.row, values, columns: Object.keys(values) } };
    } catch (thrown) {
      if (!(thrown instanceof UserError)) throw thrown;
      yield { next, problem: thrown, firstRow: next.row, rows: 1 };
    }
  }
}

/**
 * The object that is a row.
 * @param expected what the text is not if it is no JSON
 * @throws UserError that says what it is instead
 */
export function parseRow(text: string, place: string, expected = LINE): Record<string, unknown> {
  const hint = expected === LINE && text.trimStart().startsWith('[') ? ARRAY_HINT : '';
  let row: unknown;
  try {
    row = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${place}: ${expected} (${messageOf(cause)})${hint}`, { cause });
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row)) {
    throw new UserError(`${place}: expected a JSON object, found ${describe(row)}${hint}`);
  }
  return row as Record<string, unknown>;
}

const LINE = 'not a JSON object on one line';
const ARRAY_HINT = `. A JSON array becomes lines with: jq -c '.[]'`;
