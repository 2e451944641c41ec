import { freemem } from 'node:os';
import type { TrainConfig } from '../config.ts';
import { UserError } from '../errors.ts';
import { headChunkRows } from '../export/index.ts';
import { kebab } from '../kebab.ts';
import { mergedCount, trainableShapes } from '../lora.ts';
import { scoreTokens } from '../micro-batches.ts';
import { type ModelConfig, parameterCount } from '../model-config.ts';
import { openModel } from '../model-directory.ts';
import { referenceFolder } from './kl-reference.ts';
import { keepsEma, loraOf } from './objective.ts';

/** Bytes that training will need, by what for. */
export interface MemoryPlan {
  /** float32 weights: those in use, on the CPU those as read from the checkpoint, and 16-bit copies for products in 16 bits. */
  weights: number;
  /** Gradients, two moments and, where one is kept, the EMA of what is trained. */
  optimizer: number;
  /** Weights of the rollout sessions and the key/value caches of documents and thoughts. */
  rollouts: number;
  /** What the forward pass of a micro-batch leaves for the backward pass, and what that needs at a time. */
  activations: number;
  /** Logits and their softmax of one chunk of rows, and three copies of the gradient of the head's weight in the making. */
  head: number;
  /** Passes without gradients: baseline, proxy with its weights, reference of a KL, evaluation. */
  scoring: number;
  /** Adapters merged into weights, of which a checkpoint needs a copy; on a device all that has to come to the host for it. */
  checkpoint: number;
  total: number;
}

/** Settings that decide on the memory. */
export type MemorySettings = Pick<
  TrainConfig,
  | 'objective'
  | 'blockLength'
  | 'microBatchTokens'
  | 'recompute'
  | 'dtype'
  | 'device'
  | 'maxThoughtTokens'
  | 'maxCompletionTokens'
  | 'withoutThought'
  | 'groupSize'
  | 'positions'
  | 'slots'
  | 'documentsPerBatch'
  | 'baseline'
  | 'klCoefficient'
  | 'klReference'
  | 'model'
  | 'importanceSampling'
  | 'proxyModel'
  | 'emaDecay'
  | 'evalData'
  | 'loraRank'
  | 'loraAlpha'
  | 'loraTargetModules'
>;

const FLOAT = 4;
const HALF = 2;
/** Node.js, ONNX Runtime and their code; measured. */
const PROCESS = 250e6;
/** Prefixes of thoughts are not known before they are read; they are taken to be this long. */
const PREFIX_TOKENS = 1024;
/** Blocks shorter than this are not advised. */
const SHORTEST_BLOCK = 512;

/**
 * The memory of a training run, from shapes alone: of the process where it computes on the CPU, otherwise of the device.
 * docs/results/training.md compares it with what processes took; on a device it has never been measured.
 * @param beside shapes of the models that are held beside the one in training, see besideShapes
 */
export function planMemory(
  model: ModelConfig,
  settings: MemorySettings,
  beside: readonly ModelConfig[] = [],
): MemoryPlan {
  const onCpu = settings.device === 'cpu';
  const { numLayers, numKvHeads, headDim, hiddenSize, vocabSize } = model;
  const context = longestSequence(model, settings);
  // What is over the budget by itself goes through the graph all the same.
  const tokens = Math.max(settings.microBatchTokens, context);
  const { layer, working } = floatsPerToken(model, settings, Math.min(context, tokens));
  const kept = settings.recompute ? numLayers * hiddenSize + layer : numLayers * layer;
  const halves = settings.dtype === 'float32' ? 0 : HALF / FLOAT;
  const logits = (rows: number) => 2 * vocabSize * Math.min(rows, headChunkRows(vocabSize));

  const lora = loraOf(settings);
  const count = parameterCount(model);
  const trained = [...trainableShapes(model, lora).values()].reduce((n, shape) => n + shape.reduce((a, b) => a * b), 0);
  const documents = settings.documentsPerBatch;
  const thoughts = documents * (settings.slots ?? settings.groupSize * settings.positions);
  const cached = thoughts * branchTokens(settings) + documents * Math.min(model.maxPositions, PREFIX_TOKENS);
  const cache = (settings.dtype === 'float32' ? FLOAT : HALF) * cached * numLayers * 2 * numKvHeads * headDim;
  return withTotal(onCpu ? PROCESS : 0, {
    weights: FLOAT * ((onCpu ? 2 : 1) + halves) * count,
    optimizer: FLOAT * (keepsEma(settings) ? 4 : 3) * trained,
    // On a device the rollout graphs read the weights where they are.
    rollouts: isText(settings) ? 0 : FLOAT * ((onCpu ? 2 : 0) + halves) * count + cache,
    activations: FLOAT * tokens * (kept + working),
    head: FLOAT * (logits(tokens) + (lora === undefined ? 3 : 0) * vocabSize * hiddenSize),
    scoring: scores(settings) ? forwardBytes(model, settings) + besideBytes(beside, settings) : 0,
    checkpoint: lora !== undefined && onCpu ? FLOAT * mergedCount(model, lora) : 0,
  });
}

