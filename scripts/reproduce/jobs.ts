import {
  type Arm,
  type ArmContext,
  armNamed,
  DOCUMENTS_PER_STEP,
  MAX_THOUGHT_TOKENS,
  RLP,
  RLP_UNIFORM,
  stepsOf,
} from './arms.ts';
import type { Data } from './data.ts';
import { DECLARED } from './declared.ts';
import type { Job, JobResult } from './job.ts';
import { type Scale, seedsOf, stabilitySeedsOf } from './plan.ts';
import { mean } from './statistics.ts';
import { ABLATIONS, POST_TRAINING_RATE, POST_TRAINING_STAGES, STABILITY, type Variant } from './variants.ts';

/** Thoughts a question in an evaluation. */
export const THOUGHTS = 2;
/** Where learning rates are chosen, in comparison steps, for arms that are not swept at the comparison. */
export const SWEEP_POINT = 4;

export interface JobsInput {
  scale: Scale;
  context: ArmContext;
  data: Data;
  /** Folder of the base checkpoint. */
  base: string;
  /** SHA-256 of the code, of the text, and of the base's weights. */
  hashes: { code: string; data: string; base: string };
  /** Of jobs that are done, by name; grows while the study runs. */
  results: ReadonlyMap<string, JobResult>;
}

/** The jobs of a study. Those that need others' results can be listed before, for their number and length. */
export class StudyJobs {
  readonly #input: JobsInput;
  readonly #arms: readonly Arm[];

  constructor(input: JobsInput) {
    this.#input = input;
    this.#arms = input.scale.arms.map(armNamed);
  }

