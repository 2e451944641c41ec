import {
  type Keys,
  maskBias,
  mergeHeads,
  repeatQueries,
  splitHeads,
  type TreeShape,
  treeAttention,
  treeAttentionByParts,
} from './attention.ts';
import type { ComputeDType } from './autocast.ts';
import { type Attend, type DecoderContext, decoderBody, lmHead } from './decoder.ts';
import type { TokenCut } from './fixed-truncation.ts';
import { type Dim, multiplyDims, type Value } from './ir.ts';
import { likeliestTokens, logProbsOf, sampleTokens } from './sampling.ts';
import { dropUnread } from './unread.ts';

/** Of both graphs. */
export interface RolloutGraphOptions {
  /** Type of the caches, that of the products; default float32. */
  cache?: ComputeDType;
}

/** What the step graph can do. */
export interface StepGraphOptions extends RolloutGraphOptions {
  /** Cut the tokens that are drawn from by top-k, top-p and min-p: by inputs (true, the default), or always by these. */
  truncation?: boolean | TokenCut;
  /** Layouts and operators that are fast on the CPU, in place of those that a CUDA graph can hold; default false. */
  forCpu?: boolean;
}

/**
 * `rollout_prefill.onnx`: chunks of document trunks into the trunk caches, in place.
 *
 * Inputs: input_ids, position_ids int64 [D, C]; write_index int64 [D], the cache slot of a chunk's first token;
 * trunk.{i}.key, .value [D, K, P, d], of type `cache`. Outputs: trunk.{i}.key.out, .value.out, to be bound onto the inputs.
 * The token at slot s sees slots <= s. Of the last layer only keys and values are computed. Padding writes slots beyond the document, which no branch reads.
 */
export function buildPrefill(context: DecoderContext, { cache: dtype = 'float32' }: RolloutGraphOptions = {}): void {
  const { builder: b, config } = context;
  const { numHeads, numKvHeads, headDim } = config;
  const tree: TreeShape = { groups: 'D', rows: 1, length: 'C', numHeads, numKvHeads, headDim };
  const ids = b.input('input_ids', 'int64', ['D', 'C']);
  const positions = b.input('position_ids', 'int64', ['D', 'C']);
  const writeIndex = b.input('write_index', 'int64', ['D']);
  const caches = cacheInputs(context, 'trunk', dtype, ['D', numKvHeads, 'P', headDim]);

  const slot = b.add(b.unsqueeze(writeIndex, [1, 2, 3, 4]), b.unsqueeze(b.range('C'), [1])); // (D, 1, 1, C, 1)
  const visible = b.lessOrEqual(b.range('P'), slot); // (D, 1, 1, C, P)
  const bias = maskBias(b, repeatQueries(b, visible, numHeads / numKvHeads));

  const attend: Attend = (layer, q, k, v) => {
    const write = (kind: 'key' | 'value', update: Value) => {
      const rows = b.reshape(splitHeads(b, b.cast(update, dtype), tree), ['D', numKvHeads, 'C', headDim]);
      const cache = b.tensorScatter(caches[layer][kind], rows, writeIndex);
      b.output(`trunk.${layer}.${kind}.out`, cache);
      return b.cast(b.unsqueeze(cache, [2]), 'float32'); // (D, K, 1, P, d)
    };
    const own: Keys = { key: write('key', k), value: write('value', v), bias };
    return mergeHeads(b, treeAttention(b, tree, splitHeads(b, q, tree), own), tree);
  };
  decoderBody(context, flat(context, ids), flat(context, positions), attend);
  dropUnread(b.graph);
}

