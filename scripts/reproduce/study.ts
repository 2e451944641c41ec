import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openModel } from '../../src/model-directory.ts';
import { type ArmContext, armNamed, CPT_LONG, LONG_FACTOR, MAX_THOUGHT_TOKENS, RLP } from './arms.ts';
import type { Clock, Costs } from './clock.ts';
import { type DataSizes, writeData } from './data.ts';
import { type Evaluation, evaluate } from './evaluate.ts';
import { filesHash } from './fingerprint.ts';
import { type Job, type JobResult, weightsOf } from './job.ts';
import { armJobName, documentsFor, StudyJobs, type SweepScore, THOUGHTS } from './jobs.ts';
import type { Scale, Study } from './plan.ts';
import { type Task, WorkerPool } from './pool.ts';
import { gainByKind, type KindGain } from './positions.ts';
import { groupBy, mean } from './statistics.ts';
import { compareThoughts, type ThoughtSample } from './thoughts.ts';
import { POST_TRAINING_STAGES } from './variants.ts';

/** Questions of a family whose thoughts the report shows. */
const SHOWN = 3;

/** What a study found. */
export interface Findings {
  study: Study;
  scale: Scale;
  context: ArmContext;
  base: Evaluation;
  /** What thinking is worth to the base by kind of character, where that was asked for. */
  baseKinds: readonly KindGain[];
  /** Learning rate of every arm, and what its sweep came to, by its name. */
  rates: ReadonlyMap<string, { chosen: number; scores: readonly SweepScore[] }>;
  /** Results by job name: sweep/ARM/RATE, arms/ARM/SEED, post-training/STAGE/ARM/SEED, ablations/NAME/SEED, stability/NAME/SEED. */
  results: ReadonlyMap<string, JobResult>;
  /** Of the base, and of RLP after its last step with the first seed. */
  thoughts: readonly ThoughtSample[];
}

export interface StudyOptions {
  /** Folder of all files. */
  out: string;
  /** SHA-256 of the code. */
  code: string;
  processes: number;
  costs: Costs;
  clock: Clock;
  /** Told of what happens, a line at a time. */
  log: (line: string) => void;
}

/** A study with its text written and its base evaluated, and the results that there are of it. */
interface PreparedStudy {
  folder: string;
  jobs: StudyJobs;
  results: Map<string, JobResult>;
  known: Omit<Findings, 'rates' | 'results' | 'thoughts'>;
}

/** Runs what of some studies is not done yet. Jobs that do not wait for others run at the same time, the longest first. */
export async function runStudies(
  studies: readonly { study: Study; scale: Scale }[],
  options: StudyOptions,
): Promise<Findings[]> {
  const { clock, costs, log, processes } = options;
  const prepared: PreparedStudy[] = [];
  for (const { study, scale } of studies) prepared.push(await prepare(study, scale, options));
  const tasksOf = (jobsOf: (jobs: StudyJobs) => Job[]) =>
    prepared.flatMap((one) =>
      jobsOf(one.jobs).map((job): StudyTask => {
        const { name } = one.known.study;
        return { job, folder: jobFolder(one, job.name), one, id: `${name}/${job.name}`, cost: costs(name, job) };
      }),
    );
  const everything = tasksOf((jobs) => [
    ...[...jobs.sweep(), ...jobs.arms(), ...jobs.ablations(), ...jobs.stability()],
    ...POST_TRAINING_STAGES.flatMap((_, stage) => jobs.postTraining(stage)),
  ]);
  for (const { id, cost } of everything) clock.expect(id, cost);
  log(
    `${everything.length} runs in ${processes} processes: about ${clock.left.toFixed(0)} minutes if none is done yet`,
  );
  for (const [part, tasks] of groupBy(everything, ({ id }) => id.split('/').slice(0, 2).join('/'))) {
    const minutes = tasks.reduce((sum, { cost }) => sum + cost, 0) / 60 / processes;
    log(`${minutes.toFixed(1).padStart(7)}  ${part}, ${tasks.length} runs`);
  }

  using pool = new WorkerPool(processes);
  const run = async (title: string, jobsOf: (jobs: StudyJobs) => Job[]): Promise<number> => {
    const tasks = tasksOf(jobsOf).sort((a, b) => b.cost - a.cost);
    if (tasks.length > 0) log(`\n== ${title}: ${tasks.length} runs`);
    for (const { id, cost } of tasks) clock.expect(id, cost); // a widened sweep is more than was expected
    let done = 0;
    await pool.run(tasks, ({ one, id }, result, fresh) => {
      one.results.set(result.name, result);
      clock.done(id, result, fresh);
      const [taken, left] = [clock.total.minutes, clock.left].map((minutes) => minutes.toFixed(1).padStart(5));
      log(`${taken} min, about ${left} left  ${++done}/${tasks.length}  ${id}  ${result.wallSeconds.toFixed(0)} s`);
    });
    return tasks.length;
  };
  let swept: number;
  do
    swept = await run('learning rates', (jobs) => jobs.sweep()); // again for arms whose best rate is at an edge
  while (swept > 0);
  await run('arms, ablations, stability', (jobs) => [...jobs.arms(), ...jobs.ablations(), ...jobs.stability()]);
  for (const [stage, { name }] of POST_TRAINING_STAGES.entries()) {
    await run(`post-training: ${name}`, (jobs) => jobs.postTraining(stage));
  }
  return await Promise.all(prepared.map(finish));
}

