import type { Data, DataFiles } from './data.ts';

/** Documents a step, thoughts a position, tokens a thought: the same for every arm that thinks. */
export const DOCUMENTS_PER_STEP = 16;
export const GROUP_SIZE = 8;
export const MAX_THOUGHT_TOKENS = 10;

/**
 * AdamW, the same for all arms that think and the same for all that do not: what RPT's authors publish (RLP's leave it open),
 * and what RLP's publish of CPT.
 */
export const THINKING_OPTIMIZER = { beta2: 0.999, weightDecay: 0.01 };
export const TEXT_OPTIMIZER = { beta2: 0.95, weightDecay: 0.1 };

/** The arm that the claims are about, and what it is when nobody tells it where to think. */
export const RLP = 'rlp-ema';
export const RLP_UNIFORM = 'rlp-uniform';
/** CPT on as many times the input tokens as the paper has. */
export const CPT_LONG = 'cpt-35x';
export const LONG_FACTOR = 35;

/** What the lengths of the arms follow from. */
export interface ArmContext extends Pick<Data, 'documentTokens' | 'questionTokens'> {
  /** Tokens of a thought of the base model, on average, with the closing delimiter. */
  thoughtTokens: number;
  /** Of the model. */
  parameters: number;
}

/**
 * An arm of the comparison: what is done to the base checkpoint with the raw text. Every arm takes DOCUMENTS_PER_STEP
 * documents a step, so as many steps are as many input tokens.
 */
export interface Arm {
  name: string;
  label: string;
  /** What it reads: raw documents, if nothing else is said. */
  data?: keyof DataFiles;
  /** Steps for each step of RLP; 1 if nothing is said. */
  factor?: (context: ArmContext) => number;
  /** Its weights are those of this arm, to the byte, so its learning rate is, too. */
  sameAs?: string;
  /** Its learning rate is chosen where the arms are compared first, instead of half-way: it takes long. */
  shortSweep?: true;
  /** Settings of `rlp-ort train` without steps, seed and learning rate. */
  settings: Readonly<Record<string, unknown>>;
}

/** Optimizer steps of an arm for `steps` of RLP. */
export const stepsOf = ({ factor }: Arm, steps: number, context: ArmContext): number =>
  Math.round(steps * (factor?.(context) ?? 1));

/**
 * CPT's tokens for each input token of RLP at the same FLOPs, by the paper's formula (arXiv 2510.01265, section on matched
 * compute): thoughts * thought length * documents * steps + input tokens, over the input tokens. The length is the limit.
 */
export const flopFactor = ({ documentTokens }: ArmContext): number =>
  (GROUP_SIZE * MAX_THOUGHT_TOKENS + documentTokens) / documentTokens;

/**
 * FLOPs of a run as they are usually counted: 2 a parameter and token forward, 4 backward, attention left out. An arm that
 * thinks reads its text twice more forward: before it samples, and for the baseline.
 */
export function flopsOf(
  { trainedTokens, sampledTokens }: { trainedTokens: number; sampledTokens: number },
  steps: number,
  { parameters, documentTokens }: Pick<ArmContext, 'parameters' | 'documentTokens'>,
): number {
  const forwardOnly = sampledTokens > 0 ? sampledTokens + 2 * DOCUMENTS_PER_STEP * documentTokens * steps : 0;
  return parameters * (6 * trainedTokens + 2 * forwardOnly);
}

/**
 * Steps of training on the best thought of each group at the FLOPs of a step of RLP: it samples as much, and trains on one thought
 * and the token behind it where RLP trains on the whole group.
 */
export function bestOfGroupFactor(context: ArmContext): number {
  const { thoughtTokens, questionTokens } = context;
  const ofStep = (branchTokens: number) =>
    flopsOf(
      {
        trainedTokens: DOCUMENTS_PER_STEP * (questionTokens + branchTokens),
        sampledTokens: DOCUMENTS_PER_STEP * GROUP_SIZE * thoughtTokens,
      },
      1,
      context,
    );
  return ofStep(GROUP_SIZE * thoughtTokens) / ofStep(thoughtTokens + 1);
}

export const SAMPLING = {
  documentsPerStep: DOCUMENTS_PER_STEP,
  groupSize: GROUP_SIZE,
  maxThoughtTokens: MAX_THOUGHT_TOKENS,
  temperature: 1,
  documentsPerBatch: DOCUMENTS_PER_STEP,
};
/** Behind the thought one token is sampled: the answer. */
export const ANSWERING = { schedule: 'constant', maxCompletionTokens: 1 };
export const SUPERVISED = { objective: 'sft', schedule: 'constant', documentsPerStep: DOCUMENTS_PER_STEP };

/** Told where: at the answers, which the data lists. */
const thinking = { ...SAMPLING, ...THINKING_OPTIMIZER, positionStrategy: 'column' };
const rlp = { objective: 'rlp', baseline: 'ema', ...thinking };
/** The model states the next token, without a box around it. */
const rpt = { objective: 'rpt', ...thinking, ...ANSWERING, prediction: 'text', entropyThreshold: 0 };
const cpt = {
  objective: 'cpt',
  schedule: 'constant', // as the arms of RLP have it
  packing: 'none', // document by document, as RLP reads them
  documentsPerStep: DOCUMENTS_PER_STEP,
  blockLength: 128,
  microBatchTokens: 512, // long and short documents apart: less padding
  ...TEXT_OPTIMIZER,
};

/** In the order of the report. */
export const ARMS: readonly Arm[] = [
  { name: 'cpt', label: 'CPT, same input tokens', settings: cpt },
  { name: 'cpt-flops', label: 'CPT, same FLOPs', factor: flopFactor, settings: cpt },
  {
    ...{ name: CPT_LONG, label: `CPT, ${LONG_FACTOR}x the input tokens`, factor: () => LONG_FACTOR },
    ...{ data: 'trainLong', shortSweep: true, settings: cpt },
  },
  {
    ...{ name: 'cpt-answers', label: 'next-token training on the answers alone', data: 'answers' },
    settings: { ...SUPERVISED, ...TEXT_OPTIMIZER },
  },
  { name: RLP, label: 'RLP, EMA baseline', settings: rlp },
  {
    ...{ name: 'rlp-frozen', label: 'RLP, frozen baseline', sameAs: RLP },
    settings: { ...rlp, baseline: 'frozen' },
  },
  {
    ...{ name: RLP_UNIFORM, label: 'RLP told nothing: one uniform position a document' },
    settings: { ...rlp, positionStrategy: 'uniform' },
  },
  { name: 'rpt', label: 'RPT', settings: rpt },
  {
    ...{ name: 'rpt-entropy', label: 'RPT told nothing: one uniform position a document of at least 0.5 nats' },
    settings: { ...rpt, entropyThreshold: 0.5, positionStrategy: 'uniform' },
  },
  {
    ...{ name: 'best-of-group', label: 'next-token training on the best of G own thoughts, same FLOPs' },
    factor: bestOfGroupFactor,
    settings: { ...rlp, thoughtLoss: 'best-of-group' },
  },
];

/** An arm by its name. */
export function armNamed(name: string): Arm {
  const arm = ARMS.find((one) => one.name === name);
  if (arm === undefined) throw new Error(`no arm is called ${name}`);
  return arm;
}
