import { ANSWERING, SAMPLING, SUPERVISED } from './arms.ts';

/** Something of RLP changed, the rest as in the arm with the EMA baseline. */
export interface Variant {
  name: string;
  label: string;
  /** Without a learning rate: the one that the arm chose, or the arm named by `rateOf`. */
  settings: Readonly<Record<string, unknown>>;
  rateOf?: string;
  /** Only the logged reward depends on it: the weights are those of the arm, to the byte. */
  sameWeights?: true;
}

/** Choices of the method, compared where the arms are. A thought is evaluated at the limit that it is trained with. */
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
    ...{ name: 'scale-group', label: "advantages over the group's deviation, as in RPT" },
    settings: { advantageScale: 'group' },
  },
  ...[0.01, 0.1].map((klCoefficient) => ({
    name: `kl-${klCoefficient}`,
    label: `KL to the start, ${klCoefficient}`,
    settings: { klCoefficient, baseline: 'frozen' },
  })),
  ...[0.9, 0.99].map((emaDecay) => ({
    ...{ name: `tau-${emaDecay}`, label: `tau = ${emaDecay}`, settings: { emaDecay } },
    sameWeights: true as const,
  })),
];

/** Settings that may hold or collapse, run to the end. */
export const STABILITY: readonly Variant[] = [
  ...[3e-4, 5e-4, 1e-3].map((learningRate) => ({
    ...{ name: `rate-${learningRate}`, label: `learning rate ${learningRate}`, settings: { learningRate } },
  })),
  {
    ...{ name: 'kl', label: 'learning rate 0.0005, KL to the start 0.1' },
    settings: { learningRate: 5e-4, klCoefficient: 0.1, baseline: 'frozen' },
  },
  {
    ...{ name: 'next-token', label: 'learning rate 0.0005, next-token loss on the document 0.1' },
    settings: { learningRate: 5e-4, nextTokenCoefficient: 0.1 },
  },
  {
    ...{
      name: 'defaults',
      label: 'the defaults of `train` but for the learning rate, which is that of RLP told nothing',
    },
    settings: { positionStrategy: 'uniform', temperature: 0.7, groupSize: 16, beta2: 0.95, weightDecay: 0 },
    rateOf: 'rlp-uniform',
  },
];

/** The same for every checkpoint that it is done to: SFT on right thoughts, then RLVR on the answers alone. */
export interface PostTraining {
  /** Arms whose last checkpoint is post-trained, beside the base. */
  arms: readonly string[];
  sftSteps: number;
  rlvrSteps: number;
  /** With the first so many seeds RLVR goes on ... */
  longSeeds: number;
  /** ... for so many times its steps, and only from these arms and the base. */
  longFactor: number;
  longArms: readonly string[];
}

/** Of both stages. */
export const POST_TRAINING_RATE = 1e-4;

/** What post-training does, one after the other, each from what the one before it made. */
export const POST_TRAINING_STAGES = [
  { name: 'sft', settings: { ...SUPERVISED } },
  { name: 'rlvr', settings: { objective: 'grpo', ...SAMPLING, ...ANSWERING } },
] as const;