interface StudyTask extends Task {
  one: PreparedStudy;
  id: string;
  /** Seconds, estimated. */
  cost: number;
}

const jobFolder = ({ folder }: PreparedStudy, name: string) => join(folder, 'jobs', name);
const baseThoughts = (folder: string) => join(folder, 'base-thoughts.arrow');

async function prepare(study: Study, scale: Scale, { out, code }: StudyOptions): Promise<PreparedStudy> {
  const folder = join(out, study.name);
  await mkdir(folder, { recursive: true });
  const base = fileURLToPath(new URL(`bases/${study.name}`, import.meta.url));
  const { families } = study;
  const data = await writeData(folder, families, sizesOf(scale, families.length));
  const { heldOut, everyPosition } = data.files;
  const options = { thoughts: THOUGHTS, maxThoughtTokens: MAX_THOUGHT_TOKENS, threads: 1 };
  const evaluation = await evaluate(base, { ...options, data: heldOut, out: baseThoughts(folder) });
  const everywhere = { ...options, data: everyPosition, out: join(folder, 'base-every-position.arrow') };
  const baseKinds = scale.everyPosition > 0 ? await gainByKind(base, everywhere, families) : [];

  const { documentTokens, questionTokens } = data;
  const thoughtTokens = mean(Object.values(evaluation.families).map((family) => family.thoughtTokens));
  const context = { documentTokens, questionTokens, thoughtTokens, parameters: await parametersOf(base) };
  const hashes = { code, data: await filesHash(Object.values(data.files)), base: await weightsOf(base) };
  const results = new Map<string, JobResult>();
  const jobs = new StudyJobs({ scale, context, data, base, hashes, results });
  return { folder, jobs, results, known: { study, scale, context, base: evaluation, baseKinds } };
}

/** An arm that reads more than the others has as much text as it reads. */
function sizesOf(scale: Scale, families: number): DataSizes {
  const longSteps = LONG_FACTOR * scale.steps * scale.stability;
  return {
    train: scale.documents,
    trainLong: scale.arms.includes(CPT_LONG) ? documentsFor(longSteps, families) : 0,
    postTraining: scale.documents,
    heldOut: scale.heldOut,
    everyPosition: scale.everyPosition,
  };
}

async function finish({ folder, jobs, results, known }: PreparedStudy): Promise<Findings> {
  const { scale } = known;
  const rates = scale.arms.map((name) => {
    const scores = jobs.sweepScores(armNamed(name).sameAs ?? name);
    return [name, { chosen: jobs.rateOf(name), scores }] as const;
  });
  const name = armJobName(RLP, scale.seeds[0]);
  const last = results.get(name)?.curve.at(-1);
  const after = join(folder, 'jobs', name, `thoughts-${last?.step}.arrow`);
  const thoughts = await compareThoughts(baseThoughts(folder), after, SHOWN);
  return { ...known, rates: new Map(rates), results, thoughts };
}

async function parametersOf(model: string): Promise<number> {
  const weights = [...(await (await openModel(model)).loadWeights()).values()];
  return weights.reduce((sum, { data }) => sum + data.length, 0);
}
