import { basename } from 'node:path';
import { internal } from '../errors.ts';
import { adapterShapes, type LoraConfig, trainableShapes } from '../lora.ts';
import type { ModelConfig } from '../model-config.ts';
import { parameterShapes } from '../model-config.ts';
import { autocast, type ComputeDType } from './autocast.ts';
import { GraphBuilder } from './builder.ts';
import { arrangeProducts } from './cpu-products.ts';
import type { DecoderContext, OperatorFlavor } from './decoder.ts';
import type { TokenCut } from './fixed-truncation.ts';
import type { Graph } from './ir.ts';
import { buildOptimizer, type WeightDecayOn } from './optimizer-graph.ts';
import { buildPortableModel, PORTABLE_OPSET } from './portable-graph.ts';
import { buildPrefill, buildStep, type StepGraphOptions } from './rollout-graphs.ts';
import type { TensorLocation } from './safetensors.ts';
import { serializeGraph } from './serialize.ts';
import { buildEvalModel, buildTrainingModel, type TrainingGraphOptions } from './training-graphs.ts';
import { dropUnread } from './unread.ts';
import { externalWeights, inputWeights, type WeightLocation } from './weights.ts';

/** TensorScatter came with opset 24. */
const OPSET = 24;

/** The graphs of an exported model, by their path in its folder. */
export const ARTIFACTS = {
  model: 'model.onnx',
  prefill: 'rollout_prefill.onnx',
  step: 'rollout_step.onnx',
  trainingModel: 'training_model.onnx',
  evalModel: 'eval_model.onnx',
  optimizerModel: 'optimizer_model.onnx',
} as const;
/** A graph of an exported model. */
export type ArtifactName = keyof typeof ARTIFACTS;

/** What a graph is built for beyond the model. */
export interface GraphOptions {
  /** Train adapters in place of the weights; the rollout graphs then have them, too. */
  lora?: LoraConfig | undefined;
  /** Training graph: compute each layer again in the backward pass, for memory against time. */
  recompute?: boolean | undefined;
  /** In which matrix products are computed, float32 by default; the graphs' inputs and outputs are float32 all the same. */
  dtype?: ComputeDType;
  /** Rollout graphs that take their weights as inputs, to be read where the optimizer updates them. */
  weightsAsInputs?: boolean;
  /** Optimizer graph: keep an exponential moving average of the weights, as by default. */
  ema?: boolean | undefined;
  /** Optimizer graph: which weights are decayed, by default matrices alone. */
  weightDecayOn?: WeightDecayOn;
  /** Training and step graph: arranged for ONNX Runtime's kernels on the CPU; they run elsewhere, too, but not as well. */
  forCpu?: boolean | undefined;
  /** Evaluation graph: whose entropy its output `entropy` is, see HeadOptions. */
  entropyTopK?: number;
  /** Step graph: whether tokens can be cut by top-k, top-p and min-p, as by default, or by which they always are. Without, a step has 170 operators less. */
  truncation?: boolean | TokenCut;
}

/** float16 holds no gradient below 6e-8. */
const isLossScaled = (dtype: ComputeDType): boolean => dtype === 'float16';

type Locate = (name: string) => WeightLocation;

interface Recipe {
  build: (context: DecoderContext, options: TrainingGraphOptions & StepGraphOptions) => void;
  flavor: OperatorFlavor;
  weights: 'external' | 'inputs';
  opset: number;
}

const RECIPES: Record<Exclude<ArtifactName, 'optimizerModel'>, Recipe> = {
  model: { build: buildPortableModel, flavor: 'portable', weights: 'external', opset: PORTABLE_OPSET },
  prefill: { build: buildPrefill, flavor: 'fused', weights: 'external', opset: OPSET },
  step: { build: buildStep, flavor: 'fused', weights: 'external', opset: OPSET },
  trainingModel: { build: buildTrainingModel, flavor: 'fused', weights: 'inputs', opset: OPSET },
  evalModel: { build: buildEvalModel, flavor: 'fused', weights: 'inputs', opset: OPSET },
};

