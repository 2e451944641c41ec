import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { messageOf, UserError } from '../errors.ts';
import { fileError } from '../file-error.ts';
import type { ModelConfig } from '../model-config.ts';

const SUPPORTED = 'supported: qwen3 (Qwen3ForCausalLM)';

// An issue's message is the expectation alone: the report adds the field's name before it and what was found behind it.
const text = z.string('a string');
const flag = z.boolean('true or false');
const positiveInteger = z.int('a positive integer').positive('a positive integer');
const positiveNumber = z.number('a positive number').positive('a positive number');
const rope = z.looseObject(
  {
    rope_theta: positiveNumber.optional(),
    rope_type: text.optional(),
    type: text.optional(),
    partial_rotary_factor: z.number('a number').optional(),
  },
  'an object or null',
);

const architecture = z.looseObject(
  { model_type: text, architectures: z.array(text, 'a list of strings').nullish() },
  'an object',
);

/** The fields of transformers' Qwen3Config that decide the computation; where a default is given, it is that of transformers. */
const qwen3 = z.looseObject({
  vocab_size: positiveInteger,
  hidden_size: positiveInteger,
  intermediate_size: positiveInteger,
  num_hidden_layers: positiveInteger,
  num_attention_heads: positiveInteger,
  num_key_value_heads: positiveInteger.nullable(),
  head_dim: positiveInteger.nullish(),
  max_position_embeddings: positiveInteger,
  rms_norm_eps: positiveNumber,
  hidden_act: text.default('silu'),
  attention_bias: flag.default(false),
  tie_word_embeddings: flag.default(false),
  use_sliding_window: flag.nullish(),
  layer_types: z.array(text, 'a list of strings').nullish(),
  rope_theta: positiveNumber.nullish(),
  rope_parameters: rope.nullish(),
  rope_scaling: rope.nullish(),
  partial_rotary_factor: z.number('a number').nullish(),
  quantization_config: z.unknown().optional(),
});

const show = (value: unknown): string => {
  const json = JSON.stringify(value) ?? String(value);
  return json.length > 80 ? `${json.slice(0, 77)}...` : json;
};

function fail(file: string, problems: readonly string[]): never {
  const [first] = problems;
  if (problems.length === 1) throw new UserError(`${file}: ${first}`);
  throw new UserError(`${file}: ${problems.length} problems\n${problems.map((line) => `  ${line}`).join('\n')}`);
}

function parse<T>(schema: z.ZodType<T>, raw: unknown, file: string): T {
  const result = schema.safeParse(raw);
  if (result.success) return result.data;
  const problems = result.error.issues.map((issue) => {
    let value = raw;
    for (const key of issue.path) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
    const found = value === undefined ? 'but it is missing' : `found ${show(value)}`;
    const field = issue.path.length === 0 ? '' : `${issue.path.join('.')}: `;
    return `${field}expected ${issue.message}, ${found}`;
  });
  fail(file, problems);
}

/** The one rope_theta among the places where transformers 4 (top level) and 5 (rope_parameters) keep it. */
function ropeTheta(raw: z.infer<typeof qwen3>, problems: string[]): number {
  const found = new Map<number, string>();
  const places = { rope_parameters: raw.rope_parameters, rope_scaling: raw.rope_scaling };
  if (typeof raw.rope_theta === 'number') found.set(raw.rope_theta, 'rope_theta');
  for (const [place, settings] of Object.entries(places)) {
    if (!settings) continue;
    const type = settings.rope_type ?? settings.type ?? 'default';
    if (type !== 'default') problems.push(`${place}: rope type ${show(type)} is not supported; supported: "default"`);
    const perLayer = Object.keys(settings).find((key) => typeof settings[key] === 'object' && settings[key] !== null);
    if (perLayer !== undefined) problems.push(`${place}.${perLayer}: RoPE settings per layer type are not supported`);
    if (typeof settings.rope_theta === 'number') found.set(settings.rope_theta, `${place}.rope_theta`);
  }
  for (const { partial_rotary_factor: factor } of [raw, raw.rope_parameters ?? {}, raw.rope_scaling ?? {}]) {
    if (typeof factor === 'number' && factor !== 1) {
      problems.push(`partial_rotary_factor: found ${factor}; only 1 (all of head_dim is rotated) is supported`);
    }
  }
  if (found.size > 1) {
    const list = [...found].map(([theta, place]) => `${place} ${theta}`).join(', ');
    problems.push(`rope_theta: given twice with different values: ${list}`);
  }
  const [first] = found.keys();
  if (first === undefined) {
    problems.push('rope_theta: expected a positive number (here, or as rope_parameters.rope_theta), but it is missing');
    return 0;
  }
  return first;
}

