import { isFloat } from '../dtypes.ts';
import type { GraphBuilder } from './builder.ts';
import { gradients } from './gradient.ts';
import { once, single } from './gradient-rule.ts';
import type { Value } from './ir.ts';

/**
 * y = layer(x), of whose values the backward pass keeps x alone: it computes the layer again, for memory against time
 * (Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174).
 *
 * The second computation starts from x reshaped to the shape that d loss / d y has at run time. That is x, at no cost; but it
 * keeps ONNX Runtime from merging the two computations as common subexpressions, and from starting the second one early.
 * @param layer appends the same nodes whenever it is called
 */
export function recomputed(b: GraphBuilder, x: Value, layer: (x: Value) => Value): Value {
  const inputs: Value[] = [x];
  const forward = () => {
    const start = b.nodes.length;
    const y = layer(x);
    inputs.push(...readFromOutside(b, start).filter((value) => value !== x));
    return [y];
  };
  return b.composite(
    inputs,
    forward,
    single(({ x: [_x, ...others], dy, varying, sums }) => {
      const wanted = others.filter((value) => varying.has(value));
      const again = once(() => {
        const start = b.node('Reshape', [x, b.shapeOf(dy)], {}, [x.shape])[0];
        const onto = new Map([...sums].filter(([value]) => wanted.includes(value)));
        const [dx, ...totals] = gradients(b, layer(start), [start, ...wanted], dy, onto);
        return { dx, totals };
      });
      const total = (value: Value) => ({ total: () => again().totals[wanted.indexOf(value)] });
      return [() => again().dx, ...others.map((value) => (varying.has(value) ? total(value) : undefined))];
    }),
  );
}

/** Floating-point values that the nodes from `start` on read and none of them makes. */
function readFromOutside(b: GraphBuilder, start: number): Value[] {
  const nodes = b.nodes.slice(start);
  const made = new Set(nodes.flatMap(({ outputs }) => outputs));
  const read = nodes.flatMap(({ inputs }) => inputs.filter((value) => value !== null));
  return [...new Set(read)].filter((value) => isFloat(value.dtype) && !made.has(value));
}
