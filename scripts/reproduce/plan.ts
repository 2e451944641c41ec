import { type Family, OPEN, SETTLED } from './families.ts';

/** How much of the experiment is run. */
export interface Scale {
  /** Names of the arms that are run. */
  arms: readonly string[];
  seeds: readonly number[];
  /** Steps at which RLP has gained most; arms are compared there. */
  steps: number;
  /** Every arm runs on for this many times `steps`. */
  stability: number;
  /** Questions a family that are held out. */
  heldOut: number;
  /** Raw documents a family to train on. */
  documents: number;
  /** Learning rates that every arm may choose from, on validation questions, with one seed. */
  learningRates: readonly number[];
  /** Steps of RLP after which it chooses. */
  sweepSteps: number;
  /** Evaluations within `steps`. */
  points: number;
  ablationSeeds: readonly number[];
  stabilitySeeds: readonly number[];
  postTraining: PostTraining;
}

/** The same for every checkpoint that it is done to: SFT on right thoughts, then RLVR on the answers alone. */
export interface PostTraining {
  /** Arms whose last checkpoint is post-trained, beside the base. */
  arms: readonly string[];
  sftSteps: number;
  rlvrSteps: number;
}

const SETTLED_FULL: Scale = {
  arms: [
    ...['cpt', 'cpt-flops', 'cpt-35x', 'cpt-answers'],
    ...['rlp-ema', 'rlp-frozen', 'rlp-uniform', 'rpt', 'rpt-entropy', 'best-of-group'],
  ],
  seeds: [1, 2, 3, 4, 5],
  steps: 40,
  stability: 10,
  heldOut: 96,
  documents: 4000,
  learningRates: [3e-5, 1e-4, 3e-4],
  sweepSteps: 400,
  points: 1,
  ablationSeeds: [1, 2],
  stabilitySeeds: [1],
  postTraining: { arms: ['cpt', 'cpt-flops', 'rlp-ema'], sftSteps: 20, rlvrSteps: 30 },
};

const SETTLED_QUICK: Scale = {
  ...SETTLED_FULL,
  arms: ['cpt', 'cpt-flops', 'cpt-answers', 'rlp-ema', 'rlp-uniform', 'rpt', 'best-of-group'],
  stability: 1,
  heldOut: 48,
  learningRates: [1e-4],
  sweepSteps: 40,
  ablationSeeds: [],
  stabilitySeeds: [],
  postTraining: { arms: ['cpt', 'rlp-ema'], sftSteps: 20, rlvrSteps: 15 },
};

const OPEN_FULL: Scale = {
  ...SETTLED_FULL,
  arms: ['cpt', 'cpt-flops', 'rlp-ema', 'rpt', 'best-of-group'],
  seeds: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10],
  steps: 10,
  sweepSteps: 10,
  ablationSeeds: [],
  stabilitySeeds: [],
  postTraining: { ...SETTLED_FULL.postTraining, arms: [] },
};

const OPEN_QUICK: Scale = {
  ...OPEN_FULL,
  arms: ['cpt', 'rlp-ema', 'rpt'],
  seeds: SETTLED_FULL.seeds,
  ...{ stability: 1, heldOut: 48, learningRates: [3e-4] },
};

/** A text, the base model that has read it with thoughts, and what is run on it. */
export interface Study {
  name: string;
  title: string;
  /** What it asks, for the report. */
  question: string;
  /** What is fair and what is not, for the report. */
  fairness: string;
  families: readonly Family[];
  /** Of the base model (base.ts): documents to read, and steps. */
  baseRecipe: { documents: number; steps: number };
  quick: Scale;
  full: Scale;
}

export const STUDIES: readonly Study[] = [
  {
    name: 'settled',
    title: 'Where a thought settles the answer',
    question: 'After the right thought there is one answer, and nothing else that a thought could be paid for.',
    fairness:
      "RLP's positions are those of the answers where nothing else is said: it is told where thinking may pay, and plain next-token " +
      'training is not. Two arms show what that is worth: RLP at one uniform position a document, as in the paper, and next-token ' +
      'training on the answers alone. RPT is paid by the very thing that is measured here, a sampled answer that is exact; its ' +
      "gradient goes through the answer as well as the thought, RLP's through the thought alone, and its advantages are divided by " +
      "the group's deviation, RLP's are not. The base model has seen thoughts of mixed quality before four of five answers; of the family " +
      'words it did not learn them, so there RLP has nothing to strengthen.',
    families: SETTLED,
    baseRecipe: { documents: 500_000, steps: 10_000 },
    quick: SETTLED_QUICK,
    full: SETTLED_FULL,
  },
  {
    name: 'open',
    title: 'Where a thought leaves the answer open',
    question:
      'In natural text the best thought narrows what comes next and does not settle it. Here it leaves ten letters of fifty, so that an exact answer ' +
      'is sampled one time in ten at best, and RPT, which pays for nothing else, is paid by chance, also for the right thought. RLP is paid by ' +
      'the probability of what came, which the right thought raises whenever it stands there.',
    fairness:
      'This text was made to tell the two rewards apart, after RPT had come out ahead on the text in which one answer is right; the other text is ' +
      'as it was. The families and the number of steps were chosen by trials, before most arms come near to the ceiling. RLP and RPT are both told ' +
      'where to think. Run on, both come near to the ceiling: what RLP gains here is speed.',
    families: OPEN,
    baseRecipe: { documents: 600_000, steps: 8_000 },
    quick: OPEN_QUICK,
    full: OPEN_FULL,
  },
];

