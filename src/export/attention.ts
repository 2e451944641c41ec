import { internal } from '../errors.ts';
import type { GraphBuilder } from './builder.ts';
import { addDims, type Dim, multiplyDims, type Value } from './ir.ts';

/**
 * Attention over a prefix tree. Every use is a case of one function: `groups` documents, each with `rows` branches of
 * `length` query tokens; queries see the keys of their own row and, where there is one, the trunk of their document.
 * - trunk of a document (prefill, training): one row, no trunk;
 * - decoding and scoring: rows are the branches, own keys come from the branch cache;
 * - training: rows are the branches, own keys are those just computed.
 *
 * Heads are laid out so that no matrix of scores is ever transposed: queries [groups, K, rows, length*rep, d] (token
 * major, then the rep = H / K query heads of a key/value head), own keys [groups, K, rows, ownLength, d], trunk keys
 * [groups, K, trunkLength, d].
 */
export interface TreeShape {
  groups: Dim;
  rows: Dim;
  length: Dim;
  numHeads: number;
  numKvHeads: number;
  headDim: number;
}

export interface Keys {
  key: Value;
  value: Value;
  /** Added to the scores: 0 where a query may look, MASKED where not. Broadcasts to [groups, K, rows, length*rep, keys]. */
  bias: Value;
}

/** Far below any score, and finite: a row of nothing but masked keys gives no NaN. */
const MASKED = -1e9;

/** allowed (bool) -> additive bias. */
export const maskBias = (b: GraphBuilder, allowed: Value): Value => b.where(allowed, b.scalar('float32', 0), MASKED);

/** Token rows [groups*rows*length, heads*d], flat or not, -> [groups, K, rows, length*(heads/K), d]. */
export function splitHeads(b: GraphBuilder, x: Value, tree: TreeShape): Value {
  const { groups, rows, length, numKvHeads: K, headDim: d } = tree;
  const width = x.shape.at(-1);
  if (typeof width !== 'number') throw internal('the width of heads must be static');
  const rep = width / (K * d);
  const split = b.reshape(x, [groups, rows, length, K, rep, d]);
  return b.reshape(b.transpose(split, [0, 3, 1, 2, 4, 5]), [groups, K, rows, multiplyDims([length, rep]), d]);
}

/** The inverse: [groups, K, rows, length*rep, d] -> [groups*rows*length, K*rep*d]. */
export function mergeHeads(b: GraphBuilder, x: Value, tree: TreeShape): Value {
  const { groups, rows, length, numKvHeads: K, numHeads, headDim: d } = tree;
  const split = b.reshape(x, [groups, K, rows, length, numHeads / K, d]);
  return b.reshape(b.transpose(split, [0, 2, 3, 1, 4, 5]), [multiplyDims([groups, rows, length]), numHeads * d]);
}

/**
 * softmax(q k^T + bias) v over own and trunk keys together.
 *
 * For few queries a row, q may be [groups, K, rows, length*rep, 1, d] with own keys [groups, K, rows, 1, ownLength, d]: each
 * query then meets its own keys as a vector, for which the CPU need not repack the keys.
 * @param q [groups, K, rows, length*rep, d]
 * @returns the same shape
 */
export function treeAttention(b: GraphBuilder, tree: TreeShape, q: Value, own: Keys, trunk?: Keys): Value {
  return treeAttentionParts(b, tree, q, own, trunk).output;
}

/** treeAttention with the probabilities: onOwn [.., length*rep, ownLength], onTrunk [.., length*rep, trunkLength]. */
export function treeAttentionParts(
  b: GraphBuilder,
  tree: TreeShape,
  q: Value,
  own: Keys,
  trunk?: Keys,
): { output: Value; onOwn: Value; onTrunk?: Value } {
  const ownScores = b.add(b.fusedMatMul(q, own.key, { transB: true }), own.bias);
  if (trunk === undefined) {
    const onOwn = b.softmax(ownScores);
    return { output: b.matmul(onOwn, own.value), onOwn };
  }

  // All queries of a document meet its trunk in one GEMM per key/value head.
  const { groups, numKvHeads: K, headDim: d } = tree;
  const front = q.shape.slice(0, -1);
  const flat = [groups, K, multiplyDims(front.slice(2))];
  const trunkLength = trunk.key.shape[2];
  const [ownLength] = own.key.shape.slice(-2);
  const flatScores = b.fusedMatMul(b.reshape(q, [...flat, d]), trunk.key, { transB: true });
  const trunkScores = b.add(b.reshape(flatScores, [...front, trunkLength]), trunk.bias);
  const probabilities = b.softmax(b.concat([trunkScores, ownScores], -1)); // (.., trunkLength + ownLength)
  if (probabilities.shape.at(-1) !== addDims([trunkLength, ownLength]))
    throw internal('keys of trunk and row do not add up');
  const [onTrunk, onOwn] = b.split(probabilities, [trunkLength, ownLength], -1);
  const fromTrunk = b.matmul(b.reshape(onTrunk, [...flat, trunkLength]), trunk.value);
  const output = b.add(b.reshape(fromTrunk, [...front, d]), b.matmul(onOwn, own.value));
  return { output, onOwn, onTrunk };
}

/** bool [length*rep, length]: token l sees keys <= l; rep query heads of a token stand together. */
export function causalMask(b: GraphBuilder, length: Dim, rep: number): Value {
  const positions = b.range(length);
  const causal = b.lessOrEqual(b.unsqueeze(positions, [0]), b.unsqueeze(positions, [1])); // (query, key)
  return repeatQueries(b, causal, rep);
}

/** [..., length, keys] -> [..., length*rep, keys], each query row rep times. */
export function repeatQueries(b: GraphBuilder, mask: Value, rep: number): Value {
  if (rep === 1) return mask;
  const [length, keys] = mask.shape.slice(-2);
  const front = mask.shape.slice(0, -2);
  const tall = b.expand(b.unsqueeze(mask, [-2]), [...front, length, rep, keys]);
  return b.reshape(tall, [...front, multiplyDims([length, rep]), keys]);
}
