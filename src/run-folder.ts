import { type FileHandle, mkdir, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { type TrainConfig, trainOptionsSchema } from './config.ts';
import { type Layer, readSettingsFile, settingsToYaml, storedSettings } from './config-resolve.ts';
import { replaceFile } from './durable.ts';
import { UserError } from './errors.ts';
import { errnoOf, fileError } from './file-error.ts';
import { checkUnlocked, Lock, type LockOwner, lockOwner } from './lock.ts';
import { checkOutputPath, MARKER, withAtomicDirectory } from './output.ts';
import { EventWriter } from './tensorboard.ts';

const CONFIG = 'config.yaml';
const METRICS = 'metrics.jsonl';
const FAILED = 'failed';
const BAD_ROWS = 'bad-rows.jsonl';
const KIND = 'run';
/** What withAtomicDirectory leaves when it is killed. */
const UNFINISHED = /^step-\d+\.(partial-|lock$)/;
const STEP_NAME = /^step-(\d{6,})(\.arrow)?$/;

/** One line of metrics.jsonl. JSON has no NaN and no infinity: such a figure is written as null. */
export type MetricsRow = { step: number } & Record<string, number | string | boolean | null>;

/** Whether a row is an evaluation's and not a training step's. */
export const isEvaluation = (row: MetricsRow): boolean => Object.keys(row).some((name) => name.startsWith('eval/'));

/** A checkpoint that lacks a file, or has other bytes in one than were written; a resume takes the one before it. */
export class DamagedCheckpoint extends UserError {}

/** A checkpoint of a run. */
export interface SavedCheckpoint {
  /** Optimizer steps taken when it was written. */
  step: number;
  path: string;
}

const stepName = (step: number) => `step-${String(step).padStart(6, '0')}`;

async function isFile(path: string): Promise<boolean> {
  try {
    return (await stat(path)).isFile();
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT' || errnoOf(thrown) === 'ENOTDIR') return false;
    throw fileError('cannot look at', path, thrown);
  }
}

async function list(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return [];
    throw fileError('cannot read', folder, thrown);
  }
}

/** True if `path` is a folder that a training run keeps its files in. */
export async function isRunFolder(path: string): Promise<boolean> {
  return (await isFile(join(path, MARKER))) && (await isFile(join(path, CONFIG)));
}

/** Settings a run was started with, as the layer under the flags of a resume. */
export async function readRunSettings(path: string): Promise<Layer> {
  if (!(await isRunFolder(path))) {
    throw new UserError(`run ${path}: not a run folder (no ${CONFIG}); leave out --resume to start a run there`);
  }
  return readSettingsFile(join(path, CONFIG));
}

/** Where the list of bad rows of a run's data belongs. */
export const badRowsPath = (path: string): string => join(path, BAD_ROWS);

const lockPath = (path: string) => join(path, 'lock');

/** The process that works on a run, undefined if none does. */
export async function runOwner(path: string): Promise<LockOwner | undefined> {
  return await lockOwner(lockPath(path));
}

/** Folders of steps whose loss or gradient was not finite, by step. */
export async function listFailedSteps(path: string): Promise<string[]> {
  const names = (await list(join(path, FAILED))).filter((name) => STEP_NAME.test(name));
  return names.sort().map((name) => join(path, FAILED, name));
}

/** Throws a UserError while another process works on the run; call it before the work. */
export async function checkIdle(path: string): Promise<void> {
  await checkUnlocked(lockPath(path), `run ${path}`);
}

/** Throws a UserError unless a new run may have its folder at `path`; call it before the work. */
export async function checkNewRun(path: string): Promise<void> {
  if (await isRunFolder(path)) {
    throw new UserError(`run ${path}: holds a run already; pass --resume to continue it, or choose another --run`);
  }
  await checkOutputPath(path, { kind: KIND });
}

const configText = (config: TrainConfig) => settingsToYaml(trainOptionsSchema, config);

