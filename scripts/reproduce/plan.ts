/** How much of the experiment is run. */
export interface Scale {
  name: 'quick' | 'full';
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
  /** Evaluations within `steps`. */
  points: number;
  ablationSeeds: readonly number[];
}

export const FULL: Scale = {
  name: 'full',
  seeds: [1, 2, 3, 4, 5],
  steps: 100,
  stability: 10,
  heldOut: 96,
  documents: 4000,
  learningRates: [3e-5, 1e-4, 3e-4],
  points: 1,
  ablationSeeds: [1, 2],
};

export const QUICK: Scale = {
  ...FULL,
  name: 'quick',
  steps: 40,
  stability: 1,
  heldOut: 64,
  learningRates: [1e-4],
  ablationSeeds: [],
};

/** Documents a step, thoughts a position, tokens a thought: the same for every arm that thinks. */
export const DOCUMENTS_PER_STEP = 16;
export const GROUP_SIZE = 8;
export const MAX_THOUGHT_TOKENS = 10;

/** An arm of the comparison: what is done to the base checkpoint with the raw text. */
export interface Arm {
  name: string;
  label: string;
  /** Takes too long for the quick scale. */
  slow?: true;
  /** Ends at the comparison, without running on. */
  short?: true;
  /** Takes the learning rate that this arm chose instead of a sweep of its own. */
  rateOf?: string;
  /** Settings of `rlp-ort train`. */
  settings: (context: ArmContext) => Record<string, unknown>;
}

export interface ArmContext {
  /** Optimizer steps of an arm that thinks. */
  steps: number;
  /** Tokens that an arm that thinks reads a step, on average. */
  tokensPerStep: number;
  /** FLOP-matched tokens over input tokens. */
  flopFactor: number;
  maxThoughtTokens: number;
}

/**
 * What the arms have in common. FLOPs are matched by the paper's formula (arXiv 2510.01265, section on matched compute):
 * tokens of CPT = thoughts * thought length * documents * steps + input tokens.
 * @param meanTokens of a document
 */
export function armContext({ steps }: Scale, meanTokens: number): ArmContext {
  const tokensPerStep = DOCUMENTS_PER_STEP * meanTokens;
  const flopFactor = (GROUP_SIZE * MAX_THOUGHT_TOKENS * DOCUMENTS_PER_STEP + tokensPerStep) / tokensPerStep;
  return { steps, tokensPerStep, flopFactor, maxThoughtTokens: MAX_THOUGHT_TOKENS };
}

const thinking = {
  documentsPerStep: DOCUMENTS_PER_STEP,
  groupSize: GROUP_SIZE,
  maxThoughtTokens: MAX_THOUGHT_TOKENS,
  temperature: 1,
  positionStrategy: 'column',
  documentsPerBatch: DOCUMENTS_PER_STEP,
};

const BLOCK = 128;
/** Next-token training on `factor` times the text that an arm that thinks reads, in batches of the same size. */
const cpt = (factor: (context: ArmContext) => number) => (context: ArmContext) => ({
  objective: 'cpt',
  schedule: 'constant', // as the arms of RLP have it
  blockLength: BLOCK,
  batchTokens: Math.max(1, Math.round(context.tokensPerStep / BLOCK)) * BLOCK,
  steps: Math.round(context.steps * factor(context)),
});

/** The arms of the full experiment. */
const ALL_ARMS: readonly Arm[] = [
  { name: 'cpt', label: 'CPT, same input tokens', settings: cpt(() => 1) },
  { name: 'cpt-flops', label: 'CPT, same FLOPs', settings: cpt(({ flopFactor }) => flopFactor) },
  {
    name: 'cpt-35x',
    label: 'CPT, 35x the input tokens',
    slow: true,
    short: true,
    rateOf: 'cpt-flops',
    settings: cpt(() => 35),
  },
  {
    name: 'rlp-ema',
    label: 'RLP, EMA baseline',
    settings: ({ steps }) => ({ objective: 'rlp', baseline: 'ema', steps, ...thinking }),
  },
  {
    name: 'best-of-group',
    label: 'next-token training on the best of G own thoughts',
    settings: ({ steps }) => ({ objective: 'rlp', thoughtLoss: 'best-of-group', steps, ...thinking }),
  },
  {
    name: 'rlp-frozen',
    label: 'RLP, frozen baseline',
    short: true,
    rateOf: 'rlp-ema',
    settings: ({ steps }) => ({ objective: 'rlp', baseline: 'frozen', steps, ...thinking }),
  },
];

export const armsOf = ({ name }: Scale): readonly Arm[] =>
  name === 'full' ? ALL_ARMS : ALL_ARMS.filter(({ slow }) => !slow);

/** One choice of RLP changed, the others as in the arm with the EMA baseline. */
export const ABLATIONS: readonly { name: string; label: string; settings: Record<string, unknown> }[] = [
  ...[2, 4, 16].map((groupSize) => ({
    name: `group-${groupSize}`,
    label: `G = ${groupSize}`,
    settings: { groupSize },
  })),
  ...[3, 5, 20].map((maxThoughtTokens) => ({
    name: `length-${maxThoughtTokens}`,
    label: `at most ${maxThoughtTokens} tokens a thought`,
    settings: { maxThoughtTokens },
  })),
  ...[0.9, 0.99].map((emaDecay) => ({ name: `tau-${emaDecay}`, label: `tau = ${emaDecay}`, settings: { emaDecay } })),
];