/**
 * `rollout_step.onnx`: m >= 1 tokens for each of R live rows, then sampling and scoring on chosen tokens.
 *
 * The caches have slots for D documents with S rows each, and a live row holds one of them. Only attention works on the
 * whole grid of slots; what is computed per token is computed for live rows.
 * Inputs by row: input_ids, position_ids int64 [R, m]; row_slots int64 [R], the slot document*S + index that it holds.
 * By slot: slot_rows int64 [D, S], the row that holds it; trunk_length int64 [D, S], the row sees trunk slots below it;
 * write_index int64 [D, S], the branch cache slot of the row's first token. For a slot without a row these are any row, 0
 * and 0: what is written there nobody sees.
 * Caches, of type `cache`: trunk.{i}.key, .value [D, K, P, d]; branch.{i}.key, .value [D*K*S, L, d] (document, kv head, row).
 * For N >= 1 chosen tokens: head_rows int64 [N], flat index row*m + k of the token whose hidden state meets the LM head;
 * target_ids int64 [N]; uniforms float32 [N] in [0, 1); and for all of them temperature float32 [], 0 for greedy;
 * with `truncation` by inputs top_k int64 [], 0 for all; top_p float32 [], 1 for all; min_p float32 [], 0 for all (see
 * Truncation).
 * Outputs: sampled_ids int64 [N]; sampled_log_probs, target_log_probs float32 [N] at temperature 1;
 * sampling_log_probs float32 [N], as sampled (0 when greedy); branch.{i}.key.out, .value.out, to be bound onto the inputs.
 */
