import { GraphBuilder } from '../../src/export/builder.ts';
import type { DecoderContext, OperatorFlavor } from '../../src/export/decoder.ts';
import { buildPortableModel } from '../../src/export/portable-graph.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { Random } from '../../src/random.ts';
import { type HostWeights, inlineWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { openGraph, type Tensor } from './run-graph.ts';

/** What can differ between Qwen3 checkpoints: grouped queries or one key/value head each, tied head, biases. */
export const VARIANTS: readonly (readonly [name: string, config: ModelConfig])[] = [
  ['grouped queries, tied', TINY_MODEL],
  ['untied, biases', { ...TINY_MODEL, numKvHeads: 4, tieWordEmbeddings: false, attentionBias: true, vocabSize: 31 }],
];

/** A decoder graph with its weights inside, on onnxruntime-node. */
export function openDecoder(
  build: (context: DecoderContext) => void,
  config: ModelConfig,
  weights: HostWeights,
  flavor: OperatorFlavor = 'fused',
) {
  const builder = new GraphBuilder('decoder');
  build({ builder, config, weight: inlineWeights(builder, weights), flavor });
  return openGraph(builder.graph);
}

/** log p(v | tokens up to i) for one flat sequence: [tokens][V], by model.onnx without a cache. */
export type FlatLogProbs = (tokens: readonly number[]) => Promise<number[][]>;

export async function openFlatReference(config: ModelConfig, weights: HostWeights): Promise<FlatLogProbs> {
  const session = await openDecoder(buildPortableModel, config, weights, 'portable');
  const empty: Tensor = { dtype: 'float32', dims: [1, config.numKvHeads, 0, config.headDim], data: [] };
  const layers = Array.from({ length: config.numLayers }, (_, i) => i);
  const past = layers.flatMap((i) => [`past_key_values.${i}.key`, `past_key_values.${i}.value`]);
  return async (tokens) => {
    const row = (data: number[]) => int64([1, tokens.length], data);
    const { logits } = await session.run(
      {
        input_ids: row([...tokens]),
        position_ids: row([...tokens.keys()]),
        attention_mask: row(tokens.map(() => 1)),
        ...Object.fromEntries(past.map((name) => [name, empty])),
      },
      ['logits'],
    );
    const V = config.vocabSize;
    return tokens.map((_, i) => logSoftmax(logits.slice(i * V, (i + 1) * V)));
  };
}

export function logSoftmax(logits: readonly number[]): number[] {
  const most = Math.max(...logits);
  const logSum = most + Math.log(logits.reduce((sum, x) => sum + Math.exp(x - most), 0));
  return logits.map((x) => x - logSum);
}

export const int64 = (dims: readonly number[], data: readonly number[]): Tensor => ({ dtype: 'int64', dims, data });
export const float32 = (dims: readonly number[], data: readonly number[]): Tensor => ({ dtype: 'float32', dims, data });

export function randomTokens(count: number, { vocabSize }: ModelConfig, label: string): number[] {
  const random = new Random(0, label);
  return Array.from({ length: count }, () => random.integer(vocabSize));
}

/** Largest absolute difference; Infinity where a number is NaN or lengths differ. */
export function largestDifference(actual: readonly number[], expected: readonly number[]): number {
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY;
  const differences = actual.map((x, i) => Math.abs(x - expected[i]));
  return differences.reduce((a, b) => (Number.isNaN(b) ? Number.POSITIVE_INFINITY : Math.max(a, b)), 0);
}
