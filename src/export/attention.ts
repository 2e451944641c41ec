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
  const trunkScores = scoresOnTrunk(b, tree, q, trunk);
  const [trunkLength, ownLength] = [trunkScores, ownScores].map(({ shape }) => shape[shape.length - 1]);
  const probabilities = b.softmax(b.concat([trunkScores, ownScores], -1)); // (.., trunkLength + ownLength)
  if (probabilities.shape.at(-1) !== addDims([trunkLength, ownLength]))
    throw internal('keys of trunk and row do not add up');
  const [onTrunk, onOwn] = b.split(probabilities, [trunkLength, ownLength], -1);
  const output = b.add(readTrunk(b, tree, onTrunk, trunk), b.matmul(onOwn, own.value));
  return { output, onOwn, onTrunk };
}

/**
 * treeAttention with a softmax over the trunk's keys and one over the row's own, which are weighed by how much of the whole each
 * part has: a Concat and a Split of unequal parts could not be captured as a CUDA graph. Queries must see the first key of either
 * part: the sums of the parts are told by it, to within rounding of how far its score lies from the logarithm of the sum.
 */
export function treeAttentionByParts(b: GraphBuilder, tree: TreeShape, q: Value, own: Keys, trunk: Keys): Value {
  const softmaxOf = (scores: Value) => {
    const logProbs = b.logSoftmax(scores);
    const first = (x: Value) => b.slice(x, -1, 0, 1);
    return { probabilities: b.exp(logProbs), logSum: b.sub(first(scores), first(logProbs)) };
  };
  const onTrunk = softmaxOf(scoresOnTrunk(b, tree, q, trunk));
  const onOwn = softmaxOf(b.add(b.fusedMatMul(q, own.key, { transB: true }), own.bias));
  const share = b.sigmoid(b.sub(onTrunk.logSum, onOwn.logSum)); // (.., 1), of the trunk
  const fromTrunk = readTrunk(b, tree, onTrunk.probabilities, trunk);
  const fromOwn = b.matmul(onOwn.probabilities, own.value);
  return b.add(fromOwn, b.mul(b.sub(fromTrunk, fromOwn), share));
}

/** All queries of a document meet its trunk in one GEMM per key/value head: [.., length*rep, (1,) trunkLength]. */
function scoresOnTrunk(b: GraphBuilder, tree: TreeShape, q: Value, trunk: Keys): Value {
  const front = q.shape.slice(0, -1);
  const rows = b.reshape(q, [...flatFront(tree, front), tree.headDim]);
  const scores = b.fusedMatMul(rows, trunk.key, { transB: true });
  return b.add(b.reshape(scores, [...front, trunk.key.shape[2]]), trunk.bias);
}

/** Values of the trunk, weighed: [.., trunkLength] -> [.., d]. */
function readTrunk(b: GraphBuilder, tree: TreeShape, weights: Value, trunk: Keys): Value {
  const front = weights.shape.slice(0, -1);
  const rows = b.reshape(weights, [...flatFront(tree, front), trunk.value.shape[2]]);
  return b.reshape(b.matmul(rows, trunk.value), [...front, tree.headDim]);
}

const flatFront = ({ groups, numKvHeads }: TreeShape, front: readonly Dim[]): Dim[] => [
  ...[groups, numKvHeads],
  multiplyDims(front.slice(2)),
];

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
