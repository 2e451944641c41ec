/**
 * Shape of a Qwen3-style decoder, read from a Hugging Face `config.json`: pre-norm RMSNorm, q/k RMSNorm per head before
 * RoPE, grouped-query attention, SwiGLU, optionally tied head.
 */
export interface ModelConfig {
  modelType: 'qwen3';
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numLayers: number;
  numHeads: number;
  /** Divides numHeads; each key/value head serves numHeads / numKvHeads query heads. */
  numKvHeads: number;
  /** Independent of hiddenSize / numHeads. */
  headDim: number;
  rmsNormEps: number;
  ropeTheta: number;
  maxPositions: number;
  /** True: the head is `model.embed_tokens.weight`; there is no `lm_head.weight`. */
  tieWordEmbeddings: boolean;
  /** Biases on q, k, v and o projections. */
  attentionBias: boolean;
}

/** Every weight of the model by its Hugging Face name with its shape, in the order of the forward pass. */
export function parameterShapes(config: ModelConfig): Map<string, readonly number[]> {
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, vocabSize } = config;
  const shapes = new Map<string, readonly number[]>([['model.embed_tokens.weight', [vocabSize, hiddenSize]]]);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const set = (name: string, shape: readonly number[]) => shapes.set(`model.layers.${layer}.${name}`, shape);
    set('input_layernorm.weight', [hiddenSize]);
    for (const [projection, width] of [
      ['q_proj', numHeads * headDim],
      ['k_proj', numKvHeads * headDim],
      ['v_proj', numKvHeads * headDim],
    ] as const) {
      set(`self_attn.${projection}.weight`, [width, hiddenSize]);
      if (config.attentionBias) set(`self_attn.${projection}.bias`, [width]);
    }
    set('self_attn.q_norm.weight', [headDim]);
    set('self_attn.k_norm.weight', [headDim]);
    set('self_attn.o_proj.weight', [hiddenSize, numHeads * headDim]);
    if (config.attentionBias) set('self_attn.o_proj.bias', [hiddenSize]);
    set('post_attention_layernorm.weight', [hiddenSize]);
    set('mlp.gate_proj.weight', [intermediateSize, hiddenSize]);
    set('mlp.up_proj.weight', [intermediateSize, hiddenSize]);
    set('mlp.down_proj.weight', [hiddenSize, intermediateSize]);
  }
  shapes.set('model.norm.weight', [hiddenSize]);
  if (!config.tieWordEmbeddings) shapes.set('lm_head.weight', [vocabSize, hiddenSize]);
  return shapes;
}

/** Number of parameters, a tied head counted once. */
export function parameterCount(config: ModelConfig): number {
  let total = 0;
  for (const shape of parameterShapes(config).values()) total += shape.reduce((a, b) => a * b, 1);
  return total;
}
