import Table from 'cli-table3';
import { isEvaluation, type MetricsRow, type SavedCheckpoint } from '../run-folder.ts';
import { formatDuration } from './duration.ts';
import { paint } from './paint.ts';

export interface RunReport {
  path: string;
  /** running: a process holds the run's lock; stopped: none does, and steps are left to take. */
  status: 'running' | 'finished' | 'stopped';
  /** The process that holds the lock. */
  process?: { pid: number; host: string; since: string };
  /** Optimizer steps taken, of those asked for. */
  step: number;
  steps: number;
  /** At the pace of the last steps; undefined if there is no pace or nothing left. */
  secondsLeft?: number;
  /** Folders of steps whose loss or gradient was not finite. */
  failedSteps: readonly string[];
  /** By flag name. */
  settings: Readonly<Record<string, unknown>>;
  /** Of training steps. */
  first: MetricsRow | undefined;
  last: MetricsRow | undefined;
  firstEvaluation: MetricsRow | undefined;
  lastEvaluation: MetricsRow | undefined;
  /** Oldest first. */
  checkpoints: readonly SavedCheckpoint[];
}

/** What is known of a run besides its metrics. */
type RunFacts = Pick<RunReport, 'path' | 'failedSteps' | 'settings' | 'checkpoints'> & Partial<RunReport>;

/** Steps whose times make the pace. */
const PACE_STEPS = 20;

/** Where a run has got to, from its metrics and its folder. */
export function runReport(facts: RunFacts, metrics: readonly MetricsRow[]): RunReport {
  const training = metrics.filter((row) => !isEvaluation(row));
  const evaluations = metrics.filter(isEvaluation);
  const steps = Number(facts.settings.steps);
  const step = training.at(-1)?.step ?? 0;
  const finished = facts.checkpoints.at(-1)?.step === steps;
  const times = training.slice(-PACE_STEPS).map((row) => Number(row.step_time));
  const pace = times.reduce((a, b) => a + b, 0) / times.length;
  return {
    ...facts,
    status: facts.process !== undefined ? 'running' : finished ? 'finished' : 'stopped',
    ...{ step, steps },
    ...(step < steps && Number.isFinite(pace) && { secondsLeft: pace * (steps - step) }),
    ...{ first: training[0], last: training.at(-1) },
    ...{ firstEvaluation: evaluations[0], lastEvaluation: evaluations.at(-1) },
  };
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

/** Figures of two rows side by side; of one, where they are the same. */
function comparison(title: string, first: MetricsRow | undefined, last: MetricsRow | undefined): string | undefined {
  if (first === undefined || last === undefined) return undefined;
  const rows = first.step === last.step ? [first] : [first, last];
  const names = [...new Set(rows.flatMap((row) => Object.keys(row)))].filter((name) => name !== 'step');
  const table = new Table({ ...PLAIN, head: [title, ...rows.map(({ step }) => `step ${step}`)] });
  table.push(...names.map((name) => [name, ...rows.map((row) => cell(row[name]))]));
  return lines(table);
}

function progress({ status, step, steps, secondsLeft, process, path }: RunReport, colour: boolean): string {
  const left = secondsLeft === undefined ? '' : `, about ${formatDuration(secondsLeft)} left`;
  const at = `step ${step} of ${steps}`;
  if (status === 'running') {
    return `${paint(colour, 'green', 'running')}: ${at}${left} (process ${process?.pid} on ${process?.host})`;
  }
  if (status === 'finished') return `${paint(colour, 'green', 'finished')}: ${at}`;
  return `${paint(colour, 'yellow', 'stopped')}: ${at}; to go on: rlp-ort train --run ${path} --resume`;
}

/** A run for people: where it has got to, its figures at the first and the last step, its checkpoints, its settings. */
export function formatRun(report: RunReport, colour: boolean): string {
  const { path, settings, first, last, firstEvaluation, lastEvaluation, checkpoints, failedSteps } = report;
  const settingsTable = new Table({ ...PLAIN, head: ['setting', ''] });
  settingsTable.push(...Object.entries(settings).map(([name, value]) => [name, cell(value)]));
  const newest = checkpoints.at(-1);
  const parts = [
    `Run ${path}\n${progress(report, colour)}`,
    ...failedSteps.map((folder) => `${paint(colour, 'red', 'A step was not finite')}: its batch is in ${folder}`),
    comparison('evaluation', firstEvaluation, lastEvaluation),
    comparison('training', first, last) ?? 'No metrics yet.',
    newest === undefined ? 'No checkpoint yet.' : `Newest of ${checkpoints.length} checkpoint(s): ${newest.path}`,
    lines(settingsTable),
  ];
  return parts.filter((part) => part !== undefined).join('\n\n');
}