  /** The next runs of the sweep of the learning rate, the same for every arm; none when every arm has chosen. */
  sweep(): Job[] {
    const { scale, data } = this.#input;
    if (scale.learningRates.tried.length === 1) return [];
    return this.#arms
      .filter(({ sameAs }) => sameAs === undefined)
      .flatMap((arm) => {
        const point = arm.shortSweep ? 1 : Math.min(SWEEP_POINT, scale.stability);
        const steps = this.#stepsOf(arm) * point;
        return this.#untried(arm.name).map((learningRate) => ({
          ...this.#armJob(`sweep/${arm.name}/${learningRate}`, arm, [steps], {
            learningRate,
            seed: DECLARED.sweepSeed,
          }),
          heldOut: data.files.validation,
        }));
      });
  }

  /** Rates that an arm has not tried and should: all at first, then one beyond an edge that is the best. */
  #untried(arm: string): number[] {
    const { tried, below, above } = this.#input.scale.learningRates;
    const scores = this.sweepScores(arm);
    if (scores.length === 0) return [...tried];
    const best = bestRate(scores);
    const next = [...(best === tried[0] ? [below] : []), ...(best === tried.at(-1) ? [above] : [])];
    return next.filter((rate) => rate !== undefined).filter((rate) => !scores.some((score) => score.rate === rate));
  }

  /** What an arm's runs of the sweep came to, by ascending rate. */
  sweepScores(arm: string): SweepScore[] {
    const { tried, below, above } = this.#input.scale.learningRates;
    return [below, ...tried, above].flatMap((rate) => {
      const result = this.#input.results.get(`sweep/${arm}/${rate}`);
      return rate === undefined || result === undefined ? [] : [{ rate, worth: worthOf(result) }];
    });
  }

  /** The learning rate that an arm chose; before it has, or without a choice, the middle one. */
  rateOf(name: string): number {
    const { sameAs = name } = armNamed(name);
    const scores = this.sweepScores(sameAs);
    const { tried } = this.#input.scale.learningRates;
    return scores.length > 0 ? bestRate(scores) : tried[tried.length >> 1];
  }

  /** Every arm, every seed. */
  arms(): Job[] {
    const { scale, data } = this.#input;
    const { postTraining, everyPosition } = scale;
    return this.#arms.flatMap((arm) =>
      seedsOf(scale, arm.name).map((seed) => {
        const evaluateAt = scale.points.map((point) => point * this.#stepsOf(arm));
        const thinksEverywhere = everyPosition > 0 && (arm.name === RLP || arm.name === RLP_UNIFORM);
        return {
          ...this.#armJob(armJobName(arm.name, seed), arm, evaluateAt, { learningRate: this.rateOf(arm.name), seed }),
          ...(thinksEverywhere && { everyPosition: data.files.everyPosition }),
          keepCheckpoint: postTraining.arms.includes(arm.name),
        };
      }),
    );
  }

  /** One stage of the identical post-training of the base and of what some arms made of it. */
  postTraining(stage: number): Job[] {
    const { scale, data } = this.#input;
    const { postTraining } = scale;
    if (postTraining.arms.length === 0) return [];
    const { name, settings } = POST_TRAINING_STAGES[stage];
    return ['base', ...postTraining.arms].flatMap((arm) =>
      seedsOf(scale, arm).map((seed, i) => {
        const before =
          stage > 0 ? postTrainingName(POST_TRAINING_STAGES[stage - 1].name, arm, seed) : armJobName(arm, seed);
        const { sftSteps, rlvrSteps, longSeeds, longFactor, longArms } = postTraining;
        const goesOn = i < longSeeds && (arm === 'base' || longArms.includes(arm));
        const evaluateAt = name === 'sft' ? [sftSteps] : [rlvrSteps, ...(goesOn ? [longFactor * rlvrSteps] : [])];
        return {
          ...this.#job(postTrainingName(name, arm, seed), evaluateAt, {
            ...{ data: [data.files.postTraining], seed, learningRate: POST_TRAINING_RATE, ...settings },
          }),
          ...(stage === 0 && arm === 'base' ? {} : this.#startAt(before)),
          keepCheckpoint: stage < POST_TRAINING_STAGES.length - 1,
        };
      }),
    );
  }

  /** What the choices of the method do. */
  ablations(): Job[] {
    const { seeds, ablationSeeds } = this.#input.scale;
    return ABLATIONS.flatMap((variant) =>
      seeds.slice(0, ablationSeeds).map((seed) => this.#variant('ablations', variant, seed, [1])),
    );
  }

  /** Which settings hold to the end. */
  stability(): Job[] {
    const { scale } = this.#input;
    return STABILITY.flatMap((variant) =>
      stabilitySeedsOf(scale, variant.name).map((seed) => this.#variant('stability', variant, seed, scale.points)),
    );
  }

  #variant(folder: string, { name, settings, rateOf = RLP }: Variant, seed: number, points: readonly number[]): Job {
    const rlp = armNamed(RLP);
    const evaluateAt = points.map((point) => point * this.#stepsOf(rlp));
    const { maxThoughtTokens = MAX_THOUGHT_TOKENS } = settings as { maxThoughtTokens?: number };
    return {
      ...this.#armJob(`${folder}/${name}/${seed}`, rlp, evaluateAt, {
        ...{ learningRate: this.rateOf(rateOf), seed, ...settings },
      }),
      maxThoughtTokens,
    };
  }

  /** Steps of an arm up to the comparison. */
  #stepsOf(arm: Arm): number {
    return stepsOf(arm, this.#input.scale.steps, this.#input.context);
  }

  #armJob(name: string, arm: Arm, evaluateAt: readonly number[], settings: Record<string, unknown>): Job {
    const data = [this.#input.data.files[arm.data ?? 'train']];
    return this.#job(name, evaluateAt, { data, ...arm.settings, ...settings });
  }

  #job(name: string, evaluateAt: readonly number[], settings: Record<string, unknown>): Job {
    const { base, data, hashes } = this.#input;
    return {
      ...{ name, model: base, settings: { ...settings, steps: evaluateAt[evaluateAt.length - 1] }, evaluateAt },
      ...{ heldOut: data.files.heldOut, thoughts: THOUGHTS, maxThoughtTokens: MAX_THOUGHT_TOKENS },
      ...{ keepCheckpoint: false, made: { code: hashes.code, data: hashes.data, start: hashes.base } },
    };
  }

  /** Goes on from the checkpoint of another job; if that is not done yet, from nowhere. */
  #startAt(job: string): Pick<Job, 'model' | 'made'> {
    const { results, hashes } = this.#input;
    const result = results.get(job);
    const { code, data } = hashes;
    return {
      model: result?.checkpoint ?? '',
      made: { code, data, start: result?.curve.at(-1)?.weights ?? '' },
    };
  }
}

/** A run of the sweep. */
export interface SweepScore {
  rate: number;
  /** Mean over the families of the better of thinking and not thinking. */
  worth: number;
}

export const armJobName = (arm: string, seed: number) => `arms/${arm}/${seed}`;
export const postTrainingName = (stage: string, arm: string, seed: number) => `post-training/${stage}/${arm}/${seed}`;

/** Documents a family that an arm of the given length reads at most once. */
export const documentsFor = (steps: number, families: number): number =>
  Math.ceil((steps * DOCUMENTS_PER_STEP) / families);

const bestRate = (scores: readonly SweepScore[]): number =>
  scores.reduce((best, score) => (score.worth > best.worth ? score : best)).rate;

/** Training that diverged is worth nothing. */
function worthOf({ curve, diverged }: JobResult): number {
  const point = curve.at(-1);
  if (point === undefined || diverged !== undefined) return 0;
  const scores = Object.values(point.evaluation.families).map(({ thinking, direct }) => Math.max(thinking, direct));
  return mean(scores);
}
