import { TRUNK_BLOCKS } from '../tree-batch.ts';
import {
  causalMask,
  type Keys,
  maskBias,
  mergeHeads,
  repeatQueries,
  splitHeads,
  type TreeShape,
  treeAttentionParts,
} from './attention.ts';
import type { GraphBuilder } from './builder.ts';
import type { Attend } from './decoder.ts';
import { once, type Rule, single } from './gradient-rule.ts';
import { addDims, type Dim, multiplyDims, type Value } from './ir.ts';

/**
 * Attention of a prefix-tree batch over flat token rows, all D*P trunk tokens, then all D*R*L branch tokens. Made for
 * training: the gradient is closed-form, and a trunk's queries go in blocks, each of which attends only to itself and what
 * comes before it: that spares most of the masked half.
 * @param trunk shape of the trunks, groups D, one row of length P >= TRUNK_BLOCKS
 * @param branch shape of the branches, groups D, rows R of length L
 * @param trunkLengths int64 [D, R]: a branch sees that many trunk tokens
 */
export function treeBatchAttention(b: GraphBuilder, trunk: TreeShape, branch: TreeShape, trunkLengths: Value): Attend {
  const rep = trunk.numHeads / trunk.numKvHeads;
  const sizes = [trunk, branch].map(({ groups, rows, length }) => multiplyDims([groups, rows, length]));
  const blocks = blockDims(b, trunk.length, TRUNK_BLOCKS);
  const queries = blocks.map((size) => {
    const dim = multiplyDims([size, rep]);
    if (rep > 1) b.defineDim(String(dim), b.mul(b.dim(size), b.int64s([rep])));
    return dim;
  });
  const positions = b.split(b.range(trunk.length), blocks, 0);
  const blockBias = blocks.map((_, i) => {
    const keys = b.unsqueeze(b.concat(positions.slice(0, i + 1), 0), [0]);
    return maskBias(b, repeatQueries(b, b.lessOrEqual(keys, b.unsqueeze(positions[i], [1])), rep));
  });
  const branchCausal = maskBias(b, causalMask(b, branch.length, rep)); // (L*rep, L)
  const visible = b.less(b.range(trunk.length), b.unsqueeze(trunkLengths, [1, 3, 4])); // (D, 1, R, 1, P)
  const trunkVisible = maskBias(b, visible);

  return (_layer, q, k, v) => {
    const [[trunkQ, branchQ], [trunkK, branchK], [trunkV, branchV]] = [q, k, v].map((x) => {
      const [onTrunk, onBranch] = b.split(x, sizes, 0);
      return [splitHeads(b, onTrunk, trunk), splitHeads(b, onBranch, branch)];
    });
    const keyBlocks = b.split(trunkK, blocks, 3);
    const valueBlocks = b.split(trunkV, blocks, 3);
    const outputs = b.split(trunkQ, queries, 3).map((block, i) => {
      const upTo = (parts: readonly Value[]) => b.concat(parts.slice(0, i + 1), 3);
      const own = { key: upTo(keyBlocks), value: upTo(valueBlocks), bias: blockBias[i] };
      return attend(b, trunk, block, own);
    });
    const prefix = { key: b.squeeze(trunkK, [2]), value: b.squeeze(trunkV, [2]), bias: trunkVisible };
    const own = { key: branchK, value: branchV, bias: branchCausal };
    const onTrunk = mergeHeads(b, b.concat(outputs, 3), trunk);
    return b.concat([onTrunk, mergeHeads(b, attend(b, branch, branchQ, own, prefix), branch)], 0);
  };
}

/** Names of `count` dims that add up to `length` and differ by 1 at most; sums of the first few are known. */
function blockDims(b: GraphBuilder, length: Dim, count: number): Dim[] {
  const end = (i: number) => b.div(b.mul(b.dim(length), b.int64s([i])), b.int64s([count]));
  return Array.from({ length: count }, (_, i) => {
    const name = `${length}_${i}`;
    const sums = String(addDims(Array.from({ length: i + 1 }, (_, k) => `${length}_${k}`)));
    b.defineDim(name, b.sub(end(i + 1), end(i)));
    if (i > 0) b.defineDim(sums, end(i + 1));
    return name;
  });
}

/** treeAttention with its closed-form gradient. ONNX Runtime gets products over 0 queries wrong: there must be some. */
function attend(b: GraphBuilder, tree: TreeShape, q: Value, own: Keys, trunk?: Keys): Value {
  const inputs = [q, own.key, own.value, ...(trunk === undefined ? [] : [trunk.key, trunk.value])];
  const forward = () => {
    const { output, onOwn, onTrunk } = treeAttentionParts(b, tree, q, own, trunk);
    return [output, onOwn, ...(onTrunk === undefined ? [] : [onTrunk])];
  };
  return b.composite(inputs, forward, attentionRule(tree));
}

/**
 * o = p v, p = softmax(s), s = q k^T + bias:
 *   dv = p^T do     ds = p (do v^T - sum(do o))     dq = ds k     dk = ds^T q
 * where sum(dp p) over all keys is sum(do o) over head_dim (Dao et al., FlashAttention, arXiv 2205.14135, appendix B.2):
 * two passes over the scores. Keys of the row itself and of the trunk are two products with one sum.
 */
const attentionRule = (tree: TreeShape): Rule =>
  single(({ b, x: [q, ownKey, ownValue, trunkKey, trunkValue], y: [o, onOwn, onTrunk], dy }) => {
    const dot = once(() => b.reduceSum(b.mul(dy, o), [-1])); // (.., queries, 1)
    const parts = (query: Value, key: Value, value: Value, p: Value, dOut: () => Value, sum: () => Value) => {
      const ds = once(() => b.mul(p, b.sub(b.fusedMatMul(dOut(), value, { transB: true }), sum())));
      return {
        dq: () => b.matmul(ds(), key),
        dk: () => b.fusedMatMul(ds(), query, { transA: true }),
        dv: () => b.fusedMatMul(p, dOut(), { transA: true }),
      };
    };
    const onRow = parts(q, ownKey, ownValue, onOwn, () => dy, dot);
    if (trunkKey === undefined) return [onRow.dq, onRow.dk, onRow.dv];

    const { groups, rows, numKvHeads: K } = tree;
    const flat = (x: Value) => b.reshape(x, [groups, K, multiplyDims([rows, q.shape[3]]), x.shape[4]]);
    const onPrefix = parts(
      flat(q),
      trunkKey,
      trunkValue,
      flat(onTrunk),
      once(() => flat(dy)),
      once(() => flat(dot())),
    );
    const dq = () => b.add(onRow.dq(), b.reshape(onPrefix.dq(), q.shape));
    return [dq, onRow.dk, onRow.dv, onPrefix.dk, onPrefix.dv];
  });
