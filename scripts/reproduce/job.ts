import { existsSync } from 'node:fs';
import { readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { trainSchema } from '../../src/config.ts';
import { isRunFolder, listCheckpoints, type MetricsRow, readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { type Evaluation, evaluate } from './evaluate.ts';

/** One training run and its evaluations: what a worker process does. */
export interface Job {
  /** Also its folder. */
  name: string;
  /** Checkpoint folder to start from. */
  model: string;
  /** Settings of `rlp-ort train` beyond model and run folder. */
  settings: Record<string, unknown>;
  /** Held-out documents, one JSON object a line. */
  heldOut: string;
  /** Thoughts a question in the evaluation. */
  thoughts: number;
  maxThoughtTokens: number;
}

/** What became of a job. */
export interface JobResult {
  name: string;
  /** Evaluations by optimizer step, ascending. */
  curve: { step: number; evaluation: Evaluation }[];
  /** Checkpoint folder of the last step. */
  checkpoint: string;
  /** Tokens that went through the training graph, the first pass over a shared prefix only. */
  trainedTokens: number;
  sampledTokens: number;
  /** Of the training loop: the median step, times the steps, so that a pause of the machine does not count. */
  seconds: number;
}

const resultPath = (folder: string) => join(folder, 'result.json');

/** The result of a job that is done; undefined if it is not. */
export async function readResult(folder: string): Promise<JobResult | undefined> {
  if (!existsSync(resultPath(folder))) return undefined;
  return await readJson(resultPath(folder));
}

/** Trains, evaluates every checkpoint, and leaves result.json. What was interrupted goes on where it was. */
export async function runJob(folder: string, job: Job): Promise<JobResult> {
  const run = join(folder, 'run');
  const resume = await isRunFolder(run);
  const config = trainSchema.parse({ ...job.settings, model: job.model, run, resume, threads: 1 });
  const { checkpoint } = await train(config);

  for (const { step, path } of await listCheckpoints(run)) {
    const file = evaluationPath(folder, step);
    if (existsSync(file)) continue;
    const options = { data: job.heldOut, out: join(folder, `thoughts-${step}.arrow`), threads: 1 };
    const { thoughts, maxThoughtTokens } = job;
    await writeJson(file, await evaluate(path, { ...options, thoughts, maxThoughtTokens }));
    if (path !== checkpoint) await rm(path, { recursive: true });
  }
  const curve: JobResult['curve'] = [];
  for (const name of await readdir(folder)) {
    const step = /^evaluation-(\d+)\.json$/.exec(name)?.[1];
    if (step !== undefined) curve.push({ step: Number(step), evaluation: await readJson(join(folder, name)) });
  }
  curve.sort((a, b) => a.step - b.step);

  const steps = (await readMetrics(run)).filter(({ loss }) => loss !== undefined);
  const stepTimes = steps.map(({ step_time }) => Number(step_time)).sort((a, b) => a - b);
  const thoughts = (config.documentsPerStep ?? 0) * config.positions * config.groupSize;
  const lengths = steps.map((row) => Number(row['completions/mean_length'] ?? 0));
  const result: JobResult = {
    ...{ name: job.name, curve, checkpoint },
    trainedTokens: Math.round(steps.reduce((sum, row) => sum + trainedTokens(row), 0)),
    sampledTokens: lengths.reduce((sum, length) => sum + length * thoughts, 0),
    seconds: stepTimes[stepTimes.length >> 1] * steps.length,
  };
  await writeJson(resultPath(folder), result);
  return result;
}

/** Tokens that went through the training graph in a step. */
const trainedTokens = (row: MetricsRow) => Number(row['tokens_per_second/train'] ?? 0) * Number(row['time/train'] ?? 0);

const evaluationPath = (folder: string, step: number) => join(folder, `evaluation-${step}.json`);

/** A file of this experiment. */
async function readJson<T>(path: string): Promise<T> {
  return JSON.parse(await readFile(path, 'utf8')) as T;
}

async function writeJson(path: string, value: unknown): Promise<void> {
  await writeFile(`${path}.partial`, `${JSON.stringify(value, null, 2)}\n`);
  await rename(`${path}.partial`, path);
}

// npx tsx scripts/reproduce/job.ts FOLDER: runs FOLDER/job.json
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const folder = process.argv[2];
  await runJob(folder, await readJson<Job>(join(folder, 'job.json')));
}
