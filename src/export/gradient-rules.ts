import { internal } from '../errors.ts';
import type { GraphBuilder } from './builder.ts';
import {
  concatRule,
  gatherElementsRule,
  gatherRule,
  scatterElementsRule,
  sliceRule,
  splitRule,
  transposeRule,
} from './gradient-indexing.ts';
import {
  countAlong,
  expandLike,
  intAttribute,
  intsAttribute,
  once,
  type Part,
  type Rule,
  type RuleArguments,
  reshapeLike,
  single,
  zerosLike,
} from './gradient-rule.ts';
import { multiplyDims, normalizeAxis, type Value } from './ir.ts';
import type { Op } from './operators.ts';

/** A rule y = f(x) with one input: the expression of dx. */
const unary = (dx: (b: GraphBuilder, dy: Value, x: Value, y: Value) => Value): Rule =>
  single(({ b, x: [x], y: [y], dy }) => [() => dx(b, dy, x, y)]);

type Given = RuleArguments & { dy: Value };

/**
 * What each operator does to a gradient. Total over the operators, so that an operator without an entry does not compile.
 * `stops`: the derivative is zero or there is none (integers, booleans, shapes). `missing`: there is one that nobody
 * has needed; asking for it is an error.
 */
export const GRADIENT_RULES: { readonly [op in Op]: Rule | 'stops' | 'missing' } = {
  // d(a + c) = da + dc
  Add: single(({ dy }) => [() => dy, () => dy]),
  // d(a - c) = da - dc
  Sub: single(({ b, dy }) => [() => dy, () => b.neg(dy)]),
  // d(a c) = c da + a dc
  Mul: single(({ b, x: [a, c], dy }) => [() => b.mul(dy, c), () => b.mul(dy, a)]),
  // d(a / c) = da / c - (a / c) dc / c
  Div: single(({ b, x: [, c], y: [y], dy }) => {
    const da = once(() => b.div(dy, c));
    return [da, () => b.neg(b.mul(da(), y))];
  }),
  // The gradient goes to the smaller (larger) operand; of two equal ones, to the first.
  Min: selection((b, first, second) => b.lessOrEqual(first, second)),
  Max: selection((b, first, second) => b.greaterOrEqual(first, second)),
  // d(a^p) = p a^(p-1) da + a^p log(a) dp; 0 a^-1 = 0, and no gradient with respect to p where a <= 0
  Pow: single(({ b, x: [a, p], y: [y], dy }) => [
    () => b.mul(b.mul(dy, p), b.pow(a, b.where(b.equal(p, 0), 1, b.sub(p, 1)))),
    () => b.mul(b.mul(dy, y), b.log(b.where(b.greater(a, 0), a, 1))),
  ]),
  Less: 'stops',
  LessOrEqual: 'stops',
  Greater: 'stops',
  GreaterOrEqual: 'stops',
  Equal: 'stops',
  And: 'stops',
  Or: 'stops',
  Not: 'stops',
  IsNaN: 'stops',
  IsInf: 'stops',
  Where: single(({ b, x: [condition], dy }) => [
    undefined,
    () => b.where(condition, dy, 0),
    () => b.where(condition, 0, dy),
  ]),

  // d(-x) = -dx
  Neg: unary((b, dy) => b.neg(dy)),
  // d|x| = sign(x) dx, 0 at 0
  Abs: unary((b, dy, x) => b.where(b.less(x, 0), b.neg(dy), b.where(b.greater(x, 0), dy, 0))),
  Identity: unary((_b, dy) => dy),
  // d(exp x) = exp(x) dx
  Exp: unary((b, dy, _x, y) => b.mul(dy, y)),
  // d(log x) = dx / x
  Log: unary((b, dy, x) => b.div(dy, x)),
  // d(sqrt x) = dx / (2 sqrt(x))
  Sqrt: unary((b, dy, _x, y) => b.div(b.mul(dy, 0.5), y)),
  // d(1/x) = -x^-2 dx
  Reciprocal: unary((b, dy, _x, y) => b.neg(b.mul(dy, b.mul(y, y)))),
  // y = 1 / (1 + exp(-x)): dy = (y - y^2) dx
  Sigmoid: unary((b, dy, _x, y) => b.mul(dy, b.sub(y, b.mul(y, y)))),
  // d(tanh x) = (1 - tanh(x)^2) dx
  Tanh: unary((b, dy, _x, y) => b.mul(dy, b.sub(1, b.mul(y, y)))),
  // d log(1 + exp x) = sigmoid(x) dx
  Softplus: unary((b, dy, x) => b.mul(dy, b.sigmoid(x))),
  // d max(x, 0) = [x > 0] dx, 0 at 0
  ThresholdedRelu: 'missing',
  Shrink: 'missing',
  Relu: unary((b, dy, _x, y) => b.where(b.greater(y, 0), dy, 0)),
  // d(cos x) = -sin(x) dx
  Cos: unary((b, dy, x) => b.neg(b.mul(dy, b.sin(x)))),
  // d(sin x) = cos(x) dx
  Sin: unary((b, dy, x) => b.mul(dy, b.cos(x))),
  // Between floating-point types; the walk follows no others.
  Cast: unary((b, dy, x) => b.cast(dy, x.dtype)),

  MatMul: single(matrixProduct),
  FusedMatMul: single(matrixProduct),
  Gemm: 'missing',
  // dx = y (dy - sum(dy y))
  Softmax: single(({ b, y: [y], dy, attributes }) => [
    () => b.mul(y, b.sub(dy, b.reduceSum(b.mul(dy, y), [intAttribute(attributes, 'axis', -1)]))),
  ]),
  // dx = dy - exp(y) sum(dy)
  LogSoftmax: single(({ b, y: [y], dy, attributes }) => [
    () => b.sub(dy, b.mul(b.exp(y), b.reduceSum(dy, [intAttribute(attributes, 'axis', -1)]))),
  ]),
  SimplifiedLayerNormalization: rmsNorm,

  // d(sum x) = sum(dx)
  ReduceSum: single((given) => [() => spread(given, given.dy)]),
  // d(mean x) = sum(dx) / n
  ReduceMean: single((given) => [
    () => spread(given, given.b.div(given.dy, countAlong(given.b, given.x[0], reducedAxes(given)))),
  ]),
  // The maximum's gradient is shared equally among the entries that attain it.
  ReduceMax: single((given) => [
    () => {
      const { b, x, y, dy } = given;
      const attained = b.cast(b.equal(x[0], keepAxes(given, y[0])), dy.dtype);
      const share = b.div(keepAxes(given, dy), b.reduceSum(attained, reducedAxes(given)));
      return b.mul(attained, share);
    },
  ]),
  // d(sum x^2) = sum(2 x dx)
  ReduceSumSquare: single((given) => [() => given.b.mul(given.x[0], given.b.mul(keepAxes(given, given.dy), 2))]),
  // y_i = sum of x_j, j <= i: dx_j = sum of dy_i, i >= j
  CumSum: single(({ b, dy, attributes }) => [
    () => b.node('CumSum', [dy], { ...attributes, reverse: 1 - intAttribute(attributes, 'reverse', 0) })[0],
  ]),
  ArgMax: 'stops',
  NonZero: 'stops',
  TopK: 'missing',

  Reshape: single(({ b, x: [x], dy }) => [() => reshapeLike(b, dy, x)]),
  // The accumulator sums over what was repeated.
  Expand: single(({ dy }) => [() => dy]),
  Range: 'stops',
  ConstantOfShape: 'stops',
  Shape: 'stops',
  Transpose: transposeRule,
  Unsqueeze: single(({ b, dy, attributes }) => [() => b.squeeze(dy, intsAttribute(attributes, 'axes'))]),
  Squeeze: single(({ b, x: [x], dy, attributes }) => [
    () =>
      b.unsqueeze(
        dy,
        intsAttribute(attributes, 'axes').map((axis) => normalizeAxis(axis, x.rank)),
      ),
  ]),
  Concat: concatRule,
  Split: splitRule,
  Slice: sliceRule,
  Gather: gatherRule,
  GatherElements: gatherElementsRule,
  ScatterElements: scatterElementsRule,
  // A rotation: the transpose is the one by the opposite angle. The angles are not learned.
  RotaryEmbedding: single(({ b, x: [, cos, sin], dy, attributes }) => [
    () => b.node('RotaryEmbedding', [dy, cos, b.neg(sin)], attributes)[0],
    notLearned,
    notLearned,
  ]),
  TensorScatter: 'missing',
  Loop: 'missing',
  If: 'missing',
};

