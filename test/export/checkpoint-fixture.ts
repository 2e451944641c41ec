import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Weight } from '../../src/export/checkpoint.ts';
import { parseConfigJson } from '../../src/export/config-json.ts';
import { parameterShapes } from '../../src/model-config.ts';

/** config.json of a tiny Qwen3, as transformers 4 writes it. */
export const TINY_CONFIG = {
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  vocab_size: 11,
  hidden_size: 8,
  intermediate_size: 12,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 6,
  hidden_act: 'silu',
  max_position_embeddings: 64,
  rms_norm_eps: 1e-6,
  rope_theta: 1000000,
  rope_scaling: null,
  sliding_window: null,
  use_sliding_window: false,
  attention_bias: false,
  tie_word_embeddings: true,
  torch_dtype: 'float32',
};

export type RawConfig = Record<string, unknown>;

/** A temporary folder that goes away with `using`. */
export function temporaryFolder(): Disposable & { path: string; in: (...names: string[]) => string } {
  const path = mkdtempSync(join(tmpdir(), 'rlp-ort-test-'));
  return {
    path,
    in: (...names) => join(path, ...names),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }),
  };
}

/** Weights of the model of `config` with values exact in bfloat16 and different in every tensor. */
export function tinyWeights(config: RawConfig = TINY_CONFIG): Map<string, Weight> {
  const shapes = parameterShapes(parseConfigJson(JSON.stringify(config), 'config.json'));
  let seed = 0;
  const entries = [...shapes].map(([name, shape]): [string, Weight] => {
    seed += 1;
    const size = shape.reduce((a, b) => a * b, 1);
    return [
      name,
      { shape, data: Float32Array.from({ length: size }, (_, i) => (((i * 7 + seed * 13) % 64) - 32) / 64) },
    ];
  });
  return new Map(entries);
}

/** Writes `config` as folder/config.json and returns the folder. */
export function folderWithConfig(folder: string, config: RawConfig = TINY_CONFIG): string {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, 'config.json'), `${JSON.stringify(config, null, 2)}\n`);
  return folder;
}