export function buildStep(
  context: DecoderContext,
  { truncation = true, forCpu = false, cache: dtype = 'float32' }: StepGraphOptions = {},
): void {
  const { builder: b, config } = context;
  const { numHeads, numKvHeads, headDim } = config;
  const rep = numHeads / numKvHeads;
  const tree: TreeShape = { groups: 'D', rows: 'S', length: 'm', numHeads, numKvHeads, headDim };
  const ids = b.input('input_ids', 'int64', ['R', 'm']);
  const positions = b.input('position_ids', 'int64', ['R', 'm']);
  const rowSlots = b.input('row_slots', 'int64', ['R']);
  const slotRows = b.input('slot_rows', 'int64', ['D', 'S']);
  const trunkLength = b.input('trunk_length', 'int64', ['D', 'S']);
  const writeIndex = b.input('write_index', 'int64', ['D', 'S']);
  const trunk = cacheInputs(context, 'trunk', dtype, ['D', numKvHeads, 'P', headDim]);
  // Document, kv head and row are one axis because TensorScatter takes one write index per first axis.
  const branch = cacheInputs(context, 'branch', dtype, ['B', 'L', headDim]);

  // On the CPU each query meets its own keys as a vector (see treeAttention); elsewhere all of a row's as a matrix.
  const vectors = (front: readonly Dim[]): Dim[] => (forCpu ? [...front, 1] : [...front]);
  const perRow = (x: Value) => b.unsqueeze(x, [1, 3, 4]); // (D, S) -> (D, 1, S, 1, 1)
  const perQuery = (bias: Value) => (forCpu ? b.unsqueeze(bias, [4]) : bias); // (.., queries, keys) -> (.., queries, 1, keys)
  const trunkBias = perQuery(maskBias(b, b.less(b.range('P'), perRow(trunkLength)))); // (D, 1, S, 1, [1,] P)
  const slot = b.add(perRow(writeIndex), b.unsqueeze(b.range('m'), [1])); // (D, 1, S, m, 1)
  const visible = b.lessOrEqual(b.range('L'), slot); // (D, 1, S, m, L)
  const ownBias = perQuery(maskBias(b, repeatQueries(b, visible, rep))); // (D, 1, S, m*rep, [1,] L)
  const cacheRows = b.reshape(b.expand(b.unsqueeze(writeIndex, [1]), ['D', numKvHeads, 'S']), ['B']);

  // Between live rows and slots one gather of whole heads, by indices that all layers share. They are looked up in tables, not
  // calculated from dims: those are known on the host, and on a device would have to be copied in each step.
  const table = (shape: readonly Dim[]) => {
    const size = multiplyDims(shape);
    b.defineDim(
      String(size),
      shape.map((dim) => b.dim(dim)).reduce((product, dim) => b.mul(product, dim)),
    );
    return b.reshape(b.range(size), shape);
  };
  const tokens = table(['R', 'm']);
  const heads = b.range(numKvHeads);
  const headOf = (of: Value) => b.add(b.mul(of, numKvHeads), b.unsqueeze(heads, [1, 2])); // in [R*m*K]
  const slotHeads = headOf(b.unsqueeze(b.gather(tokens, slotRows), [1])); // (D, 1, S, m) -> (D, K, S, m)
  const cacheHeads = b.reshape(slotHeads, ['B', 'm']);
  // Slot (document, row) and head k lie at (document*K + k)*S + row of the grid.
  const grid = b.reshape(b.transpose(table(['D', numKvHeads, 'S']), [0, 2, 1]), ['slots', numKvHeads]); // (D*S, K)
  const lanes = b.reshape(table(['D', numKvHeads, 'S', 'm']), ['lanes', 'm']); // (D*K*S, m)
  const rowHeads = b.reshape(b.transpose(b.gather(lanes, b.gather(grid, rowSlots)), [0, 2, 1]), ['R*m', numKvHeads]);
  const headRows = (x: Value, width: number) => b.reshape(x, ['heads', width]);

  const attend: Attend = (layer, q, k, v) => {
    const write = (kind: 'key' | 'value', update: Value) => {
      const rows = b.gather(headRows(b.cast(update, dtype), headDim), cacheHeads); // (B, m, d)
      const cache = b.tensorScatter(branch[layer][kind], rows, cacheRows);
      b.output(`branch.${layer}.${kind}.out`, cache);
      return b.cast(b.reshape(cache, [...vectors(['D', numKvHeads, 'S']), 'L', headDim]), 'float32');
    };
    const own: Keys = { key: write('key', k), value: write('value', v), bias: ownBias };
    const { key, value } = trunk[layer];
    const prefix: Keys = { key: b.cast(key, 'float32'), value: b.cast(value, 'float32'), bias: trunkBias };
    const slots = b.gather(headRows(q, rep * headDim), slotHeads); // (D, K, S, m, rep*d)
    const queries = b.reshape(slots, [...vectors(['D', numKvHeads, 'S', multiplyDims(['m', rep])]), headDim]);
    const attention = forCpu ? treeAttention : treeAttentionByParts;
    const attended = attention(b, tree, queries, own, prefix);
    const rows = b.gather(headRows(attended, rep * headDim), rowHeads); // (R*m, K, rep*d)
    return b.reshape(rows, ['R*m', numHeads * headDim]);
  };
  const hidden = decoderBody(context, flat(context, ids), flat(context, positions), attend);

  const chosen = b.input('head_rows', 'int64', ['N']);
  const targets = b.input('target_ids', 'int64', ['N']);
  const uniforms = b.input('uniforms', 'float32', ['N']);
  const inputs = () => ({
    topK: b.input('top_k', 'int64', []),
    topP: b.input('top_p', 'float32', []),
    minP: b.input('min_p', 'float32', []),
    forCpu,
  });
  const sampling = {
    temperature: b.input('temperature', 'float32', []),
    ...(truncation !== false && { truncation: truncation === true ? inputs() : truncation }),
  };
  const logits = lmHead(context, b.gather(hidden, chosen)); // (N, V)
  const likeliest = likeliestTokens(b, logits);
  const logProbs = logProbsOf(b, logits, likeliest);
  const sampled = sampleTokens(b, logits, likeliest, uniforms, sampling);
  b.output('sampled_ids', sampled.tokens);
  b.output('sampled_log_probs', logProbs(sampled.tokens));
  b.output('sampling_log_probs', sampled.logProbs);
  b.output('target_log_probs', logProbs(targets));
  dropUnread(b.graph);
}

function cacheInputs({ builder: b, config }: DecoderContext, name: string, dtype: ComputeDType, shape: readonly Dim[]) {
  return Array.from({ length: config.numLayers }, (_, layer) => ({
    key: b.input(`${name}.${layer}.key`, dtype, shape),
    value: b.input(`${name}.${layer}.value`, dtype, shape),
  }));
}

const flat = ({ builder: b }: DecoderContext, x: Value): Value => b.reshape(x, [multiplyDims(x.shape)]);