function selection(takesFirst: (b: GraphBuilder, first: Value, second: Value) => Value): Rule {
  return single(({ b, x: [first, second], dy }) => {
    const chosen = once(() => takesFirst(b, first, second));
    return [() => b.where(chosen(), dy, 0), () => b.where(chosen(), 0, dy)];
  });
}

/**
 * Y = alpha op(A) op(C), op a transpose or nothing: d op(A) = alpha dY op(C)^T, d op(C) = alpha op(A)^T dY. Transposes are
 * flags of the product, never nodes; what has been gathered so far is added by the product itself where it is a matrix.
 */
function matrixProduct({ b, x: [a, c], dy, attributes }: Given): readonly Part[] {
  const transA = intAttribute(attributes, 'transA', 0) === 1;
  const transB = intAttribute(attributes, 'transB', 0) === 1;
  const alpha = typeof attributes.alpha === 'object' && 'float' in attributes.alpha ? attributes.alpha.float : 1;
  const product = (left: Value, right: Value, transLeft: boolean, transRight: boolean, flatten = false): Part => {
    const options = { transA: transLeft, transB: transRight, alpha };
    const operand = (x: Value) => (flatten ? flattenRows(b, x) : x);
    const plain = !transLeft && !transRight && alpha === 1;
    const alone = () =>
      plain ? b.matmul(operand(left), operand(right)) : b.fusedMatMul(operand(left), operand(right), options);
    const isMatrix = flatten || (left.rank === 2 && right.rank === 2);
    return isMatrix ? { alone, onto: (sum) => b.gemm(operand(left), operand(right), sum, options) } : alone;
  };
  // One weight matrix for a whole batch: one product over all rows instead of one per matrix, summed.
  const flatten = c.shape.length === 2 && c.shape.every(Number.isInteger) && a.rank > 2 && !transA;
  return [
    transA ? product(c, dy, transB, true) : product(dy, c, false, !transB),
    transB ? product(dy, a, true, transA, flatten) : product(a, dy, !transA, false, flatten),
  ];
}

