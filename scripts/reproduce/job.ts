import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { appendFile, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TrainConfig, trainSchema } from '../../src/config.ts';
import { RunError } from '../../src/errors.ts';
import { isRunFolder, listCheckpoints, type MetricsRow, readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { type Evaluation, evaluate } from './evaluate.ts';
import { type Family, OPEN, SETTLED } from './families.ts';
import { gainByKind, type KindGain } from './positions.ts';

/** One training run and its evaluations: what a worker process does at a time. */
export interface Job {
  /** Within its study; also its folder. */
  name: string;
  /** Checkpoint folder to start from. */
  model: string;
  /** Settings of `rlp-ort train` beyond model and run folder. */
  settings: Readonly<Record<string, unknown>> & { steps: number };
  /** Steps after which it is evaluated, ascending multiples of the first; the last is the run's last. */
  evaluateAt: readonly number[];
  /** Held-out documents, one JSON object a line. */
  heldOut: string;
  /** Documents to think about at every position after the last step. */
  everyPosition?: string;
  /** Thoughts a question in the evaluation. */
  thoughts: number;
  maxThoughtTokens: number;
  /** Others start from its checkpoint. */
  keepCheckpoint: boolean;
  /** SHA-256 of what it is made of: a job of other code, text or weights is another job. */
  made: { code: string; data: string; start: string };
}

/** An evaluation after some optimizer steps. */
export interface CurvePoint {
  step: number;
  /** SHA-256 of model.safetensors. */
  weights: string;
  evaluation: Evaluation;
}

/** What became of a job. */
export interface JobResult {
  name: string;
  /** Ascending. */
  curve: CurvePoint[];
  /** Where training ended before its last step, as a loss was not finite: which step, and what. */
  diverged?: string;
  /** Checkpoint folder of the last step, if it is kept. */
  checkpoint?: string;
  /** What thinking is worth by kind of character, where that was asked for. */
  kinds?: KindGain[];
  /** Tokens that went through the training graph, the first pass over a shared prefix only. */
  trainedTokens: number;
  sampledTokens: number;
  /** Of the training loop: the median step, times the steps, so that a pause of the machine does not count. */
  seconds: number;
  /** Of all evaluations, and of the whole job, by the clock. */
  evaluationSeconds: number;
  wallSeconds: number;
}

export const SHA256 = (bytes: Uint8Array | string): string => createHash('sha256').update(bytes).digest('hex');
export const weightsOf = async (checkpoint: string): Promise<string> =>
  SHA256(await readFile(join(checkpoint, 'model.safetensors')));

const resultPath = (folder: string) => join(folder, 'result.json');

/** The result of a job that is done; undefined if it is not. */
export async function readResult(folder: string): Promise<JobResult | undefined> {
  if (!existsSync(resultPath(folder))) return undefined;
  return await readJson(resultPath(folder));
}

const FAMILIES: readonly Family[] = [...SETTLED, ...OPEN];

/** Trains, evaluates, and leaves result.json. What was interrupted goes on where it was. */
export async function runJob(folder: string, job: Job): Promise<JobResult> {
  const start = performance.now();
  const run = join(folder, 'run');
  const resume = await isRunFolder(run);
  const checkpointEvery = job.evaluateAt[0];
  const { model, settings, evaluateAt } = job;
  const config = trainSchema.parse({ ...settings, model, run, resume, checkpointEvery, threads: 1 });
  const { checkpoint, diverged } = await trainUntilDivergence(folder, config);

  const evaluationStart = performance.now();
  const { thoughts, maxThoughtTokens } = job;
  for (const { step, path } of await listCheckpoints(run)) {
    const file = pointPath(folder, step);
    if (evaluateAt.includes(step) && !existsSync(file)) {
      const out = join(folder, `thoughts-${step}.arrow`);
      const options = { data: job.heldOut, out, thoughts, maxThoughtTokens, threads: 1 };
      const evaluation = await evaluate(path, options);
      await writeJson(file, { step, weights: await weightsOf(path), evaluation } satisfies CurvePoint);
    }
    if (path !== checkpoint) await rm(path, { recursive: true });
  }
  const everywhere = job.everyPosition;
  const kinds = everywhere !== undefined &&
    checkpoint !== undefined && {
      kinds: await gainByKind(
        checkpoint,
        { data: everywhere, out: join(folder, 'every-position.arrow'), thoughts, maxThoughtTokens, threads: 1 },
        FAMILIES,
      ),
    };
  const end = performance.now();

  const curve: CurvePoint[] = [];
  for (const name of await readdir(folder)) {
    if (/^point-\d+\.json$/.test(name)) curve.push(await readJson(join(folder, name)));
  }
  curve.sort((a, b) => a.step - b.step);
  const steps = (await readMetrics(run)).filter(({ loss }) => loss !== undefined);
  const stepTimes = steps.map(({ step_time }) => Number(step_time)).sort((a, b) => a - b);
  const thoughtsOfStep = (config.documentsPerStep ?? 0) * config.positions * config.groupSize;
  const lengths = steps.map((row) => Number(row['completions/mean_length'] ?? 0));
  const result: JobResult = {
    ...{ name: job.name, curve, ...kinds },
    ...(job.keepCheckpoint && checkpoint !== undefined && { checkpoint }),
    ...(diverged !== undefined && { diverged }),
    trainedTokens: Math.round(steps.reduce((sum, row) => sum + trainedTokens(row), 0)),
    sampledTokens: lengths.reduce((sum, length) => sum + length * thoughtsOfStep, 0),
    seconds: (stepTimes[stepTimes.length >> 1] ?? 0) * steps.length,
    evaluationSeconds: (end - evaluationStart) / 1000,
    wallSeconds: (end - start) / 1000,
  };
  await writeJson(resultPath(folder), result);
  if (!job.keepCheckpoint && checkpoint !== undefined) await rm(checkpoint, { recursive: true });
  return result;
}

/** Training that diverges is a result, too. */
async function trainUntilDivergence(
  folder: string,
  config: TrainConfig,
): Promise<{ checkpoint?: string; diverged?: string }> {
  const onNotice = (message: string) => void appendFile(join(folder, 'log.txt'), `${message}\n`);
  try {
    const { checkpoint } = await train(config, { onNotice });
    return { checkpoint };
  } catch (thrown) {
    if (thrown instanceof RunError && thrown.message.includes('training has diverged')) {
      return { diverged: thrown.message.split(': training has diverged')[0] }; // what follows is for the folder's owner
    }
    throw thrown;
  }
}

/** Tokens that went through the training graph in a step. */
const trainedTokens = (row: MetricsRow) => Number(row['tokens_per_second/train'] ?? 0) * Number(row['time/train'] ?? 0);

const pointPath = (folder: string, step: number) => join(folder, `point-${step}.json`);

/** A file of this experiment. */
export async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

export async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(`${path}.partial`, `${JSON.stringify(value, null, 2)}\n`);
  await rename(`${path}.partial`, path);
}