/** Rows of metrics.jsonl in the order they were written. A torn last line, left by a crash, is left out. */
export async function readMetrics(path: string): Promise<MetricsRow[]> {
  const file = join(path, METRICS);
  let source: string;
  try {
    source = await readFile(file, 'utf8');
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return [];
    throw fileError('cannot read', file, thrown);
  }
  const lines = source.split('\n');
  // A whole line ends in a newline, so what follows the last one is torn or empty.
  return lines.slice(0, -1).map((line, index) => {
    try {
      const row: MetricsRow = JSON.parse(line);
      if (typeof row?.step === 'number') return row;
    } catch {
      // Told below, with the line.
    }
    throw new UserError(`${file}: line ${index + 1} is not a JSON object with a step: ${line.slice(0, 80)}`);
  });
}

/**
 * The folder of a training run:
 *
 *     config.yaml                resolved settings, paths as given: relative ones start where the run was started
 *     metrics.jsonl              a JSON object a line, in the order of the steps
 *     bad-rows.jsonl             rows of the data that were left out, where there are any
 *     events.out.tfevents.*      the same figures for TensorBoard; a resume begins another file
 *     rollouts/step-000001.arrow thoughts of a step
 *     checkpoints/step-000050/   a whole checkpoint, moved into place when it is finished
 *     failed/step-000007/        what a step was given whose loss or gradient was not finite
 *     lock                       while a process works on it
 *
 * Steps count from 1; step 0 stands for the model the run starts from.
 */
export class RunFolder implements AsyncDisposable {
  readonly path: string;
  readonly #lock: Lock;
  readonly #metrics: FileHandle;
  readonly #firstStep: number;
  /** Made with the first figures: a resume that has nothing to do leaves nothing. */
  #events: EventWriter | undefined;

  private constructor(path: string, lock: Lock, metrics: FileHandle, firstStep: number) {
    this.path = path;
    this.#lock = lock;
    this.#metrics = metrics;
    this.#firstStep = firstStep;
  }

  /**
   * Makes the folder of a new run, all at once.
   * @throws UserError if the folder exists and is not empty, or the file system refuses
   */
  static async create(config: TrainConfig): Promise<RunFolder> {
    const path = config.run;
    await checkNewRun(path);
    const fill = async (folder: string) => {
      await mkdir(join(folder, 'checkpoints'));
      await mkdir(join(folder, 'rollouts'));
      await writeFile(join(folder, CONFIG), configText(config));
      await writeFile(join(folder, METRICS), '');
    };
    await withAtomicDirectory(path, fill, { kind: KIND });
    return await RunFolder.#open(path, async () => 0);
  }

