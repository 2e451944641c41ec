import type { DType } from '../../src/dtypes.ts';
import type { GraphBuilder } from '../../src/export/builder.ts';
import { type Dim, multiplyDims, type Value } from '../../src/export/ir.ts';
import type { Op } from '../../src/export/operators.ts';
import type { GradientCase, Operand } from './gradient-check.ts';

type Range = readonly [low: number, high: number];
type SizeOf = (size: number) => Dim;

const BROADCASTS: readonly (readonly [readonly number[], readonly number[]])[] = [
  [
    [2, 3],
    [2, 3],
  ],
  [[2, 3], [3]],
  [
    [2, 3],
    [1, 3],
  ],
  [
    [2, 3],
    [2, 1],
  ],
  [[2, 3], []],
  [[4, 2, 3], [3]],
  [
    [4, 2, 3],
    [2, 1],
  ],
  [
    [2, 1],
    [1, 3],
  ],
];

/** Over all pairs of shapes, both ways round. */
function binary(build: (b: GraphBuilder, a: Value, c: Value) => Value, first?: Range, second?: Range): GradientCase[] {
  const pairs = BROADCASTS.flatMap(([a, c]) =>
    a.length === c.length && a[1] === c[1] && a[0] === c[0]
      ? [[a, c]]
      : [
          [a, c],
          [c, a],
        ],
  );
  return pairs.map(([a, c]) => ({
    name: `[${a}] and [${c}]`,
    operands: [
      { shape: a, range: first },
      { shape: c, range: second },
    ],
    build: (b, [x, z]) => build(b, x, z),
  }));
}

const unary = (build: (b: GraphBuilder, x: Value) => Value, range?: Range): GradientCase[] => [
  { name: 'elementwise', operands: [{ shape: [2, 3], range }], build: (b, [x]) => build(b, x) },
];

/** One operand of the given shape. */
const of = (
  name: string,
  shape: readonly number[],
  build: (b: GraphBuilder, x: Value, dim: SizeOf) => Value,
  operand: Omit<Operand, 'shape'> = {},
): GradientCase => ({
  name,
  operands: [{ shape, ...operand }],
  build: (b, [x], dim) => build(b, x, dim),
});

const POSITIVE: Range = [0.3, 2];

/** x with an axis 0 whose symbol no graph input introduces. */
const doubled = (b: GraphBuilder, x: Value): Value => b.concat([x, b.mul(x, x)], 0);

function reductions(
  reduce: (b: GraphBuilder, x: Value, axes: readonly number[], keepdims: boolean) => Value,
): GradientCase[] {
  const axesOf: readonly (readonly number[])[] = [[0], [1], [-1], [0, 2], [0, 1, 2]];
  return [
    ...axesOf.flatMap((axes) =>
      [true, false].map((keepdims) =>
        of(`axes ${axes}, ${keepdims ? 'kept' : 'dropped'}`, [2, 3, 2], (b, x) => reduce(b, x, axes, keepdims)),
      ),
    ),
    of('axis of derived size', [2, 3], (b, x) => reduce(b, doubled(b, x), [0], false)),
  ];
}

function products(product: (b: GraphBuilder, a: Value, c: Value) => Value): GradientCase[] {
  const shapes: readonly (readonly [readonly number[], readonly number[]])[] = [
    [
      [2, 3],
      [3, 4],
    ],
    [
      [2, 2, 3],
      [2, 3, 4],
    ],
    [
      [2, 2, 3],
      [3, 4],
    ],
    [
      [2, 3],
      [2, 3, 4],
    ],
    [
      [2, 1, 2, 3],
      [3, 3, 1],
    ],
  ];
  return shapes.map(([a, c]) => ({
    name: `[${a}] x [${c}]`,
    operands: [{ shape: a }, { shape: c }],
    build: (b, [x, z]) => product(b, x, z),
  }));
}

