import type { DType } from '../dtypes.ts';
import { isFloat } from '../dtypes.ts';
import { internal } from '../errors.ts';
import type { Attributes, Shape, Value } from './ir.ts';
import { addDims, broadcastShapes, Graph, multiplyDims, normalizeAxis, sameShape } from './ir.ts';

/**
 * The operators of the IR: for each, the ONNX domain and how dtype and shape of its outputs follow from its inputs.
 * Axes, static sizes and the like are attributes here; serialize.ts turns them into inputs where the opset wants that.
 */

export interface Type {
  dtype: DType;
  shape: Shape;
}

export interface Operator {
  /** Absent: the default ONNX domain. */
  domain?: 'com.microsoft';
  /**
   * Infers the outputs. `declared` is what the builder says the outputs' shapes are; only operators whose shape is
   * data (Reshape, Expand, Range ...) use it, and they check what can be checked.
   */
  infer(inputs: readonly Type[], attributes: Attributes, declared: readonly Shape[]): Type[];
}

export type Op = keyof typeof OPERATORS;

const int = (attributes: Attributes, name: string, fallback?: number): number => {
  const value = attributes[name] ?? fallback;
  if (typeof value !== 'number') throw internal(`attribute ${name} must be an integer`);
  return value;
};
const ints = (attributes: Attributes, name: string): readonly number[] => {
  const value = attributes[name];
  if (!Array.isArray(value)) throw internal(`attribute ${name} must be a list of integers`);
  return value;
};

function demandSameDtype(inputs: readonly Type[]): DType {
  const [{ dtype }] = inputs;
  for (const input of inputs) {
    if (input.dtype !== dtype) throw internal(`operands of ${dtype} and ${input.dtype} do not mix`);
  }
  return dtype;
}

function demandDtype(type: Type, expected: DType, what: string): void {
  if (type.dtype !== expected) throw internal(`${what} must be ${expected}, is ${type.dtype}`);
}

const broadcastAll = (inputs: readonly Type[]): Shape =>
  inputs.map((input) => input.shape).reduce((a, b) => broadcastShapes(a, b));

const elementwise = (result?: DType): Operator => ({
  infer: (inputs) => {
    const operand = demandSameDtype(inputs);
    return [{ dtype: result ?? operand, shape: broadcastAll(inputs) }];
  },
});

const floatOnly: Operator = {
  infer: ([x]) => {
    if (!isFloat(x.dtype)) throw internal(`a floating-point operand is needed, not ${x.dtype}`);
    return [x];
  },
};
const unary: Operator = { infer: ([x]) => [x] };
const predicate: Operator = { infer: ([x]) => [{ dtype: 'bool', shape: x.shape }] };

const reduction: Operator = {
  infer: ([x], attributes) => {
    const axes = new Set(ints(attributes, 'axes').map((axis) => normalizeAxis(axis, x.shape.length)));
    const keep = int(attributes, 'keepdims', 1) === 1;
    const shape = keep ? x.shape.map((dim, i) => (axes.has(i) ? 1 : dim)) : x.shape.filter((_, i) => !axes.has(i));
    return [{ dtype: x.dtype, shape }];
  },
};

const alongAxis: Operator = {
  infer: ([x], attributes) => {
    normalizeAxis(int(attributes, 'axis'), x.shape.length);
    return [x];
  },
};

function matMulShape(a: Shape, b: Shape): Shape {
  if (a.length < 2 || b.length < 2) throw internal('matrices need rank 2 or more');
  if (a[a.length - 1] !== b[b.length - 2]) {
    throw internal(`inner dimensions differ: [${a.join(', ')}] x [${b.join(', ')}]`);
  }
  return [...broadcastShapes(a.slice(0, -2), b.slice(0, -2)), a[a.length - 2], b[b.length - 1]];
}

const swapLast = (shape: Shape): Shape => [...shape.slice(0, -2), shape[shape.length - 1], shape[shape.length - 2]];

