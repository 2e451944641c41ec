import { isFloat } from '../dtypes.ts';
import { internal } from '../errors.ts';
import type { GraphBuilder } from './builder.ts';
import { type Part, zerosLike } from './gradient-rule.ts';
import { GRADIENT_RULES } from './gradient-rules.ts';
import { type Node, type Shape, sameShape, type Value } from './ir.ts';

/**
 * Reverse-mode differentiation: appends to the builder's graph the nodes that compute d output / d wrt[i].
 *
 * Derivatives are total: a value of `wrt` that is computed from another one of them still passes gradient on to it.
 * @param output scalar of floating-point dtype, shape []; any shape when `seed` is given
 * @param wrt floating-point values of any origin (inputs, initializers, node outputs)
 * @param seed d loss / d output, of output's shape; 1 by default
 * @param onto what the gradient of a value of `wrt` is added to; for values that no node makes
 * @returns one value per `wrt`, in that order, of its dtype and shape; zeros where `output` does not depend on it
 */
export function gradients(
  b: GraphBuilder,
  output: Value,
  wrt: readonly Value[],
  seed?: Value,
  onto: ReadonlyMap<Value, Value> = new Map(),
): Value[] {
  for (const value of [output, ...wrt]) {
    if (!isFloat(value.dtype)) throw internal(`no gradient of or with respect to a value of type ${value}`);
  }
  const start = seed ?? b.scalar(output.dtype, 1);
  if (!sameShape(start.shape, output.shape) || start.dtype !== output.dtype) {
    throw internal(`a gradient of ${output} cannot start from ${start}`);
  }
  // A snapshot: the walk itself appends nodes.
  const nodes = [...b.nodes];
  const varying = dependents(nodes, wrt);
  const sums = new Map(onto);
  if (varying.has(output)) sums.set(output, start);
  for (let i = nodes.length - 1; i >= 0; i--) {
    const node = nodes[i];
    const composite = b.composites.get(node);
    if (composite !== undefined) i = composite.start;
    const { inputs, outputs } = composite ?? node;
    const dys = outputs.map((y) => sums.get(y));
    if (dys.every((dy) => dy === undefined) || !inputs.some((x) => x !== null && varying.has(x))) continue;
    const parts =
      composite === undefined
        ? differentiate(b, node, dys, varying, sums)
        : composite.rule({ b, x: composite.inputs, y: outputs, dys, attributes: {}, varying, sums });
    inputs.forEach((x, k) => {
      const part = parts[k];
      if (x !== null && part !== undefined && varying.has(x)) sums.set(x, accumulate(b, x, sums.get(x), part));
    });
  }
  return wrt.map((value) => sums.get(value) ?? zerosLike(b, value));
}

/** The values a gradient can flow through: `wrt` and all that is computed from them by differentiable operators. */
function dependents(nodes: readonly Node[], wrt: readonly Value[]): ReadonlySet<Value> {
  const varying = new Set(wrt);
  for (const { op, inputs, outputs } of nodes) {
    if (GRADIENT_RULES[op] === 'stops' || !inputs.some((x) => x !== null && varying.has(x))) continue;
    for (const y of outputs) if (isFloat(y.dtype)) varying.add(y);
  }
  return varying;
}

function differentiate(
  b: GraphBuilder,
  node: Node,
  dys: readonly (Value | undefined)[],
  varying: ReadonlySet<Value>,
  sums: ReadonlyMap<Value, Value>,
): readonly (Part | undefined)[] {
  const rule = GRADIENT_RULES[node.op];
  if (rule === 'stops') return [];
  if (rule === 'missing') throw internal(`operator ${node.op} has no gradient rule, and a gradient needs one`);
  const x = node.inputs.map((input) => {
    if (input === null) throw internal(`no gradient rule for ${node.op} with an input left out`);
    return input;
  });
  return rule({ b, x, y: node.outputs, dys, attributes: node.attributes, varying, sums });
}

/** Adds one part to the gradient of x. Here, and only here, broadcasting is undone. */
function accumulate(b: GraphBuilder, x: Value, sum: Value | undefined, part: Part): Value {
  if ('total' in part) return part.total();
  if (typeof part !== 'function') {
    return sum === undefined && part.alone !== undefined ? part.alone() : part.onto(sum ?? zerosLike(b, x));
  }
  const dx = undoBroadcast(b, part(), x.shape);
  if (dx.dtype !== x.dtype) throw internal(`the gradient of ${x} came out as ${dx}`);
  return sum === undefined ? dx : b.add(sum, dx);
}

/** Sums dy over the axes along which a tensor of `shape` was repeated to become of dy's shape. */
function undoBroadcast(b: GraphBuilder, dy: Value, shape: Shape): Value {
  if (sameShape(dy.shape, shape)) return dy;
  const added = dy.rank - shape.length;
  const leading = Array.from({ length: added }, (_, axis) => axis);
  const stretched = shape.flatMap((dim, axis) => (dim === 1 && dy.shape[added + axis] !== 1 ? [axis] : []));
  const axes = [...leading, ...stretched.map((axis) => added + axis)];
  const sum = b.reduceSum(dy, axes, added === 0);
  const dx = added > 0 && stretched.length > 0 ? b.unsqueeze(sum, stretched) : sum;
  if (!sameShape(dx.shape, shape)) throw internal(`a gradient ${dy} does not fit shape [${shape.join(', ')}]`);
  return dx;
}