function fusedProducts(): GradientCase[] {
  const shapes: readonly (readonly [batchA: readonly number[], batchC: readonly number[]])[] = [
    [[], []],
    [[2], [2]],
    [[2], []],
    [[], [2]],
  ];
  const flags = [false, true];
  return shapes.flatMap(([batchA, batchC]) =>
    flags.flatMap((transA) =>
      flags.map((transB): GradientCase => {
        const a = [...batchA, ...(transA ? [3, 2] : [2, 3])];
        const c = [...batchC, ...(transB ? [4, 3] : [3, 4])];
        return {
          name: `[${a}]${transA ? ' transposed' : ''} x [${c}]${transB ? ' transposed' : ''}`,
          operands: [{ shape: a }, { shape: c }],
          build: (b, [x, z]) => b.fusedMatMul(x, z, { transA, transB, alpha: 0.75 }),
        };
      }),
    ),
  );
}

/** A constant whose sizes are as those of the operands, static or symbols. */
const constant = (b: GraphBuilder, dtype: DType, values: readonly number[], shape: readonly number[], dim: SizeOf) =>
  b.node('Reshape', [b.constant(dtype, values), b.int64s(shape)], {}, [shape.map(dim)])[0];

const index = (b: GraphBuilder, values: readonly number[], shape?: readonly number[]) =>
  b.constant('int64', values, shape);

