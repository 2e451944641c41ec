import { DECLARED } from './declared.ts';
import { type Family, OPEN, SETTLED } from './families.ts';
import type { PostTraining } from './variants.ts';

/** How much of the experiment is run. */
export interface Scale {
  /** Names of the arms that are run (arms.ts). */
  arms: readonly string[];
  seeds: readonly number[];
  /** Arms that take long, and the number of seeds that they have. */
  fewerSeeds: Readonly<Record<string, number>>;
  /** Optimizer steps of RLP after which the arms are compared. */
  steps: number;
  /** Every arm runs on for this many times `steps`. */
  stability: number;
  /** Where an arm is evaluated, in `steps`, ascending; the first is 1, the last `stability`. */
  points: readonly number[];
  learningRates: LearningRates;
  /** Variants (variants.ts) are run with the first so many seeds. */
  ablationSeeds: number;
  stabilitySeeds: number;
  /** Stability variants that take long, with fewer seeds. */
  fewerStabilitySeeds: Readonly<Record<string, number>>;
  /** Questions a family that are held out. */
  heldOut: number;
  /** Raw documents a family to train on. */
  documents: number;
  /** Held-out documents that are thought about at every position. */
  everyPosition: number;
  postTraining: PostTraining;
}

/** What every arm may choose from, on validation questions, with one seed. */
export interface LearningRates {
  /** Tried by all, ascending; if there is one, there is nothing to choose. */
  tried: readonly number[];
  /** Tried too where the lowest, or the highest, of these is the best. */
  below?: number;
  above?: number;
}

const SEEDS = DECLARED.trainingSeeds;
const RATES: LearningRates = { tried: [3e-5, 1e-4, 3e-4], below: 1e-5, above: 1e-3 };

const SETTLED_FULL: Scale = {
  arms: [
    ...['cpt', 'cpt-flops', 'cpt-35x', 'cpt-answers'],
    ...['rlp-ema', 'rlp-frozen', 'rlp-uniform', 'rpt', 'rpt-entropy', 'best-of-group'],
  ],
  seeds: SEEDS.slice(0, 5),
  fewerSeeds: { 'cpt-35x': 2, 'rlp-frozen': 1 },
  steps: DECLARED.comparisonSteps.settled,
  stability: DECLARED.stability,
  points: [1, 4, 10],
  learningRates: RATES,
  ablationSeeds: 3,
  stabilitySeeds: 2,
  fewerStabilitySeeds: { 'rate-0.001': 1, kl: 1, 'next-token': 1 },
  heldOut: 192,
  documents: 6000,
  everyPosition: 24,
  postTraining: {
    ...{ arms: ['cpt', 'cpt-flops', 'rlp-ema'], sftSteps: 20, rlvrSteps: 30 },
    ...{ longSeeds: 2, longFactor: 5, longArms: ['cpt-flops', 'rlp-ema'] },
  },
};

const NO_POST_TRAINING: PostTraining = {
  ...{ arms: [], sftSteps: 0, rlvrSteps: 0, longSeeds: 0, longFactor: 1, longArms: [] },
};

const OPEN_FULL: Scale = {
  ...SETTLED_FULL,
  arms: ['cpt', 'cpt-flops', 'cpt-35x', 'rlp-ema', 'rlp-uniform', 'rpt', 'rpt-entropy', 'best-of-group'],
  seeds: SEEDS,
  fewerSeeds: { 'cpt-35x': 2, 'rlp-uniform': 5, 'rpt-entropy': 5 },
  steps: DECLARED.comparisonSteps.open,
  ablationSeeds: 0,
  stabilitySeeds: 3,
  fewerStabilitySeeds: {},
  everyPosition: 0,
  postTraining: NO_POST_TRAINING,
};

/** The comparison alone, with one learning rate for all arms. */
const quick = (full: Scale, arms: readonly string[], learningRate: number): Scale => ({
  ...full,
  ...{ arms, seeds: SEEDS.slice(0, 5), fewerSeeds: {}, stability: 1, points: [1] },
  learningRates: { tried: [learningRate] },
  ...{ ablationSeeds: 0, stabilitySeeds: 0, heldOut: 96, everyPosition: 0 },
});

