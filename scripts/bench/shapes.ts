import { type ModelConfig, parameterCount } from '../../src/model-config.ts';

/** The 29 M parameters of the measurements in the log: weights are random, so only the shape matters. */
export const MODEL_29M: ModelConfig = {
  modelType: 'qwen3',
  vocabSize: 8192,
  hiddenSize: 512,
  intermediateSize: 1536,
  numLayers: 8,
  numHeads: 8,
  numKvHeads: 4,
  headDim: 64,
  rmsNormEps: 1e-6,
  ropeTheta: 1_000_000,
  maxPositions: 4096,
  tieWordEmbeddings: true,
  attentionBias: false,
};

/** Qwen3-0.6B: 596 M parameters, a quarter of them in the embedding that is also the head. */
export const MODEL_600M: ModelConfig = {
  ...MODEL_29M,
  vocabSize: 151_936,
  hiddenSize: 1024,
  intermediateSize: 3072,
  numLayers: 28,
  numHeads: 16,
  numKvHeads: 8,
  headDim: 128,
  maxPositions: 40_960,
};

/** Qwen3-1.7B. */
export const MODEL_1700M: ModelConfig = { ...MODEL_600M, hiddenSize: 2048, intermediateSize: 6144 };

/** Weights of the layers' matrices: what every token is multiplied by; not the embedding, not the head. */
export function layerParameters(config: ModelConfig): number {
  const tables = config.tieWordEmbeddings ? 1 : 2;
  return parameterCount(config) - tables * config.vocabSize * config.hiddenSize;
}
