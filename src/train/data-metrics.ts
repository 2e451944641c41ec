import type { BadRows } from '../data/index.ts';
import type { DataCounts } from './objective.ts';

/** What data tells of itself. */
export interface CountedData {
  size: number;
  badRows: BadRows;
  /** What to tell the user of the files. */
  notices: readonly string[];
  drawn: { skipped: number; truncated: number };
}

/** What became of the data so far. */
export function countsOf(data: CountedData): DataCounts {
  const { size, badRows, drawn } = data;
  return { documents: size, ...drawn, ...(badRows.count > 0 && { badRows }) };
}

/** How far training has got with its data: `epoch`, of several corpora `epoch/1` ... in the order of --data. */
export function dataMetrics(data: CountedData, epochs: readonly number[]): Record<string, number> {
  const { count } = data.badRows;
  return {
    ...(epochs.length === 1
      ? { epoch: epochs[0] }
      : Object.fromEntries(epochs.map((epoch, i) => [`epoch/${i + 1}`, epoch]))),
    ...(count > 0 && { 'data/bad_rows': count }),
  };
}