/** Documents a step, thoughts a position, tokens a thought: the same for every arm that thinks. */
export const DOCUMENTS_PER_STEP = 16;
export const GROUP_SIZE = 8;
export const MAX_THOUGHT_TOKENS = 10;

/** An arm of the comparison: what is done to the base checkpoint with the raw text. */
export interface Arm {
  name: string;
  label: string;
  /** Ends at the comparison, without running on. */
  short?: true;
  /** Takes the learning rate that this arm chose instead of a sweep of its own. */
  rateOf?: string;
  /** What it reads: raw documents, if nothing else is said. */
  data?: keyof TrainingData;
  /** Settings of `rlp-ort train`. */
  settings: (context: ArmContext) => Record<string, unknown>;
}

/** Files of one JSON object a line. */
export interface TrainingData {
  /** Raw documents. */
  train: string;
  /** The same, split into the text before the answer, and the answer. */
  answers: string;
  /** Other questions, with right thoughts and with answers. */
  postTraining: string;
}

export interface ArmContext {
  /** Optimizer steps of an arm that thinks. */
  steps: number;
  /** Tokens that an arm that thinks reads a step, on average. */
  tokensPerStep: number;
  /** FLOP-matched tokens over input tokens. */
  flopFactor: number;
  maxThoughtTokens: number;
  /** Of the model. */
  parameters: number;
}

/**
 * What the arms have in common. FLOPs are matched by the paper's formula (arXiv 2510.01265, section on matched compute):
 * tokens of CPT = thoughts * thought length * documents * steps + input tokens.
 * @param meanTokens of a document
 */
export function armContext({ steps }: Scale, meanTokens: number, parameters: number): ArmContext {
  const tokensPerStep = DOCUMENTS_PER_STEP * meanTokens;
  const flopFactor = (GROUP_SIZE * MAX_THOUGHT_TOKENS * DOCUMENTS_PER_STEP + tokensPerStep) / tokensPerStep;
  return { steps, tokensPerStep, flopFactor, maxThoughtTokens: MAX_THOUGHT_TOKENS, parameters };
}

/**
 * FLOPs of a run as they are usually counted: 2 a parameter and token forward, 4 backward, attention left out. An arm that
 * thinks reads its text twice more forward: before it samples, and for the baseline.
 */
export function flopsOf(
  { trainedTokens, sampledTokens }: { trainedTokens: number; sampledTokens: number },
  steps: number,
  { parameters, tokensPerStep }: ArmContext,
): number {
  const forwardOnly = sampledTokens > 0 ? sampledTokens + 2 * tokensPerStep * steps : 0;
  return parameters * (6 * trainedTokens + 2 * forwardOnly);
}

const thinking = {
  documentsPerStep: DOCUMENTS_PER_STEP,
  groupSize: GROUP_SIZE,
  maxThoughtTokens: MAX_THOUGHT_TOKENS,
  temperature: 1,
  positionStrategy: 'column',
  documentsPerBatch: DOCUMENTS_PER_STEP,
};
/** Behind the thought one token is sampled: the answer. */
const answering = { schedule: 'constant', maxCompletionTokens: 1 };

const BLOCK = 128;
/** Next-token training on `factor` times the text that an arm that thinks reads, in batches of the same size. */
const cpt = (factor: (context: ArmContext) => number) => (context: ArmContext) => ({
  objective: 'cpt',
  schedule: 'constant', // as the arms of RLP have it
  blockLength: BLOCK,
  batchTokens: Math.max(1, Math.round(context.tokensPerStep / BLOCK)) * BLOCK,
  steps: Math.round(context.steps * factor(context)),
});

/** RLP as the main arm has it. */
const rlp = (options: Record<string, unknown>) => (context: ArmContext) => ({
  ...{ objective: 'rlp', steps: context.steps, ...thinking, ...options },
});

/** The model states the next token, without a box around it. */
const rpt = (options: Record<string, unknown>) => (context: ArmContext) => ({
  ...{ objective: 'rpt', steps: context.steps, ...thinking, ...answering, ...options, prediction: 'text' },
});

const supervised = { objective: 'sft', schedule: 'constant', documentsPerStep: DOCUMENTS_PER_STEP };