/** Per operator, functions with it at their heart. Every operator with a gradient rule must be here. */
export const GRADIENT_CASES: { readonly [op in Op]?: readonly GradientCase[] } = {
  Add: binary((b, a, c) => b.add(a, c)),
  Sub: binary((b, a, c) => b.sub(a, c)),
  Mul: [...binary((b, a, c) => b.mul(a, c)), ...unary((b, x) => b.mul(x, x))],
  Div: binary((b, a, c) => b.div(a, c), undefined, POSITIVE),
  Min: binary((b, a, c) => b.min(a, c)),
  Max: binary((b, a, c) => b.max(a, c)),
  Pow: [
    ...binary((b, a, c) => b.pow(a, c), POSITIVE),
    of('square', [2, 3], (b, x) => b.pow(x, 2)),
    of('cube at zero', [2], (b, x) => b.pow(x, 3), { values: [0, -1] }),
    of('to the 0', [2], (b, x) => b.pow(x, 0), { values: [0, -1] }),
    of('exponent of base 0', [2], (b, p, dim) => b.pow(constant(b, 'float64', [0, 2], [2], dim), p), { range: [1, 2] }),
  ],
  Where: binary((b, a, c) => b.where(b.less(b.add(a, c), 0.1), a, c)).concat([
    of('condition broadcast over both', [3], (b, x, dim) =>
      b.where(constant(b, 'bool', [1, 0], [2, 1], dim), x, b.mul(x, x)),
    ),
  ]),

  Neg: unary((b, x) => b.neg(x)),
  Abs: unary((b, x) => b.abs(x)),
  Identity: unary((b, x) => b.identity(x)),
  Exp: unary((b, x) => b.exp(x)),
  Log: unary((b, x) => b.log(x), POSITIVE),
  Sqrt: unary((b, x) => b.sqrt(x), POSITIVE),
  Reciprocal: unary((b, x) => b.reciprocal(x), POSITIVE),
  Sigmoid: unary((b, x) => b.sigmoid(x)),
  Tanh: unary((b, x) => b.tanh(x)),
  Softplus: unary((b, x) => b.softplus(x)).map((given) => ({ ...given, dtype: 'float32' })),
  Relu: unary((b, x) => b.relu(x)),
  Cos: unary((b, x) => b.cos(x)),
  Sin: unary((b, x) => b.sin(x)),
  Cast: unary((b, x) => b.cast(b.mul(b.cast(x, 'float64'), 3), 'float32')).map((given) => ({
    ...given,
    dtype: 'float32',
  })),

  MatMul: products((b, a, c) => b.matmul(a, c)),
  FusedMatMul: fusedProducts(),
  Softmax: [0, 1, -1].map((axis) => of(`axis ${axis}`, [2, 3, 2], (b, x) => b.softmax(x, axis))),
  LogSoftmax: [0, 1, -1].map((axis) => of(`axis ${axis}`, [2, 3, 2], (b, x) => b.logSoftmax(x, axis))),
  RotaryEmbedding: [
    {
      name: 'two heads',
      dtype: 'float32', // there is no other kernel
      tolerance: 1e-3,
      operands: [{ shape: [2, 2, 3, 4] }],
      build: (b, [x]) => {
        const angles = Array.from({ length: 6 }, (_, i) => 0.3 * i);
        const table = (f: (angle: number) => number) => b.constant('float32', angles.map(f), [1, 3, 2]);
        const expanded = (table: Value) =>
          b.node('Expand', [table, b.dims([x.shape[0], 3, 2])], {}, [[x.shape[0], 3, 2]])[0];
        return b.rotaryEmbedding(x, expanded(table(Math.cos)), expanded(table(Math.sin)));
      },
    },
  ],
  SimplifiedLayerNormalization: [
    ...['normed', 'inverse', 'both'].map(
      (used): GradientCase => ({
        name: used,
        // The inverse comes as float32 whatever the operand.
        ...(used === 'normed' ? { tolerance: 1e-6 } : { dtype: 'float32', tolerance: 1e-3 }),
        operands: [{ shape: [2, 2, 3] }, { shape: [3] }],
        build: (b, [x, scale]) => {
          const [y, inverse] = b.simplifiedLayerNormalization(x, scale, 1e-3);
          return used === 'normed' ? y : used === 'inverse' ? inverse : b.mul(y, inverse);
        },
      }),
    ),
    {
      name: 'constant scale',
      operands: [{ shape: [2, 3] }],
      tolerance: 1e-6,
      build: (b, [x], dim) => b.simplifiedLayerNormalization(x, constant(b, 'float64', [1, 2, 3], [3], dim), 1e-3)[0],
    },
  ],

  ReduceSum: reductions((b, x, axes, keepdims) => b.reduceSum(x, axes, keepdims)),
  ReduceMean: reductions((b, x, axes, keepdims) => b.reduceMean(x, axes, keepdims)),
  ReduceMax: reductions((b, x, axes, keepdims) => b.reduceMax(x, axes, keepdims)),
  ReduceSumSquare: reductions((b, x, axes, keepdims) => b.reduceSumSquare(x, axes, keepdims)),
  CumSum: [
    ...[0, 1, -1].map((axis) => of(`axis ${axis}`, [2, 3, 2], (b, x) => b.cumsum(x, axis))),
    of('exclusive and reversed', [3], (b, x) => b.node('CumSum', [x], { axis: 0, exclusive: 1, reverse: 1 })[0]),
  ],

  Reshape: [
    of('one size moves', [2, 3], (b, x, dim) => b.reshape(x, [dim(3), dim(2)])),
    of('merged and split', [2, 3, 4], (b, x, dim) =>
      b.mul(b.reshape(b.reshape(x, ['m', dim(4)]), [dim(2), dim(3), dim(4)]), x),
    ),
    of('derived sizes', [2, 3], (b, x) => {
      const tall = doubled(b, b.transpose(doubled(b, x), [1, 0])); // both sizes are sums
      return b.reshape(b.mul(tall, tall), [multiplyDims(tall.shape)]);
    }),
  ],
  Expand: [
    of('new and stretched axes', [3, 1], (b, x, dim) => {
      if (dim(2) !== 2) for (const size of [2, 4]) b.defineDim(`n${size}`, b.int64s([size]));
      return b.expand(x, [dim(2), dim(3), dim(4)]);
    }),
    of('scalar', [], (b, x) => b.expand(x, [2])),
  ],
  Transpose: [of('rotates three axes', [2, 3, 4], (b, x) => b.transpose(x, [2, 0, 1]))],
  Unsqueeze: [
    of('front and back', [2, 3], (b, x) => b.unsqueeze(x, [0, -1])),
    of('middle', [2, 3], (b, x) => b.unsqueeze(x, [1])),
  ],
  Squeeze: [
    of('front and back', [1, 2, 1], (b, x) => b.squeeze(x, [0, -1])),
    of('all', [1, 1], (b, x) => b.squeeze(x, [0, 1])),
  ],
  Concat: [
    {
      name: 'three',
      operands: [{ shape: [2, 3] }, { shape: [1, 3] }, { shape: [4, 3] }],
      build: (b, x) => b.concat(x, 0),
    },
    { name: 'last axis', operands: [{ shape: [2, 3] }, { shape: [2, 2] }], build: (b, x) => b.concat(x, -1) },
    of('twice the same', [2, 3], (b, x) => b.concat([x, x], 1)),
    of('with a constant', [2, 3], (b, x, dim) => b.concat([constant(b, 'float64', [1, 2], [2, 1], dim), x], 1)),
    of('of parts of derived size', [2, 3], (b, x) => b.concat([doubled(b, x), x], 0)),
  ],
  Split: [
    of('one part unused', [6, 2], (b, x) => {
      const [first, , third] = b.split(x, [2, 2, 2], 0);
      return b.mul(first, b.mul(third, third));
    }),
    of('last axis', [2, 5], (b, x) => {
      const [first, rest] = b.split(x, [2, 3], -1);
      return b.concat([rest, b.mul(first, first)], 1);
    }),
  ],
  Slice: [
    of('middle', [2, 5], (b, x, dim) => b.slice(x, 1, 1, 3, typeof dim(2) === 'string' ? 2 : undefined)),
    of('to the end', [5, 2], (b, x) => b.slice(x, 0, 2, undefined, 3)),
    of('from the start', [5, 2], (b, x) => b.slice(x, 0, 0, 2)),
    of('last two', [5, 2], (b, x) => b.slice(x, 0, -2, undefined, 2)),
    of('all but the last', [5, 2], (b, x, dim) => b.slice(x, 0, 0, -1, dim(4))),
  ],
  Gather: [
    of('rows, one twice', [3, 2], (b, x) => b.gather(x, index(b, [2, 0, 2]))),
    of('negative index', [3, 2], (b, x) => b.gather(x, index(b, [-1, 0]))),
    of('int32 indices', [3, 2], (b, x) => b.gather(x, b.constant('int32', [2, 0]))),
    of('one row', [3, 2], (b, x) => b.gather(x, b.scalar('int64', 1))),
    of('matrix of rows', [3, 2], (b, x) => b.gather(x, index(b, [2, 0, 2, 1], [2, 2]))),
    of('of a vector', [3], (b, x) => b.gather(x, index(b, [2, 0, 2]))),
    of('last axis', [2, 3], (b, x) => b.gather(x, index(b, [2, 0, 2]), -1)),
    of('middle axis', [2, 3, 2], (b, x) => b.gather(x, index(b, [2, 0, 2, 2], [2, 2]), 1)),
    of('of a derived size, onto another use', [2, 3], (b, x) => {
      const tall = doubled(b, x);
      return b.add(b.gather(tall, index(b, [3, 1])), b.slice(tall, 0, 0, 2));
    }),
  ],
  GatherElements: [
    of('one of each row', [2, 3], (b, x) => b.gatherElements(x, index(b, [2, 0], [2, 1]), 1)),
    of('repeated', [3, 2], (b, x) => b.gatherElements(x, index(b, [2, 0, 2, 1], [2, 2]), 0)),
  ],
  ScatterElements: (['none', 'add'] as const).map((reduction) => ({
    name: reduction,
    operands: [{ shape: [2, 3] }, { shape: [2, 2] }],
    build: (b: GraphBuilder, [x, updates]: readonly Value[], dim: SizeOf) =>
      b.scatterElements(x, constant(b, 'int64', [2, 0, 1, 2], [2, 2], dim), updates, 1, reduction),
  })),
};
