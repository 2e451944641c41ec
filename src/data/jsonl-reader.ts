import { messageOf, UserError } from '../errors.ts';
import type { Document } from './document.ts';
import { readLines } from './lines.ts';

/**
 * A `.jsonl` file: one JSON object a line, with the columns `text` (string), optionally `id` (string or number) and
 * `positions` (offsets into `text` in Unicode code points). Other columns are ignored, blank lines are skipped.
 */
export async function* readJsonlFile(path: string): AsyncGenerator<Document> {
  let rows = 0;
  for await (const { text: line, number } of readLines(path)) {
    if (line.trim() === '') continue;
    rows++;
    yield documentOf(parseRow(line, `${path}:${number}`), path, number);
  }
  if (rows === 0) throw new UserError(`${path}: the file holds no rows; expected a JSON object with a "text" a line`);
}

function parseRow(line: string, place: string): Record<string, unknown> {
  let row: unknown;
  try {
    row = JSON.parse(line);
  } catch (cause) {
    throw new UserError(`${place}: not a JSON object on one line (${messageOf(cause)})${arrayHint(line)}`, { cause });
  }
  if (typeof row !== 'object' || row === null || Array.isArray(row)) {
    throw new UserError(`${place}: expected a JSON object, found ${describe(row)}${arrayHint(line)}`);
  }
  return { ...row };
}

const arrayHint = (line: string): string =>
  line.trimStart().startsWith('[') ? `. A JSON array becomes lines with: jq -c '.[]'` : '';

function documentOf(row: Record<string, unknown>, file: string, number: number): Document {
  const place = `${file}:${number}`;
  const { text, id, positions } = row;
  if (text === undefined) {
    const found = Object.keys(row).map((name) => `"${name}"`);
    const columns = found.length === 0 ? 'no columns' : `the columns ${found.join(', ')}`;
    throw new UserError(`${place}: expected a column "text", found ${columns}`);
  }
  if (typeof text !== 'string') throw new UserError(`${place}: "text" must be a string, found ${describe(text)}`);
  if (text.trim() === '') throw new UserError(`${place}: "text" is empty`);
  const surrogate = /\p{Surrogate}/u.exec(text);
  if (surrogate !== null) {
    const code = text.charCodeAt(surrogate.index).toString(16);
    throw new UserError(`${place}: "text" has half a character (\\u${code} without its pair) at ${surrogate.index}`);
  }
  if (id !== undefined && id !== null && typeof id !== 'string' && typeof id !== 'number') {
    throw new UserError(`${place}: "id" must be a string or a number, found ${describe(id)}`);
  }
  return {
    id: id === undefined || id === null ? place : String(id),
    text,
    source: { file, row: number },
    ...(positions !== undefined && positions !== null && { positions: checkPositions(positions, text, place) }),
  };
}

function checkPositions(positions: unknown, text: string, place: string): number[] {
  if (!Array.isArray(positions)) {
    throw new UserError(`${place}: "positions" must be an array of offsets into "text", found ${describe(positions)}`);
  }
  const length = [...text].length;
  return positions.map((position: unknown, i) => {
    if (typeof position === 'number' && Number.isInteger(position) && position >= 0 && position < length)
      return position;
    const found = typeof position === 'number' ? position : describe(position);
    throw new UserError(
      `${place}: "positions"[${i}] must be an integer from 0 to ${length - 1} ` +
        `("text" has ${length} characters), found ${found}`,
    );
  });
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'an array';
  return `${typeof value === 'object' ? 'an' : 'a'} ${typeof value}`;
}
