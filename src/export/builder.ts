import type { DType } from '../dtypes.ts';
import { typedArrayFor } from '../dtypes.ts';
import { internal } from '../errors.ts';
import type { Composite, Rule } from './gradient-rule.ts';
import type { Attributes, Dim, Node, Shape } from './ir.ts';
import { Graph, multiplyDims, normalizeAxis, sameShape, Value } from './ir.ts';
import { inferNode, type Op } from './operators.ts';

type Scalar = number | Value;

/**
 * Appends nodes to a graph, one method per ONNX operator, shapes inferred as it goes.
 *
 * A symbolic dim is introduced by the first graph input that carries it; `dim` and `reshape` read its size from that
 * input at run time.
 */
export class GraphBuilder {
  readonly graph: Graph;
  /** Where nodes are appended: the graph, or the body of the Loop being built. */
  #scope: Graph;
  readonly #constants = new Map<string, Value>();
  #dims = new Map<Dim, Value>();
  /** Stretches of nodes with a gradient rule of their own, by their last node. */
  readonly composites = new Map<Node, Composite>();
  /** What `reshape` made, and of what. */
  readonly #reshaped = new Map<Value, Value>();
  readonly #introducedBy = new Map<string, { value: Value; axis: number }>();

  constructor(name: string, graph = new Graph(name)) {
    this.graph = graph;
    this.#scope = graph;
  }

  /** The nodes so far, of a body while one is built. */
  get nodes(): readonly Node[] {
    return this.#scope.nodes;
  }

  input(name: string, dtype: DType, shape: Shape): Value {
    const value = this.graph.addInput(name, new Value(dtype, shape));
    shape.forEach((dim, axis) => {
      if (typeof dim === 'string' && !this.#introducedBy.has(dim)) this.#introducedBy.set(dim, { value, axis });
    });
    return value;
  }

  output(name: string, value: Value): void {
    // A graph output needs a node of its own to carry its name: an input passed through has none.
    const isNodeOutput = this.graph.nodes.some((node) => node.outputs.includes(value));
    const taken = [...this.graph.outputs.values()].includes(value);
    this.graph.addOutput(name, isNodeOutput && !taken ? value : this.identity(value));
  }

  /** An initializer whose bytes lie in a file beside the graph (offset and length in bytes). */
  externalInitializer(
    name: string,
    dtype: DType,
    shape: Shape,
    location: string,
    offset: number,
    length: number,
  ): Value {
    const data = { kind: 'external', location, offset, length } as const;
    return this.graph.addInitializer({ name, value: new Value(dtype, shape), data });
  }

  inlineInitializer(name: string, dtype: DType, shape: readonly number[], bytes: Uint8Array): Value {
    return this.graph.addInitializer({ name, value: new Value(dtype, shape), data: { kind: 'inline', bytes } });
  }

  /** A constant tensor; equal constants are one initializer. Default shape: [values.length]. */
  constant(dtype: DType, values: readonly number[], shape: readonly number[] = [values.length]): Value {
    if (multiplyDims(shape) !== values.length)
      throw internal(`${values.length} values for shape [${shape.join(', ')}]`);
    if (dtype === 'float16' || dtype === 'bfloat16') return this.cast(this.constant('float32', values, shape), dtype);
    const key = `${dtype} ${shape.join(',')} ${values.map((value) => (Object.is(value, -0) ? '-0' : value)).join(',')}`;
    let value = this.#constants.get(key);
    if (value === undefined) {
      const array = new (typedArrayFor(dtype))(new ArrayBuffer(values.length * 8), 0, values.length);
      values.forEach((v, i) => {
        array[i] = array instanceof BigInt64Array || array instanceof BigUint64Array ? BigInt(v) : v;
      });
      const bytes = new Uint8Array(array.buffer, 0, array.byteLength);
      value = this.graph.addInitializer({
        name: undefined,
        value: new Value(dtype, shape),
        data: { kind: 'inline', bytes },
      });
      this.#constants.set(key, value);
    }
    return value;
  }

  scalar(dtype: DType, value: number): Value {
    return this.constant(dtype, [value], []);
  }

  int64s(values: readonly number[]): Value {
    return this.constant('int64', values);
  }

  /** Appends any operator; the methods below are this with the usual arguments. */
  node(
    op: Op,
    inputs: readonly (Value | null)[],
    attributes: Attributes = {},
    declared: readonly Shape[] = [],
  ): Value[] {
    const outputs = inferNode(op, inputs, attributes, declared).map(({ dtype, shape }) => new Value(dtype, shape));
    this.#scope.nodes.push({ op, inputs, attributes, outputs });
    return outputs;
  }

  /**
   * The nodes that `forward` appends, differentiated as one by `rule` instead of one by one.
   * @param forward its first value is the result; more are for the rule to read: they get no gradient of their own
   * @param inputs what the rule has parts for
   */
  composite(inputs: readonly Value[], forward: () => readonly Value[], rule: Rule): Value {
    const start = this.nodes.length;
    const outputs = forward();
    const last = this.nodes.at(-1);
    if (last === undefined || this.nodes.length === start) throw internal('a composite without nodes');
    this.composites.set(last, { start, inputs, outputs, rule });
    return outputs[0];
  }

  #one(op: Op, inputs: readonly (Value | null)[], attributes: Attributes = {}, declared?: Shape): Value {
    return this.node(op, inputs, attributes, declared ? [declared] : [])[0];
  }

