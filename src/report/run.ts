import Table from 'cli-table3';
import type { MetricsRow, SavedCheckpoint } from '../run-folder.ts';

export interface RunReport {
  path: string;
  /** By flag name. */
  settings: Readonly<Record<string, unknown>>;
  first: MetricsRow | undefined;
  last: MetricsRow | undefined;
  /** Oldest first. */
  checkpoints: readonly SavedCheckpoint[];
}

const PLAIN = {
  chars: Object.fromEntries(
    ['top', 'top-mid', 'top-left', 'top-right', 'bottom', 'bottom-mid', 'bottom-left', 'bottom-right']
      .concat(['left', 'left-mid', 'mid', 'mid-mid', 'right', 'right-mid', 'middle'])
      .map((name) => [name, '']),
  ),
  style: { head: [], border: [], 'padding-left': 0, 'padding-right': 2 },
};

const cell = (value: unknown): string => {
  if (typeof value === 'number') return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(5)));
  return Array.isArray(value) ? value.join(', ') : String(value ?? '');
};

const lines = (table: Table.Table) => table.toString().replace(/ +$/gm, '');

/** A run for people: its settings, its metrics at the first and the last row, and its newest checkpoint. */
export function formatRun({ path, settings, first, last, checkpoints }: RunReport): string {
  const parts = [`Run ${path}`];
  const settingsTable = new Table(PLAIN);
  settingsTable.push(...Object.entries(settings).map(([name, value]) => [name, cell(value)]));
  parts.push(lines(settingsTable));
  if (first === undefined || last === undefined) {
    parts.push('No metrics yet.');
  } else {
    const names = [...new Set([...Object.keys(first), ...Object.keys(last)])].filter((name) => name !== 'step');
    const table = new Table({ ...PLAIN, head: ['metric', `step ${first.step}`, `step ${last.step}`] });
    table.push(...names.map((name) => [name, cell(first[name]), cell(last[name])]));
    parts.push(lines(table));
  }
  const newest = checkpoints.at(-1);
  parts.push(
    newest === undefined ? 'No checkpoint yet.' : `Newest of ${checkpoints.length} checkpoint(s): ${newest.path}`,
  );
  return parts.join('\n\n');
}
