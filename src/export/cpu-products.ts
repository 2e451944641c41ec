import { type Attributes, type Graph, type Node, Value } from './ir.ts';
import { inferNode, type Op } from './operators.ts';

/**
 * Rewrites A^T B + C, the gradient of a weight, for the CPU, where ONNX Runtime's kernel (MLAS, 1.30) is slow to pack a left
 * operand that is to be transposed: the narrower operand is transposed beforehand, and where that is B, the result is
 * transposed back, as B^T A = (A^T B)^T. docs/log.md has the figures.
 *
 * Products of equally wide operands stay, for transposes would cost what is won; so does everything in a Loop: the loss head's
 * weight is large, and so would be one copy more of its gradient.
 */
export function arrangeProducts(graph: Graph): void {
  const nodes: Node[] = [];
  const append = (op: Op, inputs: readonly Value[], attributes: Attributes = {}, output?: Value): Value => {
    const [{ dtype, shape }] = inferNode(op, inputs, attributes, []);
    const made = output ?? new Value(dtype, shape);
    nodes.push({ op, inputs, attributes, outputs: [made] });
    return made;
  };
  // By way of three axes: ONNX Runtime would make the transpose of a matrix a flag of the product again.
  const transpose = (x: Value): Value => {
    const split = append('Unsqueeze', [x], { axes: [1] }); // (rows, 1, columns)
    return append('Squeeze', [append('Transpose', [split], { perm: [1, 2, 0] })], { axes: [0] });
  };
  const transposes = new Map<Value, Value>();
  const transposed = (x: Value): Value => {
    const made = transposes.get(x) ?? transpose(x);
    transposes.set(x, made);
    return made;
  };
  for (const node of graph.nodes) {
    const [a, b, c] = node.inputs;
    const [rows, columns] = node.outputs[0].shape;
    if (!isTransposedProduct(node) || a == null || b == null || c == null || rows === columns) {
      nodes.push(node);
      continue;
    }
    if (rows > columns) append('Add', [c, transpose(append('MatMul', [transposed(b), a]))], {}, node.outputs[0]);
    // Not MatMul and Add: ONNX Runtime would make one new node of them, and run it at another time (execution-order.ts).
    else append('Gemm', [transposed(a), b, c], { ...node.attributes, transA: 0 }, node.outputs[0]);
  }
  graph.nodes.splice(0, graph.nodes.length, ...nodes);
}

/** A^T B + C without a factor. */
const isTransposedProduct = ({ op, attributes: { transA, transB, alpha } }: Node): boolean =>
  op === 'Gemm' && transA === 1 && transB !== 1 && typeof alpha === 'object' && 'float' in alpha && alpha.float === 1;
