import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openModel } from '../../src/model-directory.ts';
import { type Data, writeData } from './data.ts';
import { type Evaluation, evaluate } from './evaluate.ts';
import type { Job, JobResult } from './job.ts';
import {
  ABLATIONS,
  type Arm,
  type ArmContext,
  armContext,
  armsOf,
  POST_TRAINING_STAGES,
  type Scale,
  STABILITY,
  type Study,
  type Variant,
} from './plan.ts';
import { type PoolOptions, runJobs } from './pool.ts';
import type { Findings } from './report.ts';
import { compareThoughts } from './thoughts.ts';

const THOUGHTS = 4;
/** Questions of a family whose thoughts the report shows. */
const SHOWN = 3;
const RLP = 'rlp-ema';

/** The checkpoint that all arms of a study start from (base.ts). */
const baseOf = ({ name }: Study): string => fileURLToPath(new URL(`bases/${name}`, import.meta.url));

/** Runs what of a study is not done yet; its files lie in `out`. */
export async function runStudy(
  study: Study,
  scale: Scale,
  { out, onDone }: Pick<PoolOptions, 'out' | 'onDone'>,
): Promise<Findings> {
  const model = baseOf(study);
  const data = await writeData(out, study.families, scale);
  const context = armContext(scale, data.meanTokens, await parametersOf(model));
  const evaluation = { thoughts: THOUGHTS, maxThoughtTokens: context.maxThoughtTokens };
  const thoughts = join(out, 'base-thoughts.arrow');
  const base = await evaluate(model, { ...evaluation, data: data.heldOut, out: thoughts, threads: 1 });

  const results = new Map<string, JobResult>();
  const jobs = new Jobs(scale, context, data, { model, heldOut: data.heldOut, ...evaluation }, results);
  const run = async (title: string, some: readonly Job[]): Promise<void> => {
    if (some.length > 0) console.log(`\n== ${study.name}, ${title}: ${some.length} runs`);
    const options = { out: join(out, 'jobs'), processes: availableParallelism(), onDone };
    for (const [name, result] of await runJobs(some, options)) results.set(name, result);
  };
  await run('learning rates', jobs.sweep());
  const rates = jobs.bestRates();
  await run('arms', jobs.arms(rates));
  for (const stage of POST_TRAINING_STAGES.keys()) {
    await run(`post-training: ${POST_TRAINING_STAGES[stage].name}`, jobs.postTraining(stage));
  }
  await run('ablations', jobs.ablations(rates));
  await run('stability', jobs.stability(rates));

  const after = join(out, 'jobs', 'arms', RLP, String(scale.seeds[0]), `thoughts-${scale.steps}.arrow`);
  return { study, scale, context, base, rates, results, thoughts: await compareThoughts(thoughts, after, SHOWN) };
}

/** The jobs of a study, in the order in which they need each other's results. */
class Jobs {
  readonly #long: ArmContext;
  readonly #arms: readonly Arm[];
  constructor(
    readonly scale: Scale,
    readonly context: ArmContext,
    readonly data: Data,
    readonly common: Omit<Job, 'name' | 'settings'>,
    readonly results: ReadonlyMap<string, JobResult>,
  ) {
    this.#long = { ...context, steps: scale.steps * scale.stability };
    this.#arms = armsOf(scale);
  }

