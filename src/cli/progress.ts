import { Presets, SingleBar } from 'cli-progress';
import type { Progress } from '../progress.ts';
import type { Io } from './io.ts';
import { formatNumber } from './summary.ts';

/** Without a terminal a line is written at most this often: a log stays readable. */
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
  let stage: string | undefined;
  let printedAt = 0;
  const report = (progress: Progress) => {
    const finished = progress.total !== undefined && progress.done >= progress.total;
    if (progress.stage === stage && !finished && now() - printedAt < LINE_INTERVAL_MS) return;
    stage = progress.stage;
    printedAt = now();
    const total = progress.total === undefined ? '' : `/${progress.total}`;
    io.err(`${progress.stage}: ${progress.done}${total} ${progress.unit}  ${figuresText(progress)}`.trimEnd());
    io.err('\n');
  };
  return { report, stop: () => undefined };
}

function barReporter(): ProgressReporter {
  let bar: SingleBar | undefined;
  let stage: string | undefined;
  const stop = () => {
    bar?.stop();
    bar = undefined;
  };
  const report = (progress: Progress) => {
    const payload = { stage: progress.stage, unit: progress.unit, figures: figuresText(progress) };
    if (bar === undefined || progress.stage !== stage) {
      stop();
      const format = '{stage} {bar} {value}/{total} {unit}  {eta_formatted} left  {figures}';
      bar = new SingleBar(
        { format, stream: process.stderr, hideCursor: true, etaBuffer: 20, gracefulExit: false },
        Presets.shades_classic,
      );
      bar.start(progress.total ?? progress.done, progress.done, payload);
      stage = progress.stage;
    }
    if (progress.total !== undefined) bar.setTotal(progress.total);
    bar.update(progress.done, payload);
  };
  return { report, stop };
}

/** Progress of long work on standard error: a bar on a terminal, lines elsewhere. Standard output stays clean. */
export function createProgress(io: Io, now: () => number = Date.now): ProgressReporter {
  return io.errIsTerminal ? barReporter() : lineReporter(io, now);
}

/** Runs long work with its progress shown, and ends the bar whatever happens. */
export async function withProgress<T>(io: Io, work: (report: (progress: Progress) => void) => Promise<T>): Promise<T> {
  const progress = createProgress(io);
  try {
    return await work(progress.report);
  } finally {
    progress.stop();
  }
}