const notLearned = (): never => {
  throw internal('the angles of a RotaryEmbedding have no gradient rule');
};

/** [..., m, k] -> [... * m, k]. */
function flattenRows(b: GraphBuilder, x: Value): Value {
  const width = x.shape[x.rank - 1];
  return b.reshape(x, [multiplyDims(x.shape.slice(0, -1)), width]);
}

/**
 * RMSNorm over the last axis: y = x r scale with r = 1 / sqrt(mean(x^2) + epsilon), the second output. With q = dy x,
 *
 *   dx = (dy scale) r - x r^3 (sum(q scale) + dr) / size        dscale = sum of q r over the rows
 *
 * where both sums over q are products with a vector.
 */
function rmsNorm({
  b,
  x: [x, scale],
  y: [y, inverse],
  dys: [given, dInverse],
}: RuleArguments): readonly (() => Value)[] {
  const dy = given ?? zerosLike(b, y);
  const r = b.cast(inverse, x.dtype); // (..., 1)
  const q = once(() => b.mul(dy, x));
  const dx = () => {
    const sum = b.matmul(q(), b.unsqueeze(scale, [1])); // (..., 1)
    const total = dInverse === undefined ? sum : b.add(sum, b.cast(dInverse, x.dtype));
    const c = b.div(b.mul(b.mul(r, b.mul(r, r)), total), countAlong(b, x, [x.rank - 1]));
    return b.sub(b.mul(b.mul(dy, scale), r), b.mul(x, c));
  };
  const dscale = () => {
    const row = b.reshape(r, [1, multiplyDims(r.shape)]);
    return b.reshape(b.matmul(row, flattenRows(b, q())), scale.shape);
  };
  return [dx, dscale];
}

const reducedAxes = ({ x: [x], attributes }: Given): number[] =>
  intsAttribute(attributes, 'axes').map((axis) => normalizeAxis(axis, x.rank));

/** Gives a reduction's result its axes of size 1 back, so that it broadcasts against the operand. */
const keepAxes = (given: Given, value: Value): Value =>
  intAttribute(given.attributes, 'keepdims', 1) === 1 ? value : given.b.unsqueeze(value, reducedAxes(given));

const spread = (given: Given, value: Value): Value =>
  expandLike(given.b, value.rank === 0 ? value : keepAxes(given, value), given.x[0]);
