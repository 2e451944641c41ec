import { adapterNames, isLoraTarget, type LoraConfig, loraScale } from '../lora.ts';
import type { ModelConfig } from '../model-config.ts';
import type { GraphBuilder } from './builder.ts';
import { recomputed } from './gradient-recompute.ts';
import type { Value } from './ir.ts';
import { swiglu } from './swiglu.ts';
import type { WeightSource } from './weights.ts';

/**
 * `portable`: operators of the default ONNX domain only. `fused`: ONNX Runtime's FusedMatMul, which reads [out, in]
 * weights without a transpose, SimplifiedLayerNormalization, and ONNX's RotaryEmbedding of opset 23.
 */
export type OperatorFlavor = 'portable' | 'fused';

export interface DecoderContext {
  builder: GraphBuilder;
  config: ModelConfig;
  weight: WeightSource;
  flavor: OperatorFlavor;
  /** Adapters beside the weights, which `weight` knows too. */
  lora?: LoraConfig;
  /** Training: keep each layer's input alone for the backward pass, and compute the layer again there. */
  recompute?: boolean;
}

/**
 * Attention of one layer over flat token rows: q [T, H*d], k and v [T, K*d], q and k normalised and rotated, q divided by
 * sqrt(d): scores are q k^T. Returns [T, H*d].
 */
export type Attend = (layer: number, q: Value, k: Value, v: Value) => Value;

/**
 * The Qwen3 decoder without its final norm and head.
 * @param ids int64 [T], token rows in any order: only `attend` knows how they relate
 * @param positions int64 [T], for RoPE
 * @returns hidden states float32 [T, hidden] after the last layer
 */
export function decoderBody(context: DecoderContext, ids: Value, positions: Value, attend: Attend): Value {
  const { builder: b, config, weight } = context;
  const angles = rotaryAngles(context, positions);
  const rotateKeys = rotation(context, angles);
  const rotateQueries = rotation(context, angles, 1 / Math.sqrt(config.headDim));
  const applyLayer = (layer: number, input: Value): Value => {
    const prefix = `model.layers.${layer}`;
    const h = rmsNorm(context, input, `${prefix}.input_layernorm.weight`);
    const heads = (projection: string, count: number) => {
      const y = linear(context, h, `${prefix}.self_attn.${projection}_proj`, config.attentionBias);
      return b.reshape(y, [y.shape[0], count, 1, config.headDim]);
    };
    const normed = (projection: 'q' | 'k', count: number, rotate: (x: Value) => Value) => {
      const y = rmsNorm(context, heads(projection, count), `${prefix}.self_attn.${projection}_norm.weight`);
      return b.reshape(rotate(y), [ids.shape[0], count * config.headDim]);
    };
    const q = normed('q', config.numHeads, rotateQueries);
    const k = normed('k', config.numKvHeads, rotateKeys);
    const v = linear(context, h, `${prefix}.self_attn.v_proj`, config.attentionBias);
    const attended = attend(layer, q, k, v);
    const x = b.add(input, linear(context, attended, `${prefix}.self_attn.o_proj`, config.attentionBias));

    const h2 = rmsNorm(context, x, `${prefix}.post_attention_layernorm.weight`);
    const gate = linear(context, h2, `${prefix}.mlp.gate_proj`);
    const up = linear(context, h2, `${prefix}.mlp.up_proj`);
    return b.add(x, linear(context, swiglu(b, gate, up), `${prefix}.mlp.down_proj`));
  };
  let x = b.gather(weight('model.embed_tokens.weight'), ids); // (T, hidden)
  for (let layer = 0; layer < config.numLayers; layer++) {
    const apply = (input: Value) => applyLayer(layer, input);
    x = context.recompute ? recomputed(b, x, apply) : apply(x);
  }
  return x;
}

/** Final norm and LM head: hidden [N, hidden] -> logits [N, V]. */
export function lmHead(context: DecoderContext, hidden: Value): Value {
  const { builder: b, weight, config, flavor } = context;
  return multiply(b, flavor, finalNorm(context, hidden), weight(headWeight(config)));
}