/**
 * The shape of the model from the text of a Hugging Face `config.json`, as written by transformers 4 or 5.
 *
 * A missing `head_dim` means hidden_size / num_attention_heads, and a null `num_key_value_heads` means
 * num_attention_heads. Everything that would change the computation and is not implemented is refused by name: other
 * architectures, RoPE scaling, sliding windows, other activations, quantized weights.
 *
 * @param file how to call the file in errors
 */
export function parseConfigJson(json: string, file: string): ModelConfig {
  let raw: unknown;
  try {
    raw = JSON.parse(json);
  } catch (thrown) {
    throw new UserError(`${file}: not valid JSON: ${messageOf(thrown)}`);
  }
  const { model_type, architectures } = parse(architecture, raw, file);
  if (model_type !== 'qwen3') fail(file, [`model_type ${show(model_type)} is not supported; ${SUPPORTED}`]);
  if (architectures && architectures.length > 0 && !architectures.includes('Qwen3ForCausalLM')) {
    fail(file, [`architectures ${show(architectures)} is not supported; ${SUPPORTED}`]);
  }

  const config = parse(qwen3, raw, file);
  const problems: string[] = [];
  const heads = config.num_attention_heads;
  const kvHeads = config.num_key_value_heads ?? heads;
  if (heads % kvHeads !== 0) {
    problems.push(`num_attention_heads: expected a multiple of num_key_value_heads (${kvHeads}), found ${heads}`);
  }
  let headDim = config.head_dim;
  if (!headDim) {
    headDim = config.hidden_size / heads;
    if (!Number.isInteger(headDim)) {
      problems.push(
        `hidden_size: expected a multiple of num_attention_heads (${heads}), as head_dim is not given, found ${config.hidden_size}`,
      );
      headDim = 2;
    }
  }
  if (headDim % 2 !== 0) problems.push(`head_dim: expected an even number (RoPE rotates pairs), found ${headDim}`);
  const theta = ropeTheta(config, problems);
  if (config.hidden_act !== 'silu') {
    problems.push(`hidden_act: found ${show(config.hidden_act)}; supported: "silu"`);
  }
  if (config.use_sliding_window || config.layer_types?.some((type) => type !== 'full_attention')) {
    problems.push('use_sliding_window: sliding-window attention is not supported; only full attention is');
  }
  if (config.quantization_config !== undefined && config.quantization_config !== null) {
    problems.push('quantization_config: quantized weights are not supported; use the bf16, fp16 or fp32 checkpoint');
  }
  if (problems.length > 0) fail(file, problems);

  return {
    modelType: 'qwen3',
    vocabSize: config.vocab_size,
    hiddenSize: config.hidden_size,
    intermediateSize: config.intermediate_size,
    numLayers: config.num_hidden_layers,
    numHeads: heads,
    numKvHeads: kvHeads,
    headDim,
    rmsNormEps: config.rms_norm_eps,
    ropeTheta: theta,
    maxPositions: config.max_position_embeddings,
    tieWordEmbeddings: config.tie_word_embeddings,
    attentionBias: config.attention_bias,
  };
}

/** Reads `config.json` of a Hugging Face directory; see parseConfigJson. */
export async function readConfigJson(directory: string): Promise<ModelConfig> {
  const file = join(directory, 'config.json');
  let json: string;
  try {
    json = await readFile(file, 'utf8');
  } catch (thrown) {
    throw fileError('cannot read', file, thrown);
  }
  return parseConfigJson(json, file);
}
