import { existsSync, writeFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openModel } from '../../src/model-directory.ts';
import { writeData } from './data.ts';
import { type Evaluation, evaluate } from './evaluate.ts';
import type { Job, JobResult } from './job.ts';
import {
  ABLATIONS,
  type Arm,
  type ArmContext,
  armContext,
  armsOf,
  FULL,
  POST_TRAINING_STAGES,
  QUICK,
  STABILITY,
  type Variant,
} from './plan.ts';
import { runJobs } from './pool.ts';
import { writeReport } from './report.ts';
import { compareThoughts } from './thoughts.ts';

/**
 * The paper's claims in small: every arm starts from one base checkpoint and sees the same raw text.
 *
 *     npm run reproduce -- [--quick] [--out FOLDER]
 *
 * What is done already is not done again: an interrupted experiment goes on where it was.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const BASE = join(ROOT, 'scripts/reproduce/base');

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, out: { type: 'string' } } });
const scale = values.quick ? QUICK : FULL;
const out = values.out ?? join(ROOT, 'runs', `reproduce-${scale.name}`);
const minutes = await stopwatch(join(out, 'minutes.json'));

const arms = armsOf(scale);
const data = await writeData(out, scale);
const context = armContext(scale, data.meanTokens, await parameters());
const long = { ...context, steps: scale.steps * scale.stability };
const evaluation = { thoughts: 4, maxThoughtTokens: context.maxThoughtTokens };
const baseThoughts = join(out, 'base-thoughts.arrow');
const base = await evaluate(BASE, { ...evaluation, data: data.heldOut, out: baseThoughts, threads: 1 });
const results = new Map<string, JobResult>();

const job = (name: string, settings: Record<string, unknown>): Job => ({
  ...{ name, model: BASE, heldOut: data.heldOut, ...evaluation },
  settings: { data: [data.train], checkpointEvery: 0, ...settings },
});
const armJob = (name: string, arm: Arm, armScale: ArmContext, settings: Record<string, unknown>): Job =>
  job(name, { data: [data[arm.data ?? 'train']], ...arm.settings(armScale), ...settings });
async function run(title: string, jobs: readonly Job[]): Promise<void> {
  if (jobs.length > 0) console.log(`\n== ${title}: ${jobs.length} runs`);
  const done = await runJobs(jobs, {
    out: join(out, 'jobs'),
    processes: availableParallelism(),
    onDone: ({ name, seconds }, count, total) =>
      console.log(
        `${minutes().toFixed(1).padStart(6)} min  ${count}/${total}  ${name}  ${seconds.toFixed(0)} s of training`,
      ),
  });
  for (const [name, result] of done) results.set(name, result);
}

// 1. The same small sweep of the learning rate for every arm, over all its steps, on questions of their own, with one seed.
const stepsOf = (arm: Arm) => (arm.short ? context : long);
const [onlyRate, ...otherRates] = scale.learningRates;
const swept = otherRates.length > 0 ? arms.filter(({ rateOf }) => rateOf === undefined) : [];
await run(
  'learning rates',
  swept.flatMap((arm) =>
    scale.learningRates.map((learningRate) => ({
      ...armJob(`sweep/${arm.name}/${learningRate}`, arm, stepsOf(arm), { learningRate, seed: 0 }),
      heldOut: data.validation,
    })),
  ),
);
const rates = new Map(
  arms.map(({ name, rateOf = name }) => {
    const score = (rate: number) => worth(lastEvaluation(`sweep/${rateOf}/${rate}`));
    return [name, otherRates.reduce((a, b) => (score(b) > score(a) ? b : a), onlyRate)];
  }),
);

// 2. Every arm, every seed, for ten times the steps in which RLP gains most.
await run(
  'arms',
  scale.seeds.flatMap((seed) =>
    arms.map((arm) => {
      const armScale = stepsOf(arm);
      const evaluations = (arm.short ? 1 : scale.stability) * scale.points;
      const checkpointEvery = Math.ceil(Number(arm.settings(armScale).steps) / evaluations);
      const settings = { learningRate: rates.get(arm.name), seed, checkpointEvery };
      return armJob(`arms/${arm.name}/${seed}`, arm, armScale, settings);
    }),
  ),
);

// 3. The identical post-training of the base and of what some arms made of it.
let models = new Map<string, string>(
  scale.seeds.flatMap((seed) => [
    [`base/${seed}`, BASE],
    ...scale.postTraining.arms.map((name) => {
      const key = `${name}/${seed}`;
      return [key, resultOf(`arms/${key}`).checkpoint] as [string, string];
    }),
  ]),
);
for (const stage of POST_TRAINING_STAGES) {
  await run(
    `post-training: ${stage.name}`,
    [...models].map(([key, model]) => {
      const settings = {
        data: [data.postTraining],
        seed: Number(key.split('/')[1]),
        ...stage.settings(scale.postTraining),
      };
      return { ...job(`post-training/${stage.name}/${key}`, settings), model };
    }),
  );
  models = new Map([...models.keys()].map((key) => [key, resultOf(`post-training/${stage.name}/${key}`).checkpoint]));
}

// 4. What the choices of the method do, and which hold for ten times the steps.
const rlp = arms.find(({ name }) => name === 'rlp-ema') as Arm;
const variants = (
  folder: string,
  all: readonly Variant[],
  seeds: readonly number[],
  armScale: ArmContext,
  every: number,
) =>
  all.flatMap(({ name, settings }) =>
    seeds.map((seed) => {
      const checkpointEvery = every === 0 ? 0 : Math.ceil(armScale.steps / every);
      const shared = { learningRate: rates.get(rlp.name), seed, checkpointEvery };
      return armJob(`${folder}/${name}/${seed}`, rlp, armScale, { ...shared, ...settings });
    }),
  );
await run('ablations', variants('ablations', ABLATIONS, scale.ablationSeeds, context, 0));
await run('stability', variants('stability', STABILITY, scale.stabilitySeeds, long, scale.stability));

const thinker = join(out, 'jobs', 'arms', rlp.name, String(scale.seeds[0]));
await writeReport(join(out, 'report'), {
  ...{ scale, context, base, rates, results },
  thoughts: await compareThoughts(baseThoughts, join(thinker, `thoughts-${scale.steps}.arrow`), 3),
  machine: `${availableParallelism()} threads of ${cpus()[0].model.trim()}`,
  minutes: minutes(),
});
console.log(`\nafter ${minutes().toFixed(1)} min: ${join(out, 'report', 'reproduction.md')} and .html`);

async function parameters(): Promise<number> {
  const weights = [...(await (await openModel(BASE)).loadWeights()).values()];
  return weights.reduce((sum, { data: values }) => sum + values.length, 0);
}

/** Mean over the families of the better of thinking and not thinking. */
function worth({ families }: Evaluation): number {
  const scores = Object.values(families).map(({ thinking, direct }) => Math.max(thinking, direct));
  return scores.reduce((a, b) => a + b, 0) / scores.length;
}

function resultOf(name: string): JobResult {
  const result = results.get(name);
  if (result === undefined) throw new Error(`no result of ${name}`);
  return result;
}

function lastEvaluation(name: string): Evaluation {
  const point = resultOf(name).curve.at(-1);
  if (point === undefined) throw new Error(`${name}: a run without an evaluation`);
  return point.evaluation;
}

/** Minutes of this command and of those before it that were interrupted, kept in a file. */
async function stopwatch(file: string): Promise<() => number> {
  await mkdir(out, { recursive: true });
  const earlier = existsSync(file) ? Number(await readFile(file, 'utf8')) : 0;
  const start = performance.now();
  const minutes = () => earlier + (performance.now() - start) / 60_000;
  setInterval(() => writeFileSync(file, String(minutes())), 5000).unref();
  return minutes;
}
