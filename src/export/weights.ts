import type { DType } from '../dtypes.ts';
import { internal } from '../errors.ts';
import { adapterShapes, type LoraConfig } from '../lora.ts';
import type { ModelConfig } from '../model-config.ts';
import { parameterShapes } from '../model-config.ts';
import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';

/** Gives a graph its weights by Hugging Face name, each float32 and in Hugging Face layout (linear: [out, in]). */
export type WeightSource = (name: string) => Value;

/** Where a weight's bytes lie: a file beside the graph, offset and length in bytes. */
export interface WeightLocation {
  dtype: DType;
  shape: readonly number[];
  location: string;
  offset: number;
  length: number;
}

/** Weights as external initializers inside the checkpoint's own files; bf16 and f16 are cast, which folds at load. */
export function externalWeights(builder: GraphBuilder, locate: (name: string) => WeightLocation): WeightSource {
  return memoize((name) => {
    const { dtype, shape, location, offset, length } = locate(name);
    return builder.cast(builder.externalInitializer(name, dtype, shape, location, offset, length), 'float32');
  });
}

/** Weights, then adapters, as float32 graph inputs, all of them in the order of the forward pass. */
export function inputWeights(builder: GraphBuilder, config: ModelConfig, lora?: LoraConfig): WeightSource {
  const inputs = new Map<string, Value>();
  const shapes = [...parameterShapes(config), ...(lora === undefined ? [] : adapterShapes(config, lora))];
  for (const [name, shape] of shapes) inputs.set(name, builder.input(name, 'float32', shape));
  return (name) => {
    const value = inputs.get(name);
    if (value === undefined) throw internal(`no weight named ${name}`);
    return value;
  };
}

function memoize(make: WeightSource): WeightSource {
  const made = new Map<string, Value>();
  return (name) => {
    const value = made.get(name) ?? make(name);
    made.set(name, value);
    return value;
  };
}
