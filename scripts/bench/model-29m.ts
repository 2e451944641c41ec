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

/** Weights of the layers' matrices: what every token is multiplied by; not the embedding, not the head. */
export function layerParameters(config: ModelConfig): number {
  const tables = config.tieWordEmbeddings ? 1 : 2;
  return parameterCount(config) - tables * config.vocabSize * config.hiddenSize;
}