  /**
   * Opens the files while it holds the lock, which the folder then keeps.
   * @param prepare returns the first step of which figures are to come
   */
  static async #open(path: string, prepare: () => Promise<number>): Promise<RunFolder> {
    const lock = await Lock.acquire(lockPath(path), `run ${path}`);
    try {
      const firstStep = await prepare();
      return new RunFolder(path, lock, await open(join(path, METRICS), 'a'), firstStep);
    } catch (thrown) {
      await lock.release();
      throw fileError('cannot write', path, thrown);
    }
  }

  /**
   * Opens a run to go on after its newest whole checkpoint (undefined: it had none, start over). What was written after
   * that checkpoint, metrics and rollouts of the steps to be taken again, is removed, and what a crash left half written.
   * Damaged checkpoints are set aside as `step-000050.damaged`, with a message for each.
   *
   * @returns `notices`: what the user should know of it: damaged checkpoints, other rounding
   * @param restore takes a checkpoint over; DamagedCheckpoint: the one before it is tried; another error: the folder stays
   *   as it was
   * @throws DamagedCheckpoint if there are checkpoints, but none is whole
   */
  static async resume(
    config: TrainConfig,
    restore: (checkpoint: SavedCheckpoint) => Promise<void> = async () => {},
  ): Promise<{ folder: RunFolder; checkpoint: SavedCheckpoint | undefined; notices: string[] }> {
    const path = config.run;
    const rounding = roundingNotice(config, await readRunSettings(path));
    let checkpoint: SavedCheckpoint | undefined;
    let damaged: { path: string; message: string }[] = [];
    const folder = await RunFolder.#open(path, async () => {
      ({ checkpoint, damaged } = await newestWhole(path, restore));
      for (const { path: folder } of damaged) {
        await rm(`${folder}.damaged`, { recursive: true, force: true });
        await rename(folder, `${folder}.damaged`);
      }
      const lastStep = checkpoint?.step ?? -1;
      await forgetAfter(path, lastStep);
      await replaceFile(join(path, CONFIG), configText(config));
      return lastStep + 1;
    });
    const setAside = damaged.map(
      ({ path, message }) => `${message}: set aside as ${path}.damaged; going on from step ${checkpoint?.step}`,
    );
    const rounds = checkpoint === undefined || rounding === undefined ? [] : [rounding];
    return { folder, checkpoint, notices: [...setAside, ...rounds] };
  }

  /** Appends figures to metrics.jsonl and, those that are numbers, to TensorBoard's file; waits until they are on disk. */
  async appendMetrics(row: MetricsRow): Promise<void> {
    try {
      await this.#metrics.appendFile(`${JSON.stringify(row)}\n`);
      await this.#metrics.datasync();
    } catch (thrown) {
      throw fileError('cannot write', join(this.path, METRICS), thrown);
    }
    const { step, ...figures } = row;
    this.#events ??= await EventWriter.open(this.path, this.#firstStep);
    await this.#events.scalars(step, numbersOf(figures));
  }

  /** Where the checkpoint after `step` optimizer steps belongs. Its writer makes the folder all at once. */
  checkpointPath(step: number): string {
    return join(this.path, 'checkpoints', stepName(step));
  }

  /** Removes all but the newest `count` checkpoints. Killed meanwhile, it leaves none that looks whole and is not. */
  async keepCheckpoints(count: number): Promise<void> {
    for (const { path } of (await listCheckpoints(this.path)).slice(0, -count)) {
      try {
        const removed = `${path}.partial-removed`;
        await rename(path, removed);
        await rm(removed, { recursive: true });
      } catch (thrown) {
        throw fileError('cannot remove', path, thrown);
      }
    }
  }

  /** Where a step belongs whose loss or gradient was not finite. */
  failedStepPath(step: number): string {
    return join(this.path, FAILED, stepName(step));
  }

  /** Where the thoughts of a step belong. */
  rolloutsPath(step: number): string {
    return join(this.path, 'rollouts', `${stepName(step)}.arrow`);
  }

  async close(): Promise<void> {
    await this.#metrics.close();
    await this.#events?.close();
    await this.#lock.release();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

const numbersOf = (figures: Readonly<Record<string, unknown>>): Record<string, number> =>
  Object.fromEntries(
    Object.entries(figures).filter((entry): entry is [string, number] => typeof entry[1] === 'number'),
  );

/** The newest checkpoint that `restore` takes, and the damaged ones that came before it. */
async function newestWhole(path: string, restore: (checkpoint: SavedCheckpoint) => Promise<void>) {
  const damaged: { path: string; message: string }[] = [];
  for (const checkpoint of (await listCheckpoints(path)).reverse()) {
    try {
      await restore(checkpoint);
      return { checkpoint, damaged };
    } catch (thrown) {
      if (!(thrown instanceof DamagedCheckpoint)) throw thrown;
      damaged.push({ path: checkpoint.path, message: thrown.message });
    }
  }
  if (damaged.length > 0) {
    const found = damaged.map(({ message }) => message).join('\n  ');
    throw new DamagedCheckpoint(
      `run ${path}: none of its checkpoints is whole:\n  ${found}\nput the files back, or start a new run`,
    );
  }
  return { checkpoint: undefined, damaged };
}

/** Removes what a run wrote after a step, and what a crash left half written. */
async function forgetAfter(path: string, lastStep: number): Promise<void> {
  const kept = (await readMetrics(path)).filter((row) => row.step <= lastStep);
  await replaceFile(join(path, METRICS), kept.map((row) => `${JSON.stringify(row)}\n`).join(''));
  for (const name of await list(join(path, 'rollouts'))) {
    const step = STEP_NAME.exec(name.replace(/\.(partial|lock)$/, ''))?.[1];
    if (step !== undefined && Number(step) > lastStep) await rm(join(path, 'rollouts', name));
  }
  for (const name of await list(join(path, 'checkpoints'))) {
    if (UNFINISHED.test(name)) await rm(join(path, 'checkpoints', name), { recursive: true });
  }
}

/** Whole checkpoints of a run, oldest first: those with the marker, which is the last thing written into them. */
export async function listCheckpoints(path: string): Promise<SavedCheckpoint[]> {
  const folder = join(path, 'checkpoints');
  const found: SavedCheckpoint[] = [];
  for (const name of await list(folder)) {
    const step = STEP_NAME.exec(name)?.[1];
    if (step !== undefined && (await isFile(join(folder, name, MARKER)))) {
      found.push({ step: Number(step), path: join(folder, name) });
    }
  }
  return found.sort((a, b) => a.step - b.step);
}

export async function newestCheckpoint(path: string): Promise<SavedCheckpoint | undefined> {
  return (await listCheckpoints(path)).at(-1);
}

/** Settings that may differ when a run goes on: they change how far or how fast, not what is computed. */
const MAY_CHANGE = new Set([
  ...['steps', 'epochs', 'checkpoint-every', 'keep-checkpoints', 'checkpoint-dtype', 'eval-every', 'eval-data'],
  'eval-limit',
  ...['device', 'gpu-memory-limit', 'gpu-arena', 'cuda-graphs', 'threads', 'slots', 'documents-per-batch', 'run'],
]);

/** Those of them that change the order of sums, and so the last bits of what is computed. */
const CHANGE_ROUNDING = ['device', 'threads', 'slots', 'documents-per-batch'];

/** Which of those differ from what a run has had so far, in a sentence; undefined where none does. */
function roundingNotice(config: TrainConfig, saved: Layer): string | undefined {
  const now = new Map(storedSettings(trainOptionsSchema, config));
  const changed = CHANGE_ROUNDING.filter((name) => now.get(name) !== saved.values[name]).map(
    (name) => `--${name} is ${now.get(name) ?? 'not set'}, and was ${saved.values[name] ?? 'not set'}`,
  );
  if (changed.length === 0) return undefined;
  return `${changed.join('; ')}: sums are taken in another order, and the run ends with other last bits than without the interruption`;
}

/**
 * Refuses a resume with other settings than the run was started with, since its result would be neither the old run's nor a
 * new one's.
 * @param saved the layer of readRunSettings
 * @throws UserError that lists every setting with both values
 */
export function checkSameSettings(config: TrainConfig, saved: Layer): void {
  // The data as it was given: documents are named after their files, and thoughts are drawn by these names.
  const text = (name: string, value: unknown) => JSON.stringify(name === 'model' ? resolve(String(value)) : value);
  const changed = storedSettings(trainOptionsSchema, config)
    .filter(([name, value]) => !MAY_CHANGE.has(name) && text(name, value) !== text(name, saved.values[name]))
    .map(([name, value]) => `--${name} ${String(value)}: the run has ${String(saved.values[name] ?? 'none')}`);
  if (changed.length > 0) {
    throw new UserError(
      `run ${config.run}: cannot resume with other settings:\n  ${changed.join('\n  ')}\nleave them out, or start a new run`,
    );
  }
}
