import { describe, expect, it } from 'vitest';
import { parseConfigJson, readConfigJson } from '../../src/export/config-json.ts';
import { parameterCount } from '../../src/model-config.ts';
import { type RawConfig, TINY_CONFIG, temporaryFolder } from './checkpoint-fixture.ts';

const parse = (changes: RawConfig = {}) =>
  parseConfigJson(JSON.stringify({ ...TINY_CONFIG, ...changes }), 'config.json');

describe('config.json', () => {
  it('reads the form of transformers 4', () => {
    expect(parse()).toEqual({
      modelType: 'qwen3',
      vocabSize: 11,
      hiddenSize: 8,
      intermediateSize: 12,
      numLayers: 2,
      numHeads: 4,
      numKvHeads: 2,
      headDim: 6,
      rmsNormEps: 1e-6,
      ropeTheta: 1000000,
      maxPositions: 64,
      tieWordEmbeddings: true,
      attentionBias: false,
    });
  });

  it('reads the form of transformers 5', () => {
    const changes = { rope_theta: undefined, rope_scaling: undefined, torch_dtype: undefined, dtype: 'bfloat16' };
    const layers = { layer_types: ['full_attention', 'full_attention'] };
    const config = parse({ ...changes, ...layers, rope_parameters: { rope_theta: 5e5, rope_type: 'default' } });
    expect(config).toEqual({ ...parse(), ropeTheta: 5e5 });
  });

  it('counts the parameters of Qwen3-0.6B', () => {
    const config = parse({
      vocab_size: 151936,
      hidden_size: 1024,
      intermediate_size: 3072,
      num_hidden_layers: 28,
      num_attention_heads: 16,
      num_key_value_heads: 8,
      head_dim: 128,
    });
    // "Number of Parameters: 0.6B, (Non-Embedding): 0.44B" in its model card.
    expect(parameterCount(config)).toBe(596_049_920);
    expect(parameterCount(config) - 151936 * 1024).toBe(440_467_456);
  });

  it('fills in what may be missing', () => {
    expect(parse({ head_dim: undefined }).headDim).toBe(2);
    expect(parse({ head_dim: null }).headDim).toBe(2);
    expect(parse({ num_key_value_heads: null }).numKvHeads).toBe(4);
    expect(parse({ architectures: undefined })).toEqual(parse());
    const bare = parse({ tie_word_embeddings: undefined, attention_bias: undefined, hidden_act: undefined });
    expect(bare).toMatchObject({ tieWordEmbeddings: false, attentionBias: false });
  });

  it.each<[RawConfig, string]>([
    [{ model_type: 'llama' }, 'config.json: model_type "llama" is not supported; supported: qwen3 (Qwen3ForCausalLM)'],
    [{ model_type: undefined }, 'config.json: model_type: expected a string, but it is missing'],
    [{ architectures: ['Qwen3ForSequenceClassification'] }, 'supported: qwen3 (Qwen3ForCausalLM)'],
    [{ vocab_size: undefined }, 'config.json: vocab_size: expected a positive integer, but it is missing'],
    [{ vocab_size: '11' }, 'config.json: vocab_size: expected a positive integer, found "11"'],
    [{ hidden_size: 0 }, 'hidden_size: expected a positive integer, found 0'],
    [{ num_hidden_layers: 1.5 }, 'num_hidden_layers: expected a positive integer, found 1.5'],
    [{ rms_norm_eps: -1 }, 'rms_norm_eps: expected a positive number, found -1'],
    [{ tie_word_embeddings: 'yes' }, 'tie_word_embeddings: expected true or false, found "yes"'],
    [{ num_key_value_heads: 3 }, 'num_attention_heads: expected a multiple of num_key_value_heads (3), found 4'],
    [{ head_dim: null, hidden_size: 10 }, 'hidden_size: expected a multiple of num_attention_heads (4)'],
    [{ head_dim: 5 }, 'head_dim: expected an even number (RoPE rotates pairs), found 5'],
    [{ rope_theta: undefined }, 'rope_theta: expected a positive number'],
    [{ rope_parameters: { rope_theta: 1 } }, 'rope_theta 1000000, rope_parameters.rope_theta 1'],
    [{ rope_scaling: { type: 'yarn', factor: 4 } }, 'rope_scaling: rope type "yarn" is not supported'],
    [{ rope_parameters: { rope_type: 'linear' } }, 'rope_parameters: rope type "linear" is not supported'],
    [
      { rope_parameters: { full_attention: { rope_theta: 1 } } },
      'rope_parameters.full_attention: RoPE settings per layer',
    ],
    [{ partial_rotary_factor: 0.5 }, 'partial_rotary_factor: found 0.5'],
    [{ use_sliding_window: true }, 'sliding-window attention is not supported'],
    [{ layer_types: ['full_attention', 'sliding_attention'] }, 'sliding-window attention is not supported'],
    [{ hidden_act: 'gelu' }, 'hidden_act: found "gelu"; supported: "silu"'],
    [{ quantization_config: { quant_method: 'awq' } }, 'quantized weights are not supported'],
  ])('refuses %j', (changes, message) => {
    expect(() => parse(changes)).toThrow(expect.objectContaining({ name: 'UserError' }));
    expect(() => parse(changes)).toThrow(message);
  });

  it('reports all problems at once', () => {
    expect(() => parse({ hidden_act: 'gelu', use_sliding_window: true })).toThrow(
      /config.json: 2 problems\n {2}hidden_act/,
    );
    expect(() => parse({ vocab_size: 1.5, hidden_size: null })).toThrow(
      /2 problems\n {2}vocab_size.*\n {2}hidden_size/,
    );
  });

  it('refuses what is not JSON, and a missing file', async () => {
    expect(() => parseConfigJson('{"a": NaN}', 'x/config.json')).toThrow('x/config.json: not valid JSON');
    expect(() => parseConfigJson('[]', 'x/config.json')).toThrow('expected an object');
    using folder = temporaryFolder();
    await expect(readConfigJson(folder.path)).rejects.toThrow('no such file or folder (ENOENT)');
  });
});
