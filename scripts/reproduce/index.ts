import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { type Evaluation, evaluate } from './evaluate.ts';
import { FAMILIES, rawDocuments, type Split } from './families.ts';
import type { Job, JobResult } from './job.ts';
import { ABLATIONS, type Arm, type ArmContext, armContext, armsOf, FULL, QUICK, type Scale } from './plan.ts';
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
const start = performance.now();
const elapsed = () => `${((performance.now() - start) / 60_000).toFixed(1)} min`;

const compared = armsOf(scale);
const data = await writeData(out, scale);
const context = armContext(scale, data.meanTokens);
const evaluation = { thoughts: 4, maxThoughtTokens: context.maxThoughtTokens };
const baseThoughts = join(out, 'base-thoughts.arrow');
const base = await evaluate(BASE, { ...evaluation, data: data.heldOut, out: baseThoughts, threads: 1 });
const job = (
  name: string,
  arm: Arm,
  armScale: ArmContext,
  settings: Record<string, unknown>,
  heldOut: string,
): Job => ({
  ...{ name, model: BASE, heldOut, ...evaluation },
  settings: { data: [data.train], ...arm.settings(armScale), ...settings },
});
const run = (title: string, jobs: readonly Job[]) => {
  console.log(`\n== ${title}: ${jobs.length} runs`);
  return runJobs(jobs, {
    out: join(out, 'jobs'),
    processes: availableParallelism(),
    onDone: ({ name, seconds }, done, total) =>
      console.log(`${elapsed().padStart(9)}  ${done}/${total}  ${name}  ${seconds.toFixed(0)} s of training`),
  });
};

// 1. The same small sweep of the learning rate for every arm, on questions of their own.
const swept = compared.filter(({ rateOf }) => rateOf === undefined);
const sweepName = (arm: Arm, rate: number) => `sweep/${arm.name}/${rate}`;
const sweep = await run(
  'learning rates',
  swept.flatMap((arm) =>
    scale.learningRates.map((learningRate) =>
      job(sweepName(arm, learningRate), arm, context, { learningRate, seed: 0, checkpointEvery: 0 }, data.validation),
    ),
  ),
);
const best = new Map(
  swept.map((arm) => {
    const score = (rate: number) => worth(last(sweep.get(sweepName(arm, rate))));
    return [arm.name, scale.learningRates.reduce((a, b) => (score(b) > score(a) ? b : a))];
  }),
);

for (const { name, rateOf } of compared) if (rateOf !== undefined) best.set(name, best.get(rateOf) as number);

// 2. Every arm, every seed, ten times longer than it takes RLP to gain most.
const long = { ...context, steps: scale.steps * scale.stability };
const armJobs = compared.flatMap((arm) =>
  scale.seeds.map((seed) => {
    const settings = { learningRate: best.get(arm.name), seed };
    const armScale = arm.short ? context : long;
    const evaluations = (arm.short ? 1 : scale.stability) * scale.points;
    const checkpointEvery = Math.ceil(Number(arm.settings(armScale).steps) / evaluations);
    return job(`arms/${arm.name}/${seed}`, arm, armScale, { ...settings, checkpointEvery }, data.heldOut);
  }),
);
const arms = await run('arms', armJobs);

// 3. What the choices of the method do.
const ablations = await run(
  'ablations',
  ABLATIONS.flatMap(({ name, settings }) =>
    scale.ablationSeeds.map((seed) => {
      const rlp = compared.find((arm) => arm.name === 'rlp-ema') as Arm;
      const all = { learningRate: best.get('rlp-ema'), seed, checkpointEvery: 0, ...settings };
      return job(`ablations/${name}/${seed}`, rlp, context, all, data.heldOut);
    }),
  ),
);

const thinker = join(out, 'jobs', 'arms', 'rlp-ema', String(scale.seeds[0]));
await writeReport(join(out, 'report'), {
  ...{ scale, context, base, rates: best },
  results: new Map([...sweep, ...arms, ...ablations]),
  thoughts: await compareThoughts(baseThoughts, join(thinker, `thoughts-${scale.steps}.arrow`), 3),
  machine: `${availableParallelism()} threads of ${cpus()[0].model.trim()}`,
  minutes: (performance.now() - start) / 60_000,
});
console.log(`\nafter ${elapsed()}: ${join(out, 'report', 'reproduction.md')} and .html`);

/** Mean over the families of the better of thinking and not thinking. */
function worth({ families }: Evaluation): number {
  const scores = Object.values(families).map(({ thinking, direct }) => Math.max(thinking, direct));
  return scores.reduce((a, b) => a + b, 0) / scores.length;
}

function last(result: JobResult | undefined): Evaluation {
  const point = result?.curve.at(-1);
  if (point === undefined) throw new Error('a run without an evaluation');
  return point.evaluation;
}

/** Raw text of all families: to train on, to choose learning rates on, and held out. */
async function writeData(folder: string, { documents, heldOut }: Scale) {
  await mkdir(folder, { recursive: true });
  const write = async (name: string, seed: number, count: number, split: Split) => {
    const rows = FAMILIES.flatMap((family) => rawDocuments(seed, family, count, split));
    const file = join(folder, `${name}.jsonl`);
    await writeFile(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return { file, meanTokens: rows.reduce((sum, { text }) => sum + text.length, 0) / rows.length };
  };
  const train = await write('train', 1, documents, 'train');
  const validation = await write('validation', 2, heldOut, 'held-out');
  const test = await write('held-out', 3, heldOut, 'held-out');
  return { train: train.file, validation: validation.file, heldOut: test.file, meanTokens: train.meanTokens };
}