/** The output's shape is data: take the builder's word, and check the number of elements where it is static. */
const declaredShape: Operator = {
  infer: ([x], _attributes, [shape]) => [{ dtype: x.dtype, shape }],
};

export const OPERATORS = {
  Add: elementwise(),
  Sub: elementwise(),
  Mul: elementwise(),
  Div: elementwise(),
  Min: elementwise(),
  Max: elementwise(),
  Pow: elementwise(),
  Less: elementwise('bool'),
  LessOrEqual: elementwise('bool'),
  Greater: elementwise('bool'),
  GreaterOrEqual: elementwise('bool'),
  Equal: elementwise('bool'),
  And: elementwise('bool'),
  Or: elementwise('bool'),
  Not: unary,
  IsNaN: predicate,
  IsInf: predicate,
  Where: {
    infer: ([condition, a, b]) => {
      demandDtype(condition, 'bool', 'the condition');
      return [{ dtype: demandSameDtype([a, b]), shape: broadcastAll([condition, a, b]) }];
    },
  },

  Neg: unary,
  Abs: unary,
  Identity: unary,
  Exp: floatOnly,
  Log: floatOnly,
  Sqrt: floatOnly,
  Reciprocal: floatOnly,
  Sigmoid: floatOnly,
  Tanh: floatOnly,
  Softplus: floatOnly,
  Relu: floatOnly,
  /** x where x > alpha, else 0. */
  ThresholdedRelu: floatOnly,
  /** x where |x| > lambd, else 0. */
  Shrink: floatOnly,
  Cos: floatOnly,
  Sin: floatOnly,
  Cast: {
    // `to` is a DType here; serialize.ts writes its number.
    infer: ([x], attributes) => [{ dtype: attributes.to as DType, shape: x.shape }],
  },

  MatMul: { infer: ([a, b]) => [{ dtype: demandSameDtype([a, b]), shape: matMulShape(a.shape, b.shape) }] },
  /** alpha * A B with optional transposes of the last two axes. */
  FusedMatMul: {
    domain: 'com.microsoft',
    infer: ([a, b], attributes) => {
      const left = int(attributes, 'transA', 0) ? swapLast(a.shape) : a.shape;
      const right = int(attributes, 'transB', 0) ? swapLast(b.shape) : b.shape;
      return [{ dtype: demandSameDtype([a, b]), shape: matMulShape(left, right) }];
    },
  },
  /** alpha * op(A) op(B) + C on matrices, op a transpose or nothing; C of the result's shape. */
  Gemm: {
    infer: ([a, b, c], attributes) => {
      const left = int(attributes, 'transA', 0) ? swapLast(a.shape) : a.shape;
      const right = int(attributes, 'transB', 0) ? swapLast(b.shape) : b.shape;
      const shape = matMulShape(left, right);
      if (shape.length !== 2 || !sameShape(c.shape, shape)) throw internal(`C must be [${shape.join(', ')}]`);
      return [{ dtype: demandSameDtype([a, b, c]), shape }];
    },
  },
  Softmax: alongAxis,
  LogSoftmax: alongAxis,
  /**
   * RMSNorm over the last axis with a scale; the second output is 1 / sqrt(mean(x^2) + epsilon), always
   * float32. ONNX Runtime's own.
   */
  SimplifiedLayerNormalization: {
    infer: ([x, scale]) => {
      if (!sameShape(scale.shape, x.shape.slice(-1))) throw internal('the scale must have the size of the last axis');
      const type = { dtype: demandSameDtype([x, scale]), shape: x.shape };
      return [type, { dtype: 'float32', shape: [...x.shape.slice(0, -1), 1] }];
    },
  },

  ReduceSum: reduction,
  ReduceMean: reduction,
  ReduceMax: reduction,
  ReduceSumSquare: reduction,
  CumSum: alongAxis,
  ArgMax: {
    infer: ([x], attributes) => {
      const axis = normalizeAxis(int(attributes, 'axis'), x.shape.length);
      const keep = int(attributes, 'keepdims', 1) === 1;
      return [{ dtype: 'int64', shape: x.shape.flatMap((dim, i) => (i !== axis ? [dim] : keep ? [1] : [])) }];
    },
  },
  /** Indices of the elements that are not 0, int64 [rank, count]; the count is declared. */
  NonZero: { infer: ([x], _attributes, [shape]) => [{ dtype: 'int64', shape: [x.shape.length, shape[1]] }] },
  /** Inputs: x, k (int64 [1]); outputs: the k largest along the axis and their indices, of the declared shape. */
  TopK: {
    infer: ([x, k], _attributes, [shape]) => {
      demandDtype(k, 'int64', 'k');
      return [
        { dtype: x.dtype, shape },
        { dtype: 'int64', shape },
      ];
    },
  },

  Reshape: {
    infer: ([x], _attributes, [shape]) => {
      const [from, to] = [multiplyDims(x.shape), multiplyDims(shape)];
      if (typeof from === 'number' && typeof to === 'number' && from !== to) {
        throw internal(`[${x.shape.join(', ')}] cannot be reshaped to [${shape.join(', ')}]`);
      }
      return [{ dtype: x.dtype, shape }];
    },
  },
  Expand: declaredShape,
  Range: declaredShape,
  /** Zeros of the shape given at run time. */
  ConstantOfShape: { infer: (_inputs, attributes, [shape]) => [{ dtype: attributes.dtype as DType, shape }] },
  Shape: {
    infer: ([x], attributes) => [
      { dtype: 'int64', shape: [int(attributes, 'end', x.shape.length) - int(attributes, 'start', 0)] },
    ],
  },
  Transpose: {
    infer: ([x], attributes) => {
      const perm = ints(attributes, 'perm');
      if (perm.length !== x.shape.length || new Set(perm).size !== perm.length) {
        throw internal(`perm [${perm.join(', ')}] is no permutation of ${x.shape.length} axes`);
      }
      return [{ dtype: x.dtype, shape: perm.map((axis) => x.shape[normalizeAxis(axis, perm.length)]) }];
    },
  },
  Unsqueeze: {
    infer: ([x], attributes) => {
      const rank = x.shape.length + ints(attributes, 'axes').length;
      const axes = new Set(ints(attributes, 'axes').map((axis) => normalizeAxis(axis, rank)));
      const rest = [...x.shape];
      return [
        { dtype: x.dtype, shape: Array.from({ length: rank }, (_, i) => (axes.has(i) ? 1 : (rest.shift() ?? 1))) },
      ];
    },
  },
  Squeeze: {
    infer: ([x], attributes) => {
      const axes = new Set(ints(attributes, 'axes').map((axis) => normalizeAxis(axis, x.shape.length)));
      for (const axis of axes)
        if (x.shape[axis] !== 1) throw internal(`axis ${axis} of size ${x.shape[axis]} squeezed`);
      return [{ dtype: x.dtype, shape: x.shape.filter((_, i) => !axes.has(i)) }];
    },
  },
  Concat: {
    infer: (inputs, attributes) => {
      const [first] = inputs;
      const axis = normalizeAxis(int(attributes, 'axis'), first.shape.length);
      for (const { shape } of inputs) {
        if (!sameShape(shape.toSpliced(axis, 1), first.shape.toSpliced(axis, 1))) {
          throw internal(`[${shape.join(', ')}] and [${first.shape.join(', ')}] differ off axis ${axis}`);
        }
      }
      const size = addDims(inputs.map((input) => input.shape[axis]));
      return [{ dtype: demandSameDtype(inputs), shape: first.shape.with(axis, size) }];
    },
  },
  /** Second input: sizes, int64 [parts]; their dims are declared. */
  Split: {
    infer: ([x], attributes, declared) => {
      const axis = normalizeAxis(int(attributes, 'axis'), x.shape.length);
      return declared.map((shape) => ({ dtype: x.dtype, shape: x.shape.with(axis, shape[axis]) }));
    },
  },
  /** Inputs: data, starts, ends, axes, steps (int64 [n]); the shape is declared. */
  Slice: declaredShape,
  Gather: {
    infer: ([data, indices], attributes) => {
      const axis = normalizeAxis(int(attributes, 'axis', 0), data.shape.length);
      return [
        { dtype: data.dtype, shape: [...data.shape.slice(0, axis), ...indices.shape, ...data.shape.slice(axis + 1)] },
      ];
    },
  },
  GatherElements: {
    infer: ([data, indices]) => {
      demandDtype(indices, 'int64', 'indices');
      return [{ dtype: data.dtype, shape: indices.shape }];
    },
  },
  ScatterElements: {
    infer: ([data, indices, updates]) => {
      demandDtype(indices, 'int64', 'indices');
      demandSameDtype([data, updates]);
      return [data];
    },
  },
  /**
   * Inputs: the number of iterations (int64 []), none, and the values carried from one to the next. The body takes the
   * iteration (int64 []), a condition that it hands on, and what is carried; it makes the condition, what is carried on,
   * and values that are stacked over the iterations: the declared shapes say how many those are.
   */
  Loop: {
    infer: ([count, ...carried], { body }, declared) => {
      demandDtype(count, 'int64', 'the number of iterations');
      if (!(body instanceof Graph)) throw internal('a Loop needs a body');
      const [, ...made] = [...body.outputs.values()];
      return made.map(({ dtype, shape }, i) => {
        if (i >= carried.length) return { dtype, shape: [declared[i][0], ...shape] };
        const [before, after] = [carried[i], made[i]].map((type) => `${type.dtype}[${type.shape.join(', ')}]`);
        if (before !== after) throw internal(`${before} is carried on as ${after}`);
        return { dtype, shape };
      });
    },
  },
  /** Both bodies take nothing and make values of the same types. */
  If: {
    infer: ([condition], { then_branch: onTrue, else_branch: onFalse }) => {
      demandDtype(condition, 'bool', 'the condition');
      if (!(onTrue instanceof Graph && onFalse instanceof Graph)) throw internal('an If needs two bodies');
      const [made, otherwise] = [onTrue, onFalse].map(({ outputs }) => [...outputs.values()]);
      const types = (values: readonly Value[]) =>
        values.map(({ dtype, shape }) => `${dtype}[${shape.join(', ')}]`).join(', ');
      if (types(made) !== types(otherwise)) throw internal(`${types(made)} or else ${types(otherwise)}`);
      return made.map(({ dtype, shape }) => ({ dtype, shape }));
    },
  },
  /** RoPE, halves convention, on x [B, heads, S, d] with cos and sin [B, S, d/2]: opset 23. */
  RotaryEmbedding: {
    infer: ([x, cos, sin]) => {
      demandSameDtype([x, cos, sin]);
      return [x];
    },
  },
  /** Cache [B, ..., S, d], update [B, ..., m, d], write_indices int64 [B]: opset 24. */
  TensorScatter: {
    infer: ([cache, update, indices]) => {
      demandSameDtype([cache, update]);
      demandDtype(indices, 'int64', 'write_indices');
      return [cache];
    },
  },
} satisfies Record<string, Operator>;

export function inferNode(
  op: Op,
  inputs: readonly (Value | null)[],
  attributes: Attributes,
  declared: readonly Shape[],
): Type[] {
  const operator: Operator = OPERATORS[op];
  try {
    return operator.infer(
      inputs.filter((input) => input !== null),
      attributes,
      declared,
    );
  } catch (error) {
    const operands = inputs.map((input) => String(input)).join(', ');
    throw internal(`${op}(${operands}): ${error instanceof Error ? error.message.replace('internal: ', '') : error}`);
  }
}