/** [N, hidden] -> [N, hidden]. */
export const finalNorm = (context: DecoderContext, hidden: Value): Value =>
  rmsNorm(context, hidden, 'model.norm.weight');

/** Name of the weight [V, hidden] that makes logits of normed hidden states. */
export const headWeight = ({ tieWordEmbeddings }: ModelConfig): string =>
  tieWordEmbeddings ? 'model.embed_tokens.weight' : 'lm_head.weight';

function linear(context: DecoderContext, x: Value, name: string, bias = false): Value {
  const { builder: b, weight, flavor, lora } = context;
  const w = weight(`${name}.weight`); // (out, in)
  const y = multiply(b, flavor, x, w);
  const biased = bias ? b.add(y, weight(`${name}.bias`)) : y;
  return lora !== undefined && isLoraTarget(name, lora) ? b.add(biased, adapter(context, lora, x, name)) : biased;
}

/** (alpha / rank) (x A^T) B^T. */
function adapter({ builder: b, weight, flavor }: DecoderContext, lora: LoraConfig, x: Value, name: string): Value {
  const names = adapterNames(name);
  const [down, up] = [weight(names.a), weight(names.b)]; // (rank, in), (out, rank)
  return multiply(b, flavor, b.mul(multiply(b, flavor, x, down), loraScale(lora)), up);
}

/** x w^T, w [out, in]. */
export const multiply = (b: GraphBuilder, flavor: OperatorFlavor, x: Value, w: Value): Value =>
  flavor !== 'portable' ? b.fusedMatMul(x, w, { transB: true }) : b.matmul(x, b.transpose(w, [1, 0]));

function rmsNorm({ builder: b, weight, config, flavor }: DecoderContext, x: Value, name: string): Value {
  if (flavor !== 'portable') return b.simplifiedLayerNormalization(x, weight(name), config.rmsNormEps)[0];
  const meanSquare = b.reduceMean(b.mul(x, x), [-1]);
  const normed = b.div(x, b.sqrt(b.add(meanSquare, config.rmsNormEps)));
  return b.mul(normed, weight(name));
}

interface Angles {
  cos: Value;
  sin: Value;
}

/** cos and sin [T, 1, d/2] of RoPE at int64 positions [T]. */
function rotaryAngles({ builder: b, config }: DecoderContext, positions: Value): Angles {
  const half = config.headDim / 2;
  // Frequencies are rounded to float32 before they meet a position, as PyTorch does.
  const frequencies = Array.from({ length: half }, (_, i) =>
    Math.fround(config.ropeTheta ** (-(2 * i) / config.headDim)),
  );
  const angles = b.mul(
    b.unsqueeze(b.cast(positions, 'float32'), [1, 2]), // (T, 1, 1)
    b.constant('float32', frequencies, [1, 1, half]),
  );
  return { cos: b.cos(angles), sin: b.sin(angles) };
}

/** RoPE (halves convention), times `scale`, as a function on float32 [T, heads, 1, d]. */
function rotation({ builder: b, config, flavor }: DecoderContext, angles: Angles, scale = 1): (x: Value) => Value {
  const scaled = (x: Value) => (scale === 1 ? x : b.mul(x, scale));
  const [cos, sin] = [scaled(angles.cos), scaled(angles.sin)];
  if (flavor === 'fused') return (x) => b.rotaryEmbedding(x, cos, sin);

  // The sign of rotate-half(x) = [-x2, x1] is folded into the sine.
  const table = (first: Value, second: Value) => b.unsqueeze(b.concat([first, second], -1), [1]); // (T, 1, 1, d)
  const [cosines, signedSines] = [table(cos, cos), table(b.neg(sin), sin)];
  const half = config.headDim / 2;
  return (x) => {
    const [x1, x2] = b.split(x, [half, half], -1);
    return b.add(b.mul(x, cosines), b.mul(b.concat([x2, x1], -1), signedSines));
  };
}