/** What a run on a device needs of the host: the weights as they are read, and all that a checkpoint holds. */
export function planHostMemory(model: ModelConfig, settings: MemorySettings): MemoryPlan {
  const lora = loraOf(settings);
  const count = parameterCount(model);
  const trained = [...trainableShapes(model, lora).values()].reduce((n, shape) => n + shape.reduce((a, b) => a * b), 0);
  const merged = lora === undefined ? 0 : mergedCount(model, lora);
  return withTotal(PROCESS, {
    ...{ optimizer: 0, rollouts: 0, activations: 0, head: 0, scoring: 0 },
    weights: FLOAT * count,
    checkpoint: FLOAT * (count + (keepsEma(settings) ? 4 : 3) * trained + merged),
  });
}

const withTotal = (base: number, parts: Omit<MemoryPlan, 'total'>): MemoryPlan => ({
  ...parts,
  total: base + Object.values(parts).reduce((sum, bytes) => sum + bytes),
});

/** Objectives that learn from text as it is. */
const isText = ({ objective }: MemorySettings): boolean => objective === 'cpt' || objective === 'sft';

/** Of a thought, and of the answer where there is one. */
const branchTokens = (settings: MemorySettings): number =>
  (settings.withoutThought ? 0 : settings.maxThoughtTokens) +
  (settings.objective === 'rpt' || settings.objective === 'grpo' ? settings.maxCompletionTokens : 0);

/** Tokens of the longest sequence that goes through the training graph. */
const longestSequence = (model: ModelConfig, settings: MemorySettings): number =>
  Math.min(model.maxPositions, isText(settings) ? settings.blockLength : PREFIX_TOKENS + branchTokens(settings));

/**
 * float32 numbers a token takes: of a layer's results that are kept for the backward pass, of what that needs beyond, and of a
 * pass without gradients.
 */
function floatsPerToken(model: ModelConfig, settings: MemorySettings, context: number) {
  const { numHeads, numKvHeads, headDim, hiddenSize, intermediateSize } = model;
  // Attention probabilities: trunks compute 5/8 of the square (four blocks), branches see their whole trunk.
  const pairs = numHeads * context * (isText(settings) ? 5 / 8 : 1);
  const projections = (numHeads + numKvHeads) * headDim;
  return {
    layer: 4 * hiddenSize + 6 * projections + 5 * intermediateSize + pairs,
    working: 2 * intermediateSize + 2 * hiddenSize + pairs,
    forward: 3 * hiddenSize + Math.max(3 * intermediateSize, 3 * projections + 2 * pairs),
  };
}

/** Whether weights give log-probs or entropies in passes of their own. */
const scores = (settings: MemorySettings): boolean =>
  settings.objective === 'rlp' ||
  settings.objective === 'rpt' ||
  settings.klCoefficient > 0 ||
  settings.importanceSampling !== 'none' ||
  (isText(settings) && settings.evalData !== undefined);

/** Of a pass without gradients. */
function forwardBytes(model: ModelConfig, settings: MemorySettings): number {
  const context = longestSequence(model, settings);
  const tokens = Math.max(scoreTokens(settings), context);
  const { forward } = floatsPerToken(model, settings, context);
  const rows = Math.min(tokens, headChunkRows(model.vocabSize));
  return FLOAT * (tokens * forward + 2 * model.vocabSize * rows);
}