  /** The same small sweep of the learning rate for every arm, on questions of their own, with one seed. */
  sweep(): Job[] {
    const { learningRates, sweepSteps } = this.scale;
    if (learningRates.length === 1) return [];
    return this.#arms
      .filter(({ rateOf }) => rateOf === undefined)
      .flatMap((arm) => {
        const context = { ...this.context, steps: Math.min(sweepSteps, this.#contextOf(arm).steps) };
        return learningRates.map((learningRate) => ({
          ...this.#armJob(`sweep/${arm.name}/${learningRate}`, arm, context, { learningRate, seed: 0 }),
          heldOut: this.data.validation,
        }));
      });
  }

  /** The learning rate of every arm, by its name. */
  bestRates(): Map<string, number> {
    const [only, ...others] = this.scale.learningRates;
    return new Map(
      this.#arms.map(({ name, rateOf = name }) => {
        const score = (rate: number) => worth(this.#lastEvaluation(`sweep/${rateOf}/${rate}`));
        return [name, others.reduce((best, rate) => (score(rate) > score(best) ? rate : best), only)];
      }),
    );
  }

  /** Every arm, every seed. */
  arms(rates: ReadonlyMap<string, number>): Job[] {
    const { seeds, stability, points } = this.scale;
    return seeds.flatMap((seed) =>
      this.#arms.map((arm) => {
        const context = this.#contextOf(arm);
        const evaluations = (arm.short ? 1 : stability) * points;
        const checkpointEvery = Math.ceil(Number(arm.settings(context).steps) / evaluations);
        const settings = { learningRate: rates.get(arm.name), seed, checkpointEvery };
        return this.#armJob(`arms/${arm.name}/${seed}`, arm, context, settings);
      }),
    );
  }

  /** One stage of the identical post-training of the base and of what some arms made of it. */
  postTraining(stage: number): Job[] {
    const { seeds, postTraining } = this.scale;
    if (postTraining.arms.length === 0) return [];
    const { name, settings } = POST_TRAINING_STAGES[stage];
    const startOf = (arm: string, seed: number): string => {
      if (stage > 0) return this.#result(jobName(POST_TRAINING_STAGES[stage - 1].name, arm, seed)).checkpoint;
      return arm === 'base' ? this.common.model : this.#result(`arms/${arm}/${seed}`).checkpoint;
    };
    return seeds.flatMap((seed) =>
      ['base', ...postTraining.arms].map((arm) => ({
        ...this.#job(jobName(name, arm, seed), { data: [this.data.postTraining], seed, ...settings(postTraining) }),
        model: startOf(arm, seed),
      })),
    );
  }

  /** What the choices of the method do. */
  ablations(rates: ReadonlyMap<string, number>): Job[] {
    return this.#variants('ablations', ABLATIONS, this.scale.ablationSeeds, this.context, rates, 0);
  }

  /** Which settings hold for all steps. */
  stability(rates: ReadonlyMap<string, number>): Job[] {
    const { stabilitySeeds, stability } = this.scale;
    const every = Math.ceil(this.#long.steps / stability);
    return this.#variants('stability', STABILITY, stabilitySeeds, this.#long, rates, every);
  }

  #variants(
    folder: string,
    variants: readonly Variant[],
    seeds: readonly number[],
    context: ArmContext,
    rates: ReadonlyMap<string, number>,
    checkpointEvery: number,
  ): Job[] {
    const rlp = this.#arms.find(({ name }) => name === RLP) as Arm; // in every scale
    return variants.flatMap(({ name, settings }) =>
      seeds.map((seed) => {
        const shared = { learningRate: rates.get(RLP), seed, checkpointEvery };
        return this.#armJob(`${folder}/${name}/${seed}`, rlp, context, { ...shared, ...settings });
      }),
    );
  }

  /** An arm runs for all steps, or ends where the arms are compared. */
  #contextOf(arm: Arm): ArmContext {
    return arm.short ? this.context : this.#long;
  }

  #armJob(name: string, arm: Arm, context: ArmContext, settings: Record<string, unknown>): Job {
    return this.#job(name, { data: [this.data[arm.data ?? 'train']], ...arm.settings(context), ...settings });
  }

  #job(name: string, settings: Record<string, unknown>): Job {
    return { name, ...this.common, settings: { data: [this.data.train], checkpointEvery: 0, ...settings } };
  }

  #result(name: string): JobResult {
    const result = this.results.get(name);
    if (result === undefined) throw new Error(`no result of ${name}`);
    return result;
  }

  #lastEvaluation(name: string): Evaluation {
    const point = this.#result(name).curve.at(-1);
    if (point === undefined) throw new Error(`${name}: a run without an evaluation`);
    return point.evaluation;
  }
}

const jobName = (stage: string, arm: string, seed: number) => `post-training/${stage}/${arm}/${seed}`;

async function parametersOf(model: string): Promise<number> {
  const weights = [...(await (await openModel(model)).loadWeights()).values()];
  return weights.reduce((sum, { data }) => sum + data.length, 0);
}

/** Mean over the families of the better of thinking and not thinking. */
function worth({ families }: Evaluation): number {
  const scores = Object.values(families).map(({ thinking, direct }) => Math.max(thinking, direct));
  return scores.reduce((a, b) => a + b, 0) / scores.length;
}
