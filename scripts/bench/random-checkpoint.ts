import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeSafetensors } from '../../src/export/safetensors-write.ts';
import { type ModelConfig, parameterShapes } from '../../src/model-config.ts';
import { uniformStream } from '../../src/random.ts';

/** Distinct random numbers of a matrix; they repeat, because drawing hundreds of millions would take minutes. */
const TABLE = 1_000_003;

/** A Hugging Face directory with random bfloat16 weights: of a shape, and of nothing else. */
export async function writeRandomCheckpoint(directory: string, config: ModelConfig): Promise<void> {
  const random = uniformStream(0, 'weights');
  const table = Float32Array.from({ length: TABLE }, (_, i) => random(i) - 0.5);
  const tensors = [...parameterShapes(config)].map(([name, shape]) => ({
    name,
    dtype: 'bfloat16' as const,
    shape,
    data: () => {
      const size = shape.reduce((a, b) => a * b, 1);
      if (shape.length === 1) return new Float32Array(size).fill(1);
      const scale = Math.sqrt(12 / shape[1]); // variance 1 / fan-in
      const scaled = table.map((x) => x * scale);
      const data = new Float32Array(size);
      for (let at = 0; at < size; at += TABLE) data.set(scaled.subarray(0, Math.min(TABLE, size - at)), at);
      return data;
    },
  }));
  await writeSafetensors(join(directory, 'model.safetensors'), tensors);
  await writeFile(join(directory, 'config.json'), JSON.stringify(configJson(config)));
}

function configJson(config: ModelConfig): Record<string, unknown> {
  return {
    architectures: ['Qwen3ForCausalLM'],
    model_type: 'qwen3',
    vocab_size: config.vocabSize,
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    hidden_act: 'silu',
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    max_position_embeddings: config.maxPositions,
    tie_word_embeddings: config.tieWordEmbeddings,
    attention_bias: config.attentionBias,
    torch_dtype: 'bfloat16',
    eos_token_id: config.vocabSize + 1,
    pad_token_id: 0,
  };
}
