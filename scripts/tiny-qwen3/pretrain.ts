import { copyFile, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { trainSchema } from '../../src/config.ts';
import { writeCheckpointDirectory } from '../../src/export/checkpoint-write.ts';
import { parseConfigJson } from '../../src/export/config-json.ts';
import { parameterShapes } from '../../src/model-config.ts';
import { Random } from '../../src/random.ts';
import { train } from '../../src/train/train.ts';
import { writeTokenizer } from './make-tokenizer.ts';

const CONFIG = {
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  vocab_size: 264,
  hidden_size: 128,
  intermediate_size: 384,
  num_hidden_layers: 4,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  head_dim: 32,
  hidden_act: 'silu',
  rms_norm_eps: 1e-6,
  rope_theta: 10000,
  max_position_embeddings: 4096,
  tie_word_embeddings: true,
  attention_bias: false,
  attention_dropout: 0,
  initializer_range: 0.02,
  use_cache: true,
  use_sliding_window: false,
  sliding_window: null,
  max_window_layers: 4,
  rope_scaling: null,
  bos_token_id: null,
  eos_token_id: 256,
  pad_token_id: 256,
  torch_dtype: 'float32',
};

/** What a tiny model reads, and for how long. */
export interface PretrainOptions {
  /** Folder for config.json, model.safetensors and the tokenizer. */
  out: string;
  seed: number;
  documents: readonly string[];
  steps: number;
  batchTokens: number;
  blockLength: number;
  learningRate: number;
}

/**
 * A tiny Qwen3 (0.8 M parameters, bytes as tokens) from random weights, by this project's own `train --objective cpt`.
 * Everything is seeded; on one machine it gives the same checkpoint again.
 */
export async function pretrainTiny(options: PretrainOptions): Promise<void> {
  const { out, seed, documents, steps, batchTokens, blockLength, learningRate } = options;
  const work = await mkdtemp(join(tmpdir(), 'tiny-qwen3-'));
  try {
    const source = join(work, 'source');
    await mkdir(source);
    await writeTokenizer(source);
    await writeFile(join(source, 'config.json'), `${JSON.stringify(CONFIG, null, 2)}\n`);
    const initial = join(work, 'initial');
    const weights = initialWeights(new Random(seed, 'init'));
    await writeCheckpointDirectory({ out: initial, source, weights, dtype: 'float32' });

    const corpus = join(work, 'base.jsonl');
    await writeFile(corpus, documents.map((text) => `${JSON.stringify({ text })}\n`).join(''));
    const config = trainSchema.parse({
      ...{ model: initial, data: [corpus], run: join(work, 'run'), objective: 'cpt', seed },
      ...{ steps, blockLength, batchTokens, checkpointEvery: 0 },
      ...{ learningRate, warmupSteps: 100, schedule: 'linear', finalLearningRate: 0, beta2: 0.99, weightDecay: 0 },
    });
    const { checkpoint } = await train(config, {
      onProgress: ({ done, total, figures }) => {
        if (done % 50 === 0) console.log(`step ${done}/${total}  loss ${figures?.loss.toFixed(4)}`);
      },
    });
    await mkdir(out, { recursive: true });
    await writeTokenizer(out);
    for (const name of ['config.json', 'model.safetensors']) await copyFile(join(checkpoint, name), join(out, name));
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}

/** N(0, 1/fan_in) for projections, less for those that write to the residual stream; ones for norms. */
function initialWeights(random: Random): Map<string, { shape: readonly number[]; data: Float32Array }> {
  const shapes = parameterShapes(parseConfigJson(JSON.stringify(CONFIG), 'config.json'));
  const deviation = (name: string, shape: readonly number[]) => {
    if (name.includes('embed_tokens')) return 0.08;
    return (/o_proj|down_proj/.test(name) ? 0.35 : 1) / Math.sqrt(shape[1]);
  };
  return new Map(
    [...shapes].map(([name, shape]) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const value = shape.length === 1 ? () => 1 : () => random.normal() * deviation(name, shape);
      return [name, { shape, data: Float32Array.from({ length: size }, value) }];
    }),
  );
}
