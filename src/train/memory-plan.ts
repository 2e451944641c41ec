import { freemem } from 'node:os';
import type { TrainConfig } from '../config.ts';
import { UserError } from '../errors.ts';
import { headChunkRows } from '../export/index.ts';
import { trainableShapes } from '../lora.ts';
import { type ModelConfig, parameterCount } from '../model-config.ts';
import { keepsEma } from './objective.ts';

/** Bytes that training will need, by what for. */
export interface MemoryPlan {
  /** float32 weights: those trained on and those as read from the checkpoint. */
  weights: number;
  /** Gradients, two moments and, where one is kept, the EMA of what is trained. */
  optimizer: number;
  /** Weights of the rollout sessions and the key/value caches of thoughts (rlp). */
  rollouts: number;
  /** What the forward pass of a micro-batch leaves for the backward pass, and what that needs at a time. */
  activations: number;
  /** Logits and their softmax of one chunk of rows, and three copies of the gradient of the head's weight in the making. */
  head: number;
  total: number;
}

/** Settings that decide on the memory. */
export type MemorySettings = Pick<
  TrainConfig,
  | 'objective'
  | 'blockLength'
  | 'microBatchTokens'
  | 'recompute'
  | 'maxThoughtTokens'
  | 'maxCompletionTokens'
  | 'withoutThought'
  | 'groupSize'
  | 'positions'
  | 'slots'
  | 'documentsPerBatch'
  | 'loraRank'
  | 'loraAlpha'
  | 'loraTargetModules'
>;

const FLOAT = 4;
/** Node.js, ONNX Runtime and their code; measured. */
const PROCESS = 250e6;
/** Prefixes of thoughts are not known before they are read; they are taken to be this long. */
const PREFIX_TOKENS = 1024;

/**
 * The memory of a training run on the CPU, from shapes alone. docs/results/training.md compares it with what processes
 * took.
 */
export function planMemory(model: ModelConfig, settings: MemorySettings): MemoryPlan {
  const { numLayers, numHeads, numKvHeads, headDim, hiddenSize, intermediateSize, vocabSize } = model;
  const isText = settings.objective === 'cpt';
  const tokens = Math.max(settings.microBatchTokens, isText ? settings.blockLength : 0);
  const context = isText ? settings.blockLength : Math.min(model.maxPositions, PREFIX_TOKENS + branchTokens(settings));
  // Attention probabilities a token keeps: trunks compute 5/8 of the square (four blocks), branches see their whole trunk.
  const pairs = numHeads * Math.min(context, tokens) * (isText ? 5 / 8 : 1);
  const layer = 4 * hiddenSize + 6 * (numHeads + numKvHeads) * headDim + 5 * intermediateSize + pairs;
  const working = 2 * intermediateSize + 2 * hiddenSize + pairs;
  const kept = settings.recompute ? numLayers * hiddenSize + layer : numLayers * layer;
  const rows = Math.min(tokens, headChunkRows(vocabSize));

  const lora =
    settings.loraRank === undefined
      ? undefined
      : { rank: settings.loraRank, alpha: settings.loraAlpha, targetModules: settings.loraTargetModules };
  const count = parameterCount(model);
  const trained = [...trainableShapes(model, lora).values()].reduce((n, shape) => n + shape.reduce((a, b) => a * b), 0);
  const thoughts = settings.documentsPerBatch * (settings.slots ?? settings.groupSize * settings.positions);
  const cache = thoughts * branchTokens(settings) * numLayers * 2 * numKvHeads * headDim;
  const parts = {
    weights: FLOAT * 2 * count,
    optimizer: FLOAT * (keepsEma(settings) ? 4 : 3) * trained,
    rollouts: isText ? 0 : FLOAT * (2 * count + cache),
    activations: FLOAT * tokens * (kept + working),
    head: FLOAT * vocabSize * (2 * rows + (lora === undefined ? 3 : 0) * hiddenSize),
  };
  return { ...parts, total: PROCESS + Object.values(parts).reduce((sum, bytes) => sum + bytes) };
}

/** Of a thought, and of the answer where there is one. */
const branchTokens = (settings: MemorySettings): number =>
  (settings.withoutThought ? 0 : settings.maxThoughtTokens) +
  (settings.objective === 'rpt' || settings.objective === 'grpo' ? settings.maxCompletionTokens : 0);

const gigabytes = (bytes: number): string => `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 1)} GB`;

/** One line for a person. */
export function describePlan({ total, ...parts }: MemoryPlan): string {
  const list = Object.entries(parts).flatMap(([name, bytes]) => (bytes > 0 ? [`${name} ${gigabytes(bytes)}`] : []));
  return `planned memory: ${gigabytes(total)} (${list.join(', ')})`;
}

/** Bytes that this process can still take: free memory, or less where the process is limited. */
export function availableMemory(): number {
  const limit = process.constrainedMemory();
  const { rss } = process.memoryUsage();
  return limit > 0 ? Math.min(freemem(), Math.max(0, limit - rss)) : freemem();
}

/**
 * @param available bytes
 * @throws UserError when the plan does not fit, naming what would
 */
export function checkMemory(model: ModelConfig, settings: MemorySettings, available: number): MemoryPlan {
  const plan = planMemory(model, settings);
  if (plan.total <= available) return plan;
  const fits = (changed: Partial<MemorySettings>) => planMemory(model, { ...settings, ...changed }).total <= available;
  throw new UserError(`${describePlan(plan)}, but ${gigabytes(available)} are free; ${advice(settings, fits)}`);
}

function advice(settings: MemorySettings, fits: (changed: Partial<MemorySettings>) => boolean): string {
  const least = settings.objective === 'cpt' ? settings.blockLength : 1024;
  const smaller = (changed: Partial<MemorySettings>): number | undefined => {
    for (let tokens = settings.microBatchTokens >> 1; tokens >= least; tokens >>= 1) {
      if (fits({ ...changed, microBatchTokens: tokens })) return tokens;
    }
    return undefined;
  };
  const tokens = smaller({});
  if (tokens !== undefined) return `it fits with --micro-batch-tokens ${tokens}`;
  if (!settings.recompute && fits({ recompute: true })) return 'it fits with --recompute';
  const both = smaller({ recompute: true });
  if (both !== undefined) return `it fits with --recompute --micro-batch-tokens ${both}`;
  if (settings.loraRank === undefined && fits({ recompute: true, microBatchTokens: least, loraRank: 8 })) {
    return `it fits with adapters instead of the weights: --lora-rank 8 --recompute --micro-batch-tokens ${least}`;
  }
  return 'no setting makes it fit: use a smaller model or a machine with more memory';
}
