import { internal } from '../errors.ts';
import type { GraphBuilder } from './builder.ts';
import {
  axesOf,
  expandLike,
  intAttribute,
  intsAttribute,
  once,
  type Rule,
  reshapeLike,
  single,
  sizeOf,
  zerosLike,
} from './gradient-rule.ts';
import { multiplyDims, normalizeAxis, type Shape, type Value } from './ir.ts';

/** Gradient rules of the operators that pick, place, join and cut: linear maps, each answered by its transpose. */

// y = [x1, x2, ...]: dx_i is the i-th stretch of dy
export const concatRule: Rule = single(({ b, x, dy, attributes }) => {
  const axis = intAttribute(attributes, 'axis', 0);
  const pieces = once(() => {
    const sizes = x.map((part) => part.shape[axis]);
    if (sizes.every((size) => b.knows(size))) return b.split(dy, sizes, axis);
    const measured = x.map((part) => sizeOf(b, part, axis));
    return b.node(
      'Split',
      [dy, b.concat(measured, 0)],
      { axis },
      x.map((part) => part.shape),
    );
  });
  return x.map((_, i) => () => pieces()[i]);
});

// [y1, y2, ...] = x: dx = [dy1, dy2, ...], zeros for the pieces nobody used
export const splitRule: Rule = ({ b, x: [x], y, dys, attributes }) => [
  () => {
    const pieces = y.map((piece, i) => dys[i] ?? zerosLike(b, piece));
    return reshapeLike(b, b.concat(pieces, intAttribute(attributes, 'axis', 0)), x);
  },
];

// y = x[start:end]: dx is dy between zeros
export const sliceRule: Rule = single(({ b, x: [x, ...bounds], dy }) => [
  () => {
    const [starts, ends, axes, steps] = bounds.map((bound) => constantInt64s(b, bound));
    if (axes.length !== 1 || (steps !== undefined && steps[0] !== 1)) {
      throw internal('no gradient rule for a Slice along several axes or with a step');
    }
    const [axis, start, end] = [normalizeAxis(axes[0], x.rank), starts[0], ends[0]];
    const [size, length] = [x.shape[axis], dy.shape[axis]];
    if (typeof size === 'number' && typeof length === 'number') {
      const front = start < 0 ? size + start : start;
      const pad = (count: number) => (count === 0 ? [] : [b.expand(zero, x.shape.with(axis, count))]);
      const zero = b.scalar(x.dtype, 0);
      return b.concat([...pad(front), dy, ...pad(size - front - length)], axis);
    }
    const whole = once(() => sizeOf(b, x, axis));
    const front = start < 0 ? b.add(whole(), b.int64s([start])) : b.int64s([start]);
    const back = () => b.sub(b.sub(whole(), front), sizeOf(b, dy, axis));
    const pad = (count: Value, name: string) => {
      const sizes = axesOf(x).map((i) => (i === axis ? count : sizeOf(b, x, i)));
      return b.node('ConstantOfShape', [b.concat(sizes, 0)], { dtype: x.dtype }, [x.shape.with(axis, name)])[0];
    };
    const before = start === 0 ? [] : [pad(front, `${size}[:${start}]`)];
    const after = end >= TO_THE_END ? [] : [pad(back(), `${size}[${end}:]`)];
    return reshapeLike(b, b.concat([...before, dy, ...after], axis), x);
  },
]);

/** From this bound on, a slice has no end: GraphBuilder.slice writes it. */
const TO_THE_END = 2 ** 31 - 1;

function constantInt64s(b: GraphBuilder, value: Value): number[] {
  const initializer = b.graph.initializers.find((candidate) => candidate.value === value);
  if (initializer?.data.kind !== 'inline')
    throw internal('no gradient rule for an operator with bounds known at run time');
  const { bytes } = initializer.data;
  return Array.from(new BigInt64Array(bytes.slice().buffer), Number);
}

// y = x[..., indices, ...]: dx[..., indices, ...] += dy
// Not by ScatterND: its CPU kernel adds in parallel without a lock, and loses updates where an index repeats
// (microsoft/onnxruntime issue 23396; seen in 1.30). ScatterElements adds one after the other.
export const gatherRule: Rule = single(({ b, x: [x, indices], dy, attributes }) => {
  const axis = normalizeAxis(intAttribute(attributes, 'axis', 0), x.rank);
  const around = (sizes: Shape): Shape => [...x.shape.slice(0, axis), ...sizes, ...x.shape.slice(axis + 1)];
  return [
    {
      onto: (sum) => {
        const list = b.reshape(b.cast(indices, 'int64'), [multiplyDims(indices.shape)]);
        const updates = indices.rank === 1 ? dy : b.reshape(dy, around(list.shape));
        const others = axesOf(x).filter((i) => i !== axis);
        const index = others.length === 0 ? list : expandLike(b, b.unsqueeze(list, others), updates);
        return b.scatterElements(sum, index, updates, axis, 'add');
      },
    },
  ];
});

/**
 * Rows of x [T, width] by `indices` [N], none of which occurs twice, followed by rows that get no gradient. So the gradient is a
 * gather itself: each row of x finds the one row of dy that is its own, or a row of zeros.
 * @param padded int64 [M], M >= N: the indices, and then any
 * @returns [M, width]
 */
export function gatherDistinct(b: GraphBuilder, x: Value, indices: Value, padded: Value): Value {
  const rule = single(({ dy }) => [
    () => {
      const nowhere = sizeOf(b, dy, 0);
      const everyRow = b.node('Expand', [nowhere, sizeOf(b, x, 0)], {}, [[x.shape[0]]])[0];
      const place = b.scatterElements(everyRow, indices, b.range(indices.shape[0]), 0, 'none'); // (T)
      const zeros = b.zeros(x.dtype, [1, x.shape[1]]);
      return b.gather(b.concat([dy, zeros], 0), place);
    },
  ]);
  return b.composite([x], () => [b.gather(x, padded)], rule);
}

// y[i][j] = x[indices[i][j]][j]: dx[indices[i][j]][j] += dy[i][j]
export const gatherElementsRule: Rule = single(({ b, x: [, indices], dy, attributes }) => [
  { onto: (sum) => b.scatterElements(sum, indices, dy, intAttribute(attributes, 'axis', 0), 'add') },
]);

// y = x with updates written over it or added to it: dx = dy, with zeros where it was written over; dupdates = dy[indices].
// Entries that one index overwrites twice have no gradient; nobody relies on their order.
export const scatterElementsRule: Rule = single(({ b, x: [, indices, updates], dy, attributes }) => {
  const axis = intAttribute(attributes, 'axis', 0);
  const added = attributes.reduction === 'add';
  return [
    () => (added ? dy : b.scatterElements(dy, indices, zerosLike(b, updates), axis, 'none')),
    undefined,
    () => b.gatherElements(dy, indices, axis),
  ];
});

// y[j] = x[perm[j]]: dx = dy permuted back
export const transposeRule: Rule = single(({ b, dy, attributes }) => [
  () => b.transpose(dy, inversePermutation(intsAttribute(attributes, 'perm'))),
]);

const inversePermutation = (perm: readonly number[]): number[] => perm.map((_, axis) => perm.indexOf(axis));