const SETTLED_QUICK: Scale = {
  ...quick(SETTLED_FULL, ['cpt', 'cpt-flops', 'rlp-ema', 'rlp-uniform', 'rpt', 'best-of-group'], 1e-4),
  postTraining: {
    ...SETTLED_FULL.postTraining,
    ...{ arms: ['cpt', 'rlp-ema'], rlvrSteps: 15, longSeeds: 0 },
  },
};
const OPEN_QUICK = quick(OPEN_FULL, ['cpt', 'rlp-ema', 'rpt'], 3e-4);

/** A minute of everything, to see that it works: its numbers say nothing. */
const tiny = (full: Scale, arms: readonly string[]): Scale => ({
  ...full,
  ...{ arms, seeds: SEEDS.slice(0, 2), fewerSeeds: {}, steps: 2, stability: 2, points: [1, 2] },
  ...{ ablationSeeds: 0, stabilitySeeds: 0, heldOut: 4, documents: 100, everyPosition: 0 },
  learningRates: { tried: [1e-4] },
  postTraining: NO_POST_TRAINING,
});

const SETTLED_TINY: Scale = {
  ...tiny(SETTLED_FULL, ['cpt', 'rlp-ema', 'rpt']),
  everyPosition: 1,
  postTraining: {
    ...{ arms: ['rlp-ema'], sftSteps: 1, rlvrSteps: 1, longSeeds: 1, longFactor: 2, longArms: ['rlp-ema'] },
  },
};

/** A text, the base model that has read it with thoughts, and what is run on it. */
export interface Study {
  name: 'settled' | 'open';
  title: string;
  /** What it asks, for the report: nothing of what comes out. */
  question: string;
  /** What is fair and what is not, for the report: nothing of what comes out. */
  fairness: string;
  families: readonly Family[];
  /** Of the base model (base.ts): documents to read, and steps. */
  baseRecipe: { documents: number; steps: number };
  scales: Readonly<Record<ScaleName, Scale>>;
}

export type ScaleName = 'full' | 'quick' | 'tiny';

export const STUDIES: readonly Study[] = [
  {
    name: 'settled',
    title: 'Where a thought settles the answer',
    question: 'After the right thought there is one answer, and nothing else that a thought could be paid for.',
    fairness:
      "RLP's positions are those of the answers where nothing else is said: it is told where thinking may pay, and plain next-token " +
      'training is not. Arms that are told nothing show what that is worth, and so does next-token training on the answers alone. RPT is paid by the ' +
      "very thing that is measured here, a sampled answer that is exact; its gradient goes through the answer as well as the thought, RLP's " +
      "through the thought alone, and its advantages are divided by the group's deviation, RLP's are not. The base model has seen thoughts of " +
      'mixed quality before four of five answers. The corpora are made by templates, the diary too.',
    families: SETTLED,
    baseRecipe: { documents: 500_000, steps: 10_000 },
    scales: { full: SETTLED_FULL, quick: SETTLED_QUICK, tiny: SETTLED_TINY },
  },
  {
    name: 'open',
    title: 'Where a thought leaves the answer open',
    question:
      'In natural text the best thought narrows what comes next and does not settle it. Here it leaves ten letters of fifty, so that an exact answer ' +
      'is sampled one time in ten at best, and RPT, which pays for nothing else, is paid by chance, also for the right thought. RLP is paid by ' +
      'the probability of what came, which the right thought raises whenever it stands there.',
    fairness:
      'This text was made to tell the two rewards apart, after RPT had come out ahead of RLP on an earlier run of the text in which one answer is ' +
      'right; its families and its number of steps were chosen by trials. RLP and RPT are both told where to think, but for the arms that are told ' +
      'nothing.',
    families: OPEN,
    baseRecipe: { documents: 600_000, steps: 8_000 },
    scales: { full: OPEN_FULL, quick: OPEN_QUICK, tiny: tiny(OPEN_FULL, ['rlp-ema']) },
  },
];

/** The seeds that an arm has. */
export const seedsOf = ({ seeds, fewerSeeds }: Scale, arm: string): readonly number[] =>
  seeds.slice(0, fewerSeeds[arm] ?? seeds.length);

/** The seeds that a stability variant has. */
export const stabilitySeedsOf = ({ seeds, stabilitySeeds, fewerStabilitySeeds }: Scale, variant: string) =>
  seeds.slice(0, Math.min(stabilitySeeds, fewerStabilitySeeds[variant] ?? seeds.length));