/**
 * One graph as an ONNX model. Kilobytes: weights are inputs, or initializers whose bytes lie in the checkpoint's files.
 * @param locate where each weight lies, the file relative to the folder that the model is loaded for
 */
export function buildArtifact(
  name: ArtifactName,
  config: ModelConfig,
  locate: Locate,
  options: GraphOptions = {},
): Uint8Array {
  const { graph, opset } = buildArtifactGraph(name, config, locate, options);
  return serializeGraph(graph, { opset });
}

/** The same before it is written as ONNX. */
export function buildArtifactGraph(
  name: ArtifactName,
  config: ModelConfig,
  locate: Locate,
  {
    lora,
    recompute = false,
    dtype = 'float32',
    weightsAsInputs = false,
    truncation = true,
    entropyTopK = 0,
    ema = true,
    forCpu = false,
    weightDecayOn = 'matrices',
  }: GraphOptions = {},
): { graph: Graph; opset: number } {
  const builder = new GraphBuilder(name);
  if (name === 'optimizerModel') {
    buildOptimizer(builder, trainableShapes(config, lora), { scaledLoss: isLossScaled(dtype), ema, weightDecayOn });
    return { graph: builder.graph, opset: OPSET };
  }
  const { build, flavor, weights, opset } = RECIPES[name];
  const weight =
    weights === 'inputs' || weightsAsInputs ? inputWeights(builder, config, lora) : externalWeights(builder, locate);
  build(
    {
      builder,
      config,
      weight,
      flavor,
      recompute: recompute && name === 'trainingModel',
      ...(lora !== undefined && { lora }),
    },
    {
      scaledLoss: isLossScaled(dtype),
      truncation,
      forCpu,
      cache: dtype,
      ...(name === 'evalModel' && { entropyTopK }),
    },
  );
  if (dtype !== 'float32') {
    autocast(builder.graph, dtype);
    dropUnread(builder.graph);
  }
  if (dtype === 'float32' && forCpu && name === 'trainingModel') arrangeProducts(builder.graph);
  return { graph: builder.graph, opset };
}

/** Weights where a checkpoint has them, its files in the folder that the model is loaded for. */
export function locateIn(tensors: ReadonlyMap<string, TensorLocation>): Locate {
  return (name) => {
    const tensor = tensors.get(name);
    if (tensor === undefined) throw internal(`the checkpoint has no tensor ${name}`);
    const { dtype, shape, file, offset, byteLength } = tensor;
    return { dtype, shape, location: basename(file), offset, length: byteLength };
  };
}

/**
 * The rollout graphs for float32 weights that exist in no file. With `weightsAsInputs` they are inputs; otherwise every weight
 * of a graph must be given when its session is created (SessionOptions.initializers), which copies it, and makes products
 * faster on the CPU. Prefill ends at the last layer's keys and values, so it has none of
 * the weights behind them, and ONNX Runtime refuses values for them. For rollouts under weights in training, whatever the
 * checkpoint's dtype.
 */
export function trainingRolloutGraphs(
  config: ModelConfig,
  options: GraphOptions = {},
): { prefill: Uint8Array; step: Uint8Array } {
  const { lora } = options;
  const shapes = new Map([...parameterShapes(config), ...(lora === undefined ? [] : adapterShapes(config, lora))]);
  const locate: Locate = (name) => {
    const shape = shapes.get(name);
    if (shape === undefined) throw internal(`the model has no weight ${name}`);
    const length = 4 * shape.reduce((a, b) => a * b, 1);
    return { dtype: 'float32', shape, location: 'given-at-session-creation', offset: 0, length };
  };
  const build = (name: 'prefill' | 'step') => buildArtifact(name, config, locate, options);
  return { prefill: build('prefill'), step: build('step') };
}