/** In the order of the report. */
const ALL_ARMS: readonly Arm[] = [
  { name: 'cpt', label: 'CPT, same input tokens', settings: cpt(() => 1) },
  { name: 'cpt-flops', label: 'CPT, same FLOPs', settings: cpt(({ flopFactor }) => flopFactor) },
  {
    ...{ name: 'cpt-35x', label: 'CPT, 35x the input tokens', short: true, rateOf: 'cpt-flops' },
    settings: cpt(() => 35),
  },
  {
    ...{ name: 'cpt-answers', label: 'next-token training on the answers alone', data: 'answers' },
    settings: ({ steps }) => ({ ...supervised, steps }),
  },
  { name: 'rlp-ema', label: 'RLP, EMA baseline', settings: rlp({ baseline: 'ema' }) },
  {
    ...{ name: 'rlp-frozen', label: 'RLP, frozen baseline', rateOf: 'rlp-ema' },
    settings: rlp({ baseline: 'frozen' }),
  },
  {
    ...{ name: 'rlp-uniform', label: 'RLP, EMA baseline, one uniform position a document', rateOf: 'rlp-ema' },
    settings: rlp({ baseline: 'ema', positionStrategy: 'uniform' }),
  },
  // Told where, as RLP is.
  { name: 'rpt', label: 'RPT', settings: rpt({ entropyThreshold: 0 }) },
  {
    ...{
      name: 'rpt-entropy',
      label: 'RPT, one uniform position a document of at least 0.5 nats',
      rateOf: 'rpt',
    },
    settings: rpt({ entropyThreshold: 0.5, positionStrategy: 'uniform' }),
  },
  {
    ...{ name: 'best-of-group', label: 'next-token training on the best of G own thoughts' },
    settings: rlp({ thoughtLoss: 'best-of-group' }),
  },
];

export const armsOf = ({ arms }: Scale): readonly Arm[] => ALL_ARMS.filter(({ name }) => arms.includes(name));

/** Something of RLP changed, the rest as in the arm with the EMA baseline. */
export interface Variant {
  name: string;
  label: string;
  settings: Record<string, unknown>;
}

/** Choices of the method, compared after `steps`. */
export const ABLATIONS: readonly Variant[] = [
  ...[2, 4, 16].map((groupSize) => ({
    ...{ name: `group-${groupSize}`, label: `G = ${groupSize}`, settings: { groupSize } },
  })),
  ...[3, 5, 20].map((maxThoughtTokens) => ({
    name: `length-${maxThoughtTokens}`,
    label: `at most ${maxThoughtTokens} tokens a thought`,
    settings: { maxThoughtTokens },
  })),
  {
    ...{ name: 'scale-group', label: "advantages over the group's deviation" },
    settings: { advantageScale: 'group' },
  },
  ...[0.01, 0.1].map((klCoefficient) => ({
    name: `kl-${klCoefficient}`,
    label: `KL to the start, ${klCoefficient}`,
    settings: { klCoefficient, baseline: 'frozen' },
  })),
  ...[0.9, 0.99].map((emaDecay) => ({ name: `tau-${emaDecay}`, label: `tau = ${emaDecay}`, settings: { emaDecay } })),
];

/** Settings that may hold or collapse, run for ten times `steps`. */
export const STABILITY: readonly Variant[] = [
  ...[1e-4, 3e-4, 1e-3].map((learningRate) => ({
    ...{ name: `rate-${learningRate}`, label: `learning rate ${learningRate}`, settings: { learningRate } },
  })),
  {
    ...{ name: 'kl', label: 'learning rate 0.001, KL to the start 0.1' },
    settings: { learningRate: 1e-3, klCoefficient: 0.1, baseline: 'frozen' },
  },
  {
    ...{ name: 'next-token', label: 'learning rate 0.001, next-token loss on the document 0.1' },
    settings: { learningRate: 1e-3, nextTokenCoefficient: 0.1 },
  },
  {
    ...{ name: 'defaults', label: 'the defaults: learning rate 1e-6, uniform positions, temperature 0.7, G = 16' },
    settings: { learningRate: 1e-6, positionStrategy: 'uniform', temperature: 0.7, groupSize: 16 },
  },
];

/** What post-training does, one after the other, each from what the one before it made. */
export const POST_TRAINING_STAGES: readonly {
  name: string;
  settings: (options: PostTraining) => Record<string, unknown>;
}[] = [
  { name: 'sft', settings: ({ sftSteps }) => ({ ...supervised, steps: sftSteps, learningRate: 1e-4 }) },
  {
    name: 'rlvr',
    settings: ({ rlvrSteps }) => {
      const { positionStrategy: _text, ...sampling } = thinking; // a prompt has one position, its end
      return { objective: 'grpo', steps: rlvrSteps, learningRate: 1e-4, ...sampling, ...answering };
    },
  },
];