/** Of each its weights in use and, on the CPU, as they were read; and its passes. */
const besideBytes = (beside: readonly ModelConfig[], settings: MemorySettings): number =>
  beside.reduce(
    (sum, model) =>
      sum + FLOAT * (settings.device === 'cpu' ? 2 : 1) * parameterCount(model) + forwardBytes(model, settings),
    0,
  );

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 1)} GB`;

/** One line for a person. */
export function describePlan({ total, ...parts }: MemoryPlan, where = ''): string {
  const list = Object.entries(parts).flatMap(([name, bytes]) => (bytes > 0 ? [`${name} ${gigabytes(bytes)}`] : []));
  return `planned memory${where}: ${gigabytes(total)} (${list.join(', ')})`;
}

/** Bytes that this process can still take: free memory, or less where the process is limited. */
export function availableMemory(): number {
  const limit = process.constrainedMemory();
  const { rss } = process.memoryUsage();
  return limit > 0 ? Math.min(freemem(), Math.max(0, limit - rss)) : freemem();
}

/** What a run is planned to need, for a person: of a device with what it needs of the host, and no check of either. */
export function describeNeeds(model: ModelConfig, settings: MemorySettings, beside?: readonly ModelConfig[]): string {
  const plan = planMemory(model, settings, beside);
  if (settings.device === 'cpu') return describePlan(plan);
  const host = describePlan(planHostMemory(model, settings), ' of the host');
  return `${describePlan(plan, ` of ${settings.device}`)}; ${host}`;
}

/** Shapes of the models that are held beside the one in training: the proxy of rpt, the reference of a KL. */
export async function besideShapes(
  settings: Pick<MemorySettings, 'objective' | 'model' | 'baseline' | 'klReference' | 'proxyModel'>,
): Promise<ModelConfig[]> {
  const folders = [settings.proxyModel, referenceFolder(settings)].filter((folder) => folder !== undefined);
  return Promise.all(folders.map(async (folder) => (await openModel(folder)).config));
}

/**
 * Of a run on the CPU; how much a device has is not known.
 * @param available bytes
 * @throws UserError when the plan does not fit, naming what would
 */
export function checkMemory(
  model: ModelConfig,
  settings: MemorySettings,
  available: number,
  beside?: readonly ModelConfig[],
): MemoryPlan {
  const plan = planMemory(model, settings, beside);
  if (plan.total <= available || settings.device !== 'cpu') return plan;
  const fits = (changed: Changes) => planMemory(model, { ...settings, ...changed }, beside).total <= available;
  const least = longestSequence(model, settings);
  throw new UserError(`${describePlan(plan)}, but ${gigabytes(available)} are free; ${advice(settings, fits, least)}`);
}

type Changes = Partial<MemorySettings>;

/** The first changes, those that cost least first, with which the plan fits. */
function advice(settings: MemorySettings, fits: (changed: Changes) => boolean, least: number): string {
  const smaller = halvings(settings.microBatchTokens, least).map((tokens) => ({ microBatchTokens: tokens }));
  const slots = settings.slots ?? settings.groupSize * settings.positions;
  const nothing: Changes[] = [{}];
  const documents = halvings(settings.documentsPerBatch, 1).map((count) => ({ documentsPerBatch: count }));
  const thoughts = halvings(slots, 1).map((count) => ({ documentsPerBatch: 1, slots: count }));
  // Blocks last: with shorter ones the model sees less of the text at a time.
  const blocks = halvings(Math.min(settings.blockLength, least), SHORTEST_BLOCK).map((tokens) => ({
    ...{ blockLength: tokens, microBatchTokens: Math.min(settings.microBatchTokens, tokens) },
  }));
  const rows: Changes[][] = isText(settings) ? [nothing, blocks] : [[...nothing, ...documents], thoughts];
  for (const some of rows) {
    for (const more of settings.recompute ? nothing : [...nothing, { recompute: true }]) {
      for (const fewer of some) {
        const found = [...nothing, ...smaller].find((tokens) => fits({ ...more, ...tokens, ...fewer }));
        if (found !== undefined) return `it fits with ${flags({ ...more, ...found, ...fewer })}`;
      }
    }
  }
  const all = { recompute: true, ...smaller.at(-1), ...(isText(settings) ? {} : thoughts.at(-1)) };
  if (settings.loraRank === undefined && fits({ ...all, loraRank: 8 })) {
    return `it fits with adapters instead of the weights: ${flags({ loraRank: 8, ...all })}`;
  }
  return 'no setting makes it fit: use a smaller model or a machine with more memory';
}

/** `from` / 2, / 4 ... down to `least`. */
function halvings(from: number, least: number): number[] {
  const values: number[] = [];
  for (let value = Math.floor(from / 2); value >= least; value = Math.floor(value / 2)) values.push(value);
  return values;
}

const flags = (changes: Changes): string =>
  Object.entries(changes)
    .map(([key, value]) => `--${kebab(key)}${value === true ? '' : ` ${value}`}`)
    .join(' ');
