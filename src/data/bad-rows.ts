import type { Problem } from './row.ts';

/** Messages that are shown, of each corpus. */
const SHOWN = 5;
/** Rows that are listed, and characters of a reason: a wrong column makes every row of the data a bad one. */
const LISTED = 10_000;
const REASON_CHARACTERS = 500;

/** Rows that were left out. */
export class BadRows {
  count = 0;
  /** Messages about the first of them, with file and row. */
  readonly first: string[] = [];
  readonly #listed: { file: string; row: number; rows: number; reason: string }[] = [];

  add(file: string, { firstRow: row, rows, problem: { message } }: Problem): void {
    this.count += rows;
    if (this.first.length < SHOWN) this.first.push(message);
    if (this.#listed.length >= LISTED) return;
    const place = [`${file}:${row}`, file].find((prefix) => message.startsWith(prefix)) ?? '';
    const reason = message.slice(place.length).replace(/^: /, '').trimStart().slice(0, REASON_CHARACTERS);
    this.#listed.push({ file, row, rows, reason });
  }

  /** Those of several corpora. */
  static of(parts: readonly BadRows[]): BadRows {
    const all = new BadRows();
    for (const part of parts) {
      all.count += part.count;
      all.first.push(...part.first);
      all.#listed.push(...part.#listed.slice(0, LISTED - all.#listed.length));
    }
    return all;
  }

  /**
   * The list of them, a JSON object a line: `file`, `row`, `rows` (from `row` on) and `reason`. The first 10,000 are
   * listed; a last line `{"not_listed": n}` tells of others.
   */
  get list(): string {
    const others = this.count - this.#listed.reduce((sum, { rows }) => sum + rows, 0);
    const lines: object[] = [...this.#listed, ...(others > 0 ? [{ not_listed: others }] : [])];
    return lines.map((line) => `${JSON.stringify(line)}\n`).join('');
  }
}

/**
 * What to tell the user about bad rows; undefined if there are none.
 * @param path of their list
 */
export function badRowsNotice({ count, first }: BadRows, path?: string): string | undefined {
  if (count === 0) return undefined;
  const rows = count === 1 ? '1 row is' : `${count} rows are`;
  const more = count > first.length ? '; ...' : '';
  const where = path === undefined ? '' : ` (listed in ${path})`;
  return `warning: ${rows} bad and left out${where}: ${first.join('; ')}${more}`;
}
