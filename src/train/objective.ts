import type { TrainConfig } from '../config.ts';
import type { BadRows } from '../data/index.ts';
import type { LoraConfig } from '../lora.ts';
import type { OpenModel } from '../model-directory.ts';
import type { TrainingSession } from '../optim/index.ts';
import type { RunHooks } from '../progress.ts';
import type { RunFolder } from '../run-folder.ts';
import type { MachineOptions } from '../session-options.ts';
import type { TreeDocument } from '../tree-batch.ts';
import type { CountedData } from './data-metrics.ts';
import { isSessionEma, type KlReference } from './kl-reference.ts';
import type { StageTimes } from './metrics.ts';
import type { PolicySampler } from './sampling.ts';

/** What every objective works with. */
export interface TrainContext {
  config: TrainConfig;
  hooks: RunHooks;
  model: OpenModel;
  /** SHA-256 of the model that the run starts from. */
  modelHash: string;
  /** SHA-256 of the data it takes. */
  dataHash: string;
  /** SHA-256 of the reward module, where there is one. */
  rewardHash: string | undefined;
  /** SHA-256 of the model under --kl-reference, where there is one. */
  referenceHash: string | undefined;
  session: TrainingSession;
  sessionOptions: MachineOptions;
  /** Samples under the weights of `session`. */
  policy: PolicySampler;
  /** What the KL is taken to. */
  reference: KlReference;
}

/**
 * Whether the weights of the start or their EMA are kept: where something reads them, as baseline, reference of a KL, or proxy;
 * and under cpt and sft where the user wants them.
 */
export function keepsEma(
  settings: Pick<TrainConfig, 'objective' | 'model' | 'baseline' | 'klReference' | 'proxyModel' | 'emaDecay'>,
): boolean {
  const { objective, baseline, proxyModel, emaDecay } = settings;
  if (isSessionEma(settings)) return true;
  if (objective === 'rlp') return baseline !== 'none';
  if (objective === 'rpt') return proxyModel === undefined;
  return objective !== 'grpo' && emaDecay !== undefined;
}

/** The adapters that are trained in place of the weights, where that was asked for. */
export const loraOf = ({
  loraRank,
  loraAlpha,
  loraTargetModules,
}: Pick<TrainConfig, 'loraRank' | 'loraAlpha' | 'loraTargetModules'>): LoraConfig | undefined =>
  loraRank === undefined ? undefined : { rank: loraRank, alpha: loraAlpha, targetModules: loraTargetModules };

/** What became of the training data's documents. */
export interface DataCounts {
  /** In the data. */
  documents: number;
  /** Of those drawn by this call: too short to be of use. */
  skipped: number;
  /** Of those drawn by this call: cut to what the model's positions hold. */
  truncated: number;
  /** Rows left out because they cannot be read, if there are any. */
  badRows?: BadRows;
}

/** The data of an objective, checked. */
export interface OpenedObjective {
  dataHash: string;
  /** Of the reward module, where there is one. */
  rewardHash?: string;
  data: CountedData;
  heldOut: CountedData | undefined;
  /** What the user should know of the settings. */
  notices?: readonly string[];
  /** Steps of one time through the data; it may have to read it once. */
  stepsPerEpoch: () => Promise<number>;
  makeObjective: (context: TrainContext) => Objective;
}

/** Reads the data and checks it against the model and the settings: bad input is found before any weight is loaded. */
export type OpenObjective = (config: TrainConfig, model: OpenModel) => Promise<OpenedObjective>;

export interface StepInput {
  /** Counted from 1. */
  step: number;
  /** Of the run in all. */
  steps: number;
  folder: RunFolder;
  times: StageTimes;
}

/** The loss of one step: its rows' weights already divide by the whole step. */
export interface StepLoss {
  documents: TreeDocument[];
  /** What the step has gone through, whether or not a loss came of it. */
  tokens: StepTokens;
  metrics: Record<string, number>;
}

/** Tokens of a step, each once: padding and further epochs over it do not count. */
export interface StepTokens {
  /** Of the data: each document up to its last position, its prompt included; all of an example without thoughts. */
  input: number;
  /** Written behind them: thoughts and answers, with the delimiters that were given. */
  written: number;
}

/** How a training objective turns data into loss rows; the loop of train.ts does the rest. */
export interface Objective {
  /** Lag of the EMA weights in the optimizer's step, where some are kept; 1 keeps them as they are. */
  readonly emaDecay: number;
  prepare(input: StepInput): Promise<StepLoss>;
  afterUpdate(applied: boolean): void;
  /** Figures on the held-out data, named eval/...; undefined where there is none. */
  evaluate(): Promise<Record<string, number> | undefined>;
  /** What a resume needs beyond the session's state, as JSON. */
  state(): unknown;
  restore(state: unknown): void;
  /** Frees what it holds outside of the session. */
  dispose?(): void;
}
