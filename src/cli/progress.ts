import { Presets, SingleBar } from 'cli-progress';
import type { Progress, RunHooks } from '../progress.ts';
import { formatDuration } from '../report/duration.ts';
import type { Io } from './io.ts';
import { formatNumber } from './summary.ts';

/** Without a terminal a line of a stage is written at most this often: a log stays readable. */
const LINE_INTERVAL_MS = 5_000;

function figuresText(progress: Progress): string {
  return Object.entries(progress.figures ?? {})
    .map(([name, value]) => `${name} ${formatNumber(value)}`)
    .join('  ');
}

export interface ProgressReporter {
  report: (progress: Progress) => void;
  /** Ends the bar, so that what is printed next has a line of its own. Harmless when called again. */
  stop: () => void;
}

function lineReporter(io: Io, now: () => number): ProgressReporter {
  // Stages may take turns, as thinking and training do at every step: each has its own interval and its own last line.
  const stages = new Map<string, { printedAt: number; finished: boolean }>();
  const timeLeft = createTimeLeft(now);
  const report = (progress: Progress) => {
    const { stage, done, total, unit } = progress;
    const left = timeLeft(progress);
    const before = stages.get(stage);
    const finished = total !== undefined && done >= total;
    const due = before === undefined || (finished && !before.finished) || now() - before.printedAt >= LINE_INTERVAL_MS;
    if (!due) return;
    stages.set(stage, { printedAt: now(), finished: finished || before?.finished === true });
    const parts = [`${stage}: ${done}${total === undefined ? '' : `/${total}`} ${unit}`, figuresText(progress), left];
    io.err(`${parts.filter((part) => part !== '').join('  ')}\n`);
  };
  return { report, stop: () => undefined };
}

/** Time left by stage, from the pace since its first report; a stage that starts over is timed anew. */
export function createTimeLeft(now: () => number): (progress: Progress) => string {
  const stages = new Map<string, { startedAt: number; startedWith: number; done: number }>();
  return ({ stage, done: finished, total, inFlight = 0 }) => {
    const done = finished + inFlight;
    const before = stages.get(stage);
    const timed = before === undefined || done < before.done ? { startedAt: now(), startedWith: done, done } : before;
    stages.set(stage, { ...timed, done });
    const advanced = done - timed.startedWith;
    if (total === undefined || advanced <= 0 || done >= total) return '';
    return `${formatDuration(((now() - timed.startedAt) / 1000 / advanced) * (total - done))} left`;
  };
}

function barReporter(now: () => number): ProgressReporter {
  const timeLeft = createTimeLeft(now);
  let bar: SingleBar | undefined;
  let stage: string | undefined;
  const stop = () => {
    bar?.stop();
    bar = undefined;
  };
  const report = (progress: Progress) => {
    const { done, unit } = progress;
    const payload = { stage: progress.stage, unit, left: timeLeft(progress), figures: figuresText(progress) };
    if (bar === undefined || progress.stage !== stage) {
      stop();
      // Stages share one line: a bar that is done with makes room for the next, and in the end for the result.
      bar = new SingleBar(
        {
          format: '{stage} {bar} {value}/{total} {unit}  {left}  {figures}',
          stream: process.stderr,
          hideCursor: true,
          clearOnComplete: true,
          gracefulExit: false,
        },
        Presets.shades_classic,
      );
      bar.start(progress.total ?? done, done, payload);
      stage = progress.stage;
      return;
    }
    if (progress.total !== undefined) bar.setTotal(progress.total);
    bar.update(done, payload);
  };
  return { report, stop };
}

/** Progress of long work on standard error: a bar on a terminal, lines elsewhere. Standard output stays clean. */
export function createProgress(io: Io, now: () => number = Date.now): ProgressReporter {
  return io.errIsTerminal ? barReporter(now) : lineReporter(io, now);
}

/** Runs long work with its progress and notices shown, and ends the bar whatever happens. */
export async function withProgress<T>(
  io: Io,
  work: (hooks: Required<Pick<RunHooks, 'onProgress' | 'onNotice' | 'verbose'>>) => Promise<T>,
): Promise<T> {
  const progress = createProgress(io);
  const onNotice = (message: string) => {
    progress.stop();
    io.err(`rlp-ort: ${message}\n`);
  };
  try {
    return await work({ onProgress: progress.report, onNotice, verbose: io.verbose });
  } finally {
    progress.stop();
  }
}