  /** Lets a JavaScript number stand for a scalar of the other operand's dtype. */
  #pair(op: Op, a: Scalar, b: Scalar): Value {
    const dtype = a instanceof Value ? a.dtype : b instanceof Value ? b.dtype : undefined;
    if (dtype === undefined) throw internal(`${op} of two numbers`);
    const lift = (x: Scalar) => (x instanceof Value ? x : this.scalar(dtype, x));
    return this.#one(op, [lift(a), lift(b)]);
  }

  add = (a: Scalar, b: Scalar): Value => this.#pair('Add', a, b);
  sub = (a: Scalar, b: Scalar): Value => this.#pair('Sub', a, b);
  mul = (a: Scalar, b: Scalar): Value => this.#pair('Mul', a, b);
  div = (a: Scalar, b: Scalar): Value => this.#pair('Div', a, b);
  min = (a: Scalar, b: Scalar): Value => this.#pair('Min', a, b);
  max = (a: Scalar, b: Scalar): Value => this.#pair('Max', a, b);
  pow = (a: Scalar, b: Scalar): Value => this.#pair('Pow', a, b);
  less = (a: Scalar, b: Scalar): Value => this.#pair('Less', a, b);
  lessOrEqual = (a: Scalar, b: Scalar): Value => this.#pair('LessOrEqual', a, b);
  greater = (a: Scalar, b: Scalar): Value => this.#pair('Greater', a, b);
  greaterOrEqual = (a: Scalar, b: Scalar): Value => this.#pair('GreaterOrEqual', a, b);
  equal = (a: Scalar, b: Scalar): Value => this.#pair('Equal', a, b);
  and = (a: Value, b: Value): Value => this.#one('And', [a, b]);
  or = (a: Value, b: Value): Value => this.#one('Or', [a, b]);
  not = (x: Value): Value => this.#one('Not', [x]);
  isNaN = (x: Value): Value => this.#one('IsNaN', [x]);
  isInf = (x: Value): Value => this.#one('IsInf', [x]);

  where(condition: Value, a: Scalar, b: Scalar): Value {
    const dtype = a instanceof Value ? a.dtype : b instanceof Value ? b.dtype : 'float32';
    const lift = (x: Scalar) => (x instanceof Value ? x : this.scalar(dtype, x));
    return this.#one('Where', [condition, lift(a), lift(b)]);
  }

  neg = (x: Value): Value => this.#one('Neg', [x]);
  abs = (x: Value): Value => this.#one('Abs', [x]);
  identity = (x: Value): Value => this.#one('Identity', [x]);
  exp = (x: Value): Value => this.#one('Exp', [x]);
  log = (x: Value): Value => this.#one('Log', [x]);
  sqrt = (x: Value): Value => this.#one('Sqrt', [x]);
  reciprocal = (x: Value): Value => this.#one('Reciprocal', [x]);
  sigmoid = (x: Value): Value => this.#one('Sigmoid', [x]);
  tanh = (x: Value): Value => this.#one('Tanh', [x]);
  softplus = (x: Value): Value => this.#one('Softplus', [x]);
  relu = (x: Value): Value => this.#one('Relu', [x]);
  /** x where x > alpha, else 0. */
  thresholdedRelu = (x: Value, alpha: number): Value => this.#one('ThresholdedRelu', [x], { alpha: { float: alpha } });
  /** x where |x| > threshold, else 0. */
  shrink = (x: Value, threshold: number): Value => this.#one('Shrink', [x], { lambd: { float: threshold } });
  cos = (x: Value): Value => this.#one('Cos', [x]);
  sin = (x: Value): Value => this.#one('Sin', [x]);
  cast = (x: Value, to: DType): Value => (x.dtype === to ? x : this.#one('Cast', [x], { to }));

  matmul = (a: Value, b: Value): Value => this.#one('MatMul', [a, b]);
  /** alpha * op(a) op(b), op a transpose of the last two axes where asked. com.microsoft. */
  fusedMatMul(a: Value, b: Value, options: { transA?: boolean; transB?: boolean; alpha?: number } = {}): Value {
    const { transA = false, transB = false, alpha = 1 } = options;
    return this.#one('FusedMatMul', [a, b], {
      transA: Number(transA),
      transB: Number(transB),
      alpha: { float: alpha },
    });
  }
  /** alpha * op(a) op(b) + c on matrices, op a transpose where asked. */
  gemm(a: Value, b: Value, c: Value, options: { transA?: boolean; transB?: boolean; alpha?: number } = {}): Value {
    const { transA = false, transB = false, alpha = 1 } = options;
    return this.#one('Gemm', [a, b, c], {
      transA: Number(transA),
      transB: Number(transB),
      alpha: { float: alpha },
    });
  }
  softmax = (x: Value, axis = -1): Value => this.#one('Softmax', [x], { axis });
  logSoftmax = (x: Value, axis = -1): Value => this.#one('LogSoftmax', [x], { axis });
  /** RMSNorm over the last axis: [x * inverse, inverse], inverse = 1 / sqrt(mean(x^2) + epsilon). Fused. */
  simplifiedLayerNormalization = (x: Value, scale: Value, epsilon: number): [Value, Value] => {
    const [y, inverse] = this.node('SimplifiedLayerNormalization', [x, scale], {
      axis: -1,
      epsilon: { float: epsilon },
      stash_type: 1,
    });
    return [y, inverse];
  };

  /** RoPE (halves convention) on x [B, heads, S, d] with cos and sin [B, S, d/2]. */
  rotaryEmbedding = (x: Value, cos: Value, sin: Value): Value => this.#one('RotaryEmbedding', [x, cos, sin]);

  reduceSum = (x: Value, axes: readonly number[], keepdims = true): Value =>
    this.#reduce('ReduceSum', x, axes, keepdims);
  reduceMean = (x: Value, axes: readonly number[], keepdims = true): Value =>
    this.#reduce('ReduceMean', x, axes, keepdims);
  reduceMax = (x: Value, axes: readonly number[], keepdims = true): Value =>
    this.#reduce('ReduceMax', x, axes, keepdims);
  reduceSumSquare = (x: Value, axes: readonly number[], keepdims = true): Value =>
    this.#reduce('ReduceSumSquare', x, axes, keepdims);
  #reduce(op: Op, x: Value, axes: readonly number[], keepdims: boolean): Value {
    // ONNX takes an empty list of axes for "all of them".
    return axes.length === 0 ? x : this.#one(op, [x], { axes, keepdims: Number(keepdims) });
  }
  cumsum = (x: Value, axis: number): Value => this.#one('CumSum', [x], { axis });
  argmax = (x: Value, axis: number, keepdims = true): Value =>
    this.#one('ArgMax', [x], { axis, keepdims: Number(keepdims) });
  /** Indices of the elements that are not 0, int64 [rank, count], `size` the dim that their count makes. */
  nonZero = (x: Value, size: Dim): Value => this.#one('NonZero', [x], {}, [x.rank, size]);
  /** The k largest along an axis, largest first: k int64 [1] at run time, `size` the dim it makes. */
  topK(x: Value, k: Value, axis: number, size: Dim): Value {
    const at = normalizeAxis(axis, x.rank);
    return this.node('TopK', [x, k], { axis: at, largest: 1, sorted: 1 }, [x.shape.with(at, size)])[0];
  }

  transpose = (x: Value, perm: readonly number[]): Value => this.#one('Transpose', [x], { perm });
  unsqueeze = (x: Value, axes: readonly number[]): Value => this.#one('Unsqueeze', [x], { axes });
  squeeze = (x: Value, axes: readonly number[]): Value => this.#one('Squeeze', [x], { axes });
  concat = (xs: readonly Value[], axis: number): Value =>
    xs.length === 1 ? xs[0] : this.#one('Concat', xs, { axis: normalizeAxis(axis, xs[0].rank) });

  /** Splits along an axis into parts of the given sizes (static or symbolic). */
  split(x: Value, sizes: readonly Dim[], axis: number): Value[] {
    const at = normalizeAxis(axis, x.rank);
    const declared = sizes.map((size) => x.shape.with(at, size));
    return this.node('Split', [x, this.dims(sizes)], { axis: at }, declared);
  }

  /** x[start:end] along one axis with static bounds; `end` undefined means to the end. `size`: the resulting dim. */
  slice(x: Value, axis: number, start: number, end: number | undefined, size?: Dim): Value {
    const at = normalizeAxis(axis, x.rank);
    const length = x.shape[at];
    const known =
      typeof length === 'number'
        ? (end ?? length) - start
        : end !== undefined && start >= 0 && end >= 0
          ? end - start
          : undefined;
    const dim = size ?? known;
    if (dim === undefined) throw internal(`the size of slice ${start}:${end ?? ''} of ${x} must be said`);
    const inputs = [x, this.int64s([start]), this.int64s([end ?? 2 ** 31 - 1]), this.int64s([at])];
    return this.#one('Slice', inputs, {}, x.shape.with(at, dim));
  }

  gather = (data: Value, indices: Value, axis = 0): Value => this.#one('Gather', [data, indices], { axis });
  gatherElements = (data: Value, indices: Value, axis: number): Value =>
    this.#one('GatherElements', [data, indices], { axis: normalizeAxis(axis, data.rank) });
  /** There is no ScatterND: with reduction add, its CPU kernel loses updates where an index repeats. */
  scatterElements = (data: Value, indices: Value, updates: Value, axis: number, reduction: 'none' | 'add'): Value =>
    this.#one('ScatterElements', [data, indices, updates], { axis: normalizeAxis(axis, data.rank), reduction });
  /** Writes update [B, ..., m, d] into cache [B, ..., S, d] at slots writeIndices[b] ... + m. In place when bound so. */
  tensorScatter = (cache: Value, update: Value, writeIndices: Value, axis = -2): Value =>
    this.#one('TensorScatter', [cache, update, writeIndices], { axis, mode: 'linear' });

  /**
   * Repeats `body` for iteration = 0, 1, ... count - 1 (int64 []).
   * @param count int64 [1]: the size of the dim `iterations`
   * @param carried given to the first iteration; each hands them on, in the same types, to the next
   * @returns what the last iteration carried on, and per `stacked` value one of shape [iterations, ...its shape]
   */
  loop(
    iterations: Dim,
    carried: readonly Value[],
    body: (iteration: Value, carried: readonly Value[]) => { carried: readonly Value[]; stacked: readonly Value[] },
  ): { carried: Value[]; stacked: Value[] } {
    const count = this.squeeze(this.dim(iterations), [0]);
    const inner = new Graph('body');
    const iteration = inner.addInput('iteration', new Value('int64', []));
    const condition = inner.addInput('condition', new Value('bool', []));
    const given = carried.map(({ dtype, shape }, i) => inner.addInput(`carried_${i}`, new Value(dtype, shape)));
    const made = this.#inside(inner, () => {
      const results = body(iteration, given);
      inner.addOutput('condition.out', this.identity(condition));
      return results;
    });
    made.carried.forEach((value, i) => {
      inner.addOutput(`carried_${i}.out`, value);
    });
    made.stacked.forEach((value, i) => {
      inner.addOutput(`stacked_${i}`, value);
    });
    const stackedShapes = made.stacked.map(({ shape }): Shape => [iterations, ...shape]);
    const shapes = [...made.carried.map(({ shape }) => shape), ...stackedShapes];
    const outputs = this.node('Loop', [count, null, ...carried], { body: inner }, shapes);
    return { carried: outputs.slice(0, carried.length), stacked: outputs.slice(carried.length) };
  }

  /**
   * What `onTrue` makes where the condition (bool []) holds, what `onFalse` makes where it does not: as many values, of the same
   * types. Only the one that is asked for is computed.
   */
  either(condition: Value, onTrue: () => readonly Value[], onFalse: () => readonly Value[]): Value[] {
    const body = (name: string, make: () => readonly Value[]) => {
      const inner = new Graph(name);
      this.#inside(inner, () => {
        make().forEach((value, i) => {
          const isOwn = inner.nodes.some(({ outputs }) => outputs.includes(value));
          inner.addOutput(`${name}_${i}`, isOwn ? value : this.identity(value));
        });
      });
      return inner;
    };
    return this.node('If', [condition], { then_branch: body('then', onTrue), else_branch: body('else', onFalse) });
  }

  /** Runs `make` with its nodes going into a body. What it measures is unknown outside. */
  #inside<T>(body: Graph, make: () => T): T {
    const outside = { scope: this.#scope, dims: this.#dims };
    this.#dims = new Map(outside.dims);
    this.#scope = body;
    try {
      return make();
    } finally {
      this.#scope = outside.scope;
      this.#dims = outside.dims;
    }
  }

  /** Zeros of a shape known at run time. */
  zeros = (dtype: DType, shape: Shape): Value => this.#one('ConstantOfShape', [this.dims(shape)], { dtype }, shape);
  expand = (x: Value, shape: Shape): Value =>
    sameShape(x.shape, shape) ? x : this.#one('Expand', [x, this.dims(shape)], {}, shape);
  /** int64 [size]: 0, 1, ... size - 1. */
  range(size: Dim): Value {
    const limit = this.squeeze(this.dim(size), [0]);
    return this.#one('Range', [this.scalar('int64', 0), limit, this.scalar('int64', 1)], {}, [size]);
  }

  /** int64 [rank] of the shape, or of the axes [start, end). */
  shapeOf = (x: Value, start = 0, end = x.rank): Value => this.#one('Shape', [x], { start, end });

  /** int64 [1]: the size of a dim, read at run time from the graph input that introduced the symbol. */
  dim(dim: Dim): Value {
    if (typeof dim === 'number') return this.int64s([dim]);
    let value = this.#dims.get(dim);
    if (value === undefined) {
      const source = this.#introducedBy.get(dim);
      if (source === undefined) throw internal(`no graph input introduces the symbolic dim ${dim}`);
      value = this.shapeOf(source.value, source.axis, source.axis + 1);
      this.#dims.set(dim, value);
    }
    return value;
  }

  /** Whether `dim`, `dims`, `range`, `zeros` and `expand` can read the size. */
  knows(dim: Dim): boolean {
    return typeof dim === 'number' || this.#introducedBy.has(dim) || this.#dims.has(dim);
  }

  /** Names the size [1] of a derived dim (say `D*P`), so that `dim`, `range` and `zeros` know it. */
  defineDim(dim: string, size: Value): void {
    this.#dims.set(dim, size);
  }

  /** int64 [rank]: several dims as one vector. */
  dims(shape: Shape): Value {
    if (shape.every((dim) => typeof dim === 'number')) return this.int64s(shape);
    return this.concat(
      shape.map((dim) => this.dim(dim)),
      0,
    );
  }

  /**
   * Reshape to static or symbolic dims. A symbol that stays on its axis, and one that no graph input introduces, cost
   * nothing at run time (ONNX's 0 and -1). Of a value that is itself reshaped, the original is: the node between is left for
   * dropUnread.
   */
  reshape(x: Value, shape: Shape): Value {
    const original = this.#reshaped.get(x);
    if (original !== undefined) return this.reshape(original, shape);
    if (sameShape(x.shape, shape)) return x;
    const result = this.#reshape(x, shape);
    this.#reshaped.set(result, x);
    return result;
  }

  #reshape(x: Value, shape: Shape): Value {
    const kept = shape.map((dim, axis) => typeof dim === 'string' && x.shape[axis] === dim);
    const moved = shape.flatMap((dim, axis) => (typeof dim === 'string' && !kept[axis] ? [axis] : []));
    const inferred = moved.find((axis) => !this.knows(shape[axis])) ?? moved[0];
    const rest = moved.filter((axis) => axis !== inferred);
    if (rest.length === 0) {
      const target = shape.map((dim, axis) => (kept[axis] ? 0 : axis === inferred ? -1 : Number(dim)));
      return this.#one('Reshape', [x, this.int64s(target)], {}, shape);
    }
    const parts = shape.map((dim, axis) => (axis === inferred ? this.int64s([-1]) : this.dim(dim)));
    return this.#one('Reshape', [x, this.concat(parts, 0)], {}, shape);
  }

  /** Reshape to the run-time shape of another value: for shapes whose symbols no graph input introduces. */
  reshapeLike(x: Value, like: Value): Value {
    return sameShape(x.shape, like.shape) ? x : this.#one('Reshape', [x, this.shapeOf(like)], {}, like.shape);
  }
}
