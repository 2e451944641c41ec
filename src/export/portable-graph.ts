import { maskBias, mergeHeads, repeatQueries, splitHeads, type TreeShape } from './attention.ts';
import { type Attend, type DecoderContext, decoderBody, lmHead } from './decoder.ts';
import type { Value } from './ir.ts';
import { dropUnread } from './unread.ts';

/** Default-domain operator set of model.onnx: old enough for onnxruntime-web and the tools around transformers.js. */
export const PORTABLE_OPSET = 21;

/**
 * `model.onnx`: the decoder in operators of the default ONNX domain alone, with the names of transformers.js and optimum.
 *
 * Inputs: input_ids, position_ids int64 [batch, sequence]; attention_mask int64 [batch, past + sequence], 0 at padding (on
 * the left); past_key_values.{i}.key, .value float32 [batch, kv heads, past, head_dim].
 * Outputs: logits float32 [batch, sequence, vocabulary]; present.{i}.key, .value float32 [batch, kv heads, past + sequence,
 * head_dim].
 */
export function buildPortableModel(context: DecoderContext): void {
  const { builder: b, config } = context;
  const { numHeads, numKvHeads, headDim } = config;
  const tree: TreeShape = { groups: 'batch', rows: 1, length: 'sequence', numHeads, numKvHeads, headDim };
  const ids = b.input('input_ids', 'int64', ['batch', 'sequence']);
  const mask = b.input('attention_mask', 'int64', ['batch', 'past+sequence']);
  const positions = b.input('position_ids', 'int64', ['batch', 'sequence']);
  const past = Array.from({ length: config.numLayers }, (_, layer) => {
    const cache = (kind: string) =>
      b.input(`past_key_values.${layer}.${kind}`, 'float32', ['batch', numKvHeads, 'past', headDim]);
    return { key: cache('key'), value: cache('value') };
  });

  const slots = b.add(b.range('sequence'), b.dim('past')); // (sequence): slot of each query
  const causal = b.lessOrEqual(b.range('past+sequence'), b.unsqueeze(slots, [1])); // (sequence, total)
  const present = b.unsqueeze(b.greater(mask, 0), [1, 2, 3]); // (batch, 1, 1, 1, total)
  const bias = maskBias(b, b.and(present, repeatQueries(b, causal, numHeads / numKvHeads)));

  const attend: Attend = (layer, q, k, v) => {
    const grow = (kind: 'key' | 'value', update: Value) => {
      const rows = b.squeeze(splitHeads(b, update, tree), [2]); // (batch, K, sequence, d)
      const cache = b.concat([past[layer][kind], rows], 2);
      b.output(`present.${layer}.${kind}`, cache);
      return b.unsqueeze(cache, [2]);
    };
    const queries = splitHeads(b, q, tree); // (batch, K, 1, sequence*rep, d)
    const scores = b.matmul(queries, b.transpose(grow('key', k), [0, 1, 2, 4, 3]));
    const attended = b.matmul(b.softmax(b.add(scores, bias)), grow('value', v));
    return mergeHeads(b, attended, tree);
  };
  const flat = (x: Value) => b.reshape(x, ['batch*sequence']);
  const hidden = decoderBody(context, flat(ids), flat(positions), attend);
  b.output('logits', b.reshape(lmHead(context, hidden), ['batch', 'sequence', config.vocabSize]));
  dropUnread(b.graph);
}
