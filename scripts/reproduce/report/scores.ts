import { type Arm, armNamed } from '../arms.ts';
import { type Difference, pairedBootstrap } from '../bootstrap.ts';
import type { Evaluation, FamilyScore } from '../evaluate.ts';
import type { CurvePoint, JobResult } from '../job.ts';
import { armJobName, postTrainingName } from '../jobs.ts';
import { seedsOf } from '../plan.ts';
import { type Estimate, estimate, isAbove, mean } from '../statistics.ts';
import type { Findings } from '../study.ts';
import { POST_TRAINING_STAGES } from '../variants.ts';

/** Evaluations of something by its seed. */
export type BySeed = ReadonlyMap<number, Evaluation>;

/** Figures of a family that are one number. */
export type Figure = Exclude<keyof FamilyScore, 'questions'>;

export const armsOf = ({ scale }: Findings): readonly Arm[] => scale.arms.map(armNamed);
export const has = ({ scale }: Findings, arm: string): boolean => scale.arms.includes(arm);

/** Results of jobs FOLDER/SEED, by seed. */
export function runsOf({ scale, results }: Findings, folder: string): Map<number, JobResult> {
  const runs = scale.seeds.map((seed) => [seed, results.get(`${folder}/${seed}`)] as const);
  return new Map(runs.filter((run): run is readonly [number, JobResult] => run[1] !== undefined));
}

/** What an arm's seeds have come to after `point` comparison steps. */
export function pointsOf(findings: Findings, arm: string, point: number): Map<number, CurvePoint> {
  const { scale, results } = findings;
  const index = scale.points.indexOf(point);
  return new Map(
    seedsOf(scale, arm).map((seed) => {
      const found = results.get(armJobName(arm, seed))?.curve[index];
      if (found === undefined)
        throw new Error(`arm ${arm}, seed ${seed}: no evaluation after ${point} times the steps`);
      return [seed, found];
    }),
  );
}

export const evaluationsOf = (points: ReadonlyMap<number, Pick<CurvePoint, 'evaluation'>>): BySeed =>
  new Map([...points].map(([seed, { evaluation }]) => [seed, evaluation]));

export const at = (findings: Findings, arm: string, point: number): BySeed =>
  evaluationsOf(pointsOf(findings, arm, point));

/** After a stage of post-training; `long`: the seeds that went on, at their end. */
export function postTrained({ scale, results }: Findings, stage: string, arm: string, long = false): BySeed {
  const seeds = scale.seeds.flatMap((seed) => {
    const curve = results.get(postTrainingName(stage, arm, seed))?.curve ?? [];
    const point = long ? curve[1] : curve[0];
    return point === undefined ? [] : [[seed, point.evaluation] as const];
  });
  return new Map(seeds);
}
export const LAST_STAGE = POST_TRAINING_STAGES[POST_TRAINING_STAGES.length - 1].name;

/** A figure of a family over the seeds. */
export const of = (evaluations: BySeed, family: string, figure: Figure): Estimate =>
  estimate([...evaluations.values()].map(({ families }) => families[family][figure]));
/** Mean over the families, an estimate over the seeds. */
export const overall = (evaluations: BySeed, figure: Figure): Estimate =>
  estimate([...evaluations.values()].map((evaluation) => meanOver(evaluation, figure)));
export const meanOver = ({ families }: Evaluation, figure: Figure): number =>
  mean(Object.values(families).map((scores) => scores[figure]));

/** Of one model: over the questions of a family. */
export const overQuestions = ({ families }: Evaluation, family: string): Estimate =>
  estimate(families[family].questions);
/** The mean over the families, whose questions are independent. */
export function overAllQuestions(evaluation: Evaluation): Estimate {
  const families = Object.keys(evaluation.families).map((family) => overQuestions(evaluation, family));
  const variance = families.reduce((sum, { halfWidth }) => sum + halfWidth ** 2, 0);
  return { mean: mean(families.map((family) => family.mean)), halfWidth: Math.sqrt(variance) / families.length };
}

/** Whether something is better than something else, by exact answers with a thought. */
export interface Comparison {
  ours: Estimate;
  theirs: Estimate;
  /** Of the seeds that both have. */
  difference: Difference;
  verdict: Verdict;
}
export type Verdict = 'above' | 'not apart' | 'below';
export const VERDICTS: readonly Verdict[] = ['above', 'not apart', 'below'];

/**
 * Above, or below, if both say so: the 95% t intervals over the seeds do not overlap, and the bootstrap interval of the paired
 * difference over questions and seeds is on one side of 0.
 * @param theirs by seed, or one model that all seeds are compared with
 */
export function compare(ours: BySeed, theirs: BySeed | Evaluation, family: string): Comparison {
  const single = !(theirs instanceof Map);
  const others: BySeed = theirs instanceof Map ? theirs : new Map([[0, theirs as Evaluation]]);
  const seeds = [...ours.keys()].filter((seed) => single || others.has(seed));
  const questions = (evaluations: BySeed, keys: readonly number[]) =>
    keys.map((seed) => evaluations.get(seed)?.families[family].questions ?? []);
  const a = of(ours, family, 'thinking');
  const b = single ? { ...of(others, family, 'thinking'), halfWidth: 0 } : of(others, family, 'thinking');
  const difference = pairedBootstrap(questions(ours, seeds), questions(others, single ? [0] : seeds));
  const verdict =
    isAbove(a, b) && difference.low > 0 ? 'above' : isAbove(b, a) && difference.high < 0 ? 'below' : 'not apart';
  return { ours: a, theirs: b, difference, verdict };
}
