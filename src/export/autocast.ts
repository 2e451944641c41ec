import type { DType } from '../dtypes.ts';
import { internal } from '../errors.ts';
import { bodiesOf, type Graph, type Node, Value } from './ir.ts';
import { inferNode, type Op } from './operators.ts';

/** Types in which matrix products can be computed. */
export type ComputeDType = 'float32' | 'float16' | 'bfloat16';

/**
 * Mixed precision: rewrites a float32 graph so that its matrix products, forward and backward, have operands and results of
 * `dtype`. Everything between them stays float32: sums, norms, softmax, log-probs, sampling, and all inputs and outputs,
 * so that weights are float32 masters and gradients add up in float32.
 *
 * A value is cast once, in the graph that it comes from: a weight is not cast again in every iteration of a loop. Casts that nothing
 * reads any more are left for dropUnread.
 */
export function autocast(graph: Graph, dtype: 'float16' | 'bfloat16'): void {
  rewrite(graph, dtype);
}

type CastOf = (value: Value) => Value;

/** @param outside casts a value of the graphs around a body */
function rewrite(graph: Graph, dtype: DType, outside?: CastOf): void {
  const nodes: Node[] = [];
  const casts = new Map<Value, Value>();
  const local = new Set<Value>([...graph.inputs.values(), ...graph.initializers.map(({ value }) => value)]);
  const append = (node: Node) => {
    nodes.push(node);
    for (const output of node.outputs) local.add(output);
    // What was widened from the type needs no narrowing: caches, and weights of a checkpoint in that type.
    const [from] = node.inputs;
    if (node.op === 'Cast' && from?.dtype === dtype) casts.set(node.outputs[0], from);
  };
  const cast: CastOf = (value) => {
    if (!local.has(value) && outside !== undefined) return outside(value);
    let low = casts.get(value);
    if (low === undefined) {
      low = new Value(dtype, value.shape);
      append({ op: 'Cast', inputs: [value], attributes: { to: dtype }, outputs: [low] });
      casts.set(value, low);
    }
    return low;
  };
  for (const node of graph.nodes) {
    for (const [, body] of bodiesOf(node)) rewrite(body, dtype, cast);
    if (!isProduct(node)) {
      append(node);
      continue;
    }
    const [a, b, c] = node.inputs;
    const [y] = node.outputs;
    if (a == null || b == null) throw internal(`${node.op} without an operand`);
    // Gemm's C is a float32 sum: it is added afterwards.
    const { op, attributes }: Pick<Node, 'op' | 'attributes'> =
      node.op === 'Gemm' ? { ...node, op: 'FusedMatMul' } : node;
    const inputs = [cast(a), cast(b)];
    const product = new Value(dtype, inferNode(op, inputs, attributes, [])[0].shape);
    append({ op, inputs, attributes, outputs: [product] });
    const wide = c == null ? y : new Value('float32', y.shape);
    append({ op: 'Cast', inputs: [product], attributes: { to: 'float32' }, outputs: [wide] });
    casts.set(wide, product);
    if (c != null) append({ op: 'Add', inputs: [c, wide], attributes: {}, outputs: [y] });
  }
  graph.nodes.splice(0, graph.nodes.length, ...nodes);
}

const PRODUCTS: readonly Op[] = ['MatMul', 'FusedMatMul', 'Gemm'];

/** Products of float32 matrices; the product of a row and a column is a sum over the vocabulary, and stays as it is. */
function isProduct({ op, outputs: [y] }: Node): boolean {
  return PRODUCTS.includes(op) && y.dtype === 'float32' && !(y.shape.at(-1) === 1 && y.shape.at(-2) === 1);
}
