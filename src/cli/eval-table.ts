import type { EvalSummary } from '../eval-run.ts';
import { formatSummary } from './summary.ts';

const COLUMNS = ['filter', 'metric', 'value', 'stderr', 'run std'];

/** `exact_match_stderr,strict-match` is column `_stderr` of the metric `exact_match,strict-match`. */
function cell(metrics: Readonly<Record<string, number>>, metric: string, filter: string, suffix: string): string {
  const value = metrics[`${metric}${suffix},${filter}`];
  return value === undefined ? '' : value.toFixed(4);
}

/** The result of an evaluation for people: what was asked, and the metrics as a table. */
export function formatEval({ metrics, ...rest }: EvalSummary): string {
  const rows = Object.keys(metrics)
    .map((key) => key.split(','))
    .filter(([metric]) => !/_(stderr|run_std)$/.test(metric))
    .map(([metric, filter]) => [
      ...[filter, metric],
      ...['', '_stderr', '_run_std'].map((suffix) => cell(metrics, metric, filter, suffix)),
    ]);
  const used = COLUMNS.map((_, c) => rows.some((row) => row[c] !== ''));
  const table = [COLUMNS, ...rows].map((row) => row.filter((_, c) => used[c]));
  const widths = table[0].map((_, c) => Math.max(...table.map((row) => row[c].length)));
  const lines = table.map((row) =>
    row.map((text, c) => (c < 2 ? text.padEnd(widths[c]) : text.padStart(widths[c]))).join('  '),
  );
  return `${formatSummary(rest)}\n\n${lines.join('\n')}`;
}
