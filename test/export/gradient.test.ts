import { describe, expect, test } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { gradients } from '../../src/export/gradient.ts';
import type { Value } from '../../src/export/ir.ts';
import { printGraph } from '../../src/export/print.ts';
import { openGraph, type Tensor } from './run-graph.ts';

const vector = (data: readonly number[]): Tensor => ({ dtype: 'float64', dims: [data.length], data });

/** d sum(f(x)) / d x_i for vectors x. */
async function gradientOf(
  f: (b: GraphBuilder, ...x: Value[]) => Value,
  ...points: (readonly number[])[]
): Promise<number[][]> {
  const b = new GraphBuilder('test');
  const x = points.map(({ length }, i) => b.input(`x${i}`, 'float64', [length]));
  const grads = gradients(b, b.reduceSum(f(b, ...x), [0], false), x);
  grads.forEach((grad, i) => {
    b.output(`dx${i}`, grad);
  });
  const session = await openGraph(b.graph);
  const results = await session.run(Object.fromEntries(points.map((point, i) => [`x${i}`, vector(point)])));
  await session.release();
  return grads.map((_, i) => results[`dx${i}`]);
}

describe('where functions have kinks', () => {
  test.each([
    ['min', (b: GraphBuilder, x: Value, y: Value) => b.min(x, y), [1, 1, 0], [0, 0, 1]],
    ['max', (b: GraphBuilder, x: Value, y: Value) => b.max(x, y), [0, 1, 1], [1, 0, 0]],
  ])('%s of equal operands gives the gradient to the first', async (_name, f, first, second) => {
    expect(await gradientOf(f, [1, 2, 3], [2, 2, 2])).toEqual([first, second]);
  });

  test('abs and relu have gradient 0 at 0', async () => {
    expect(await gradientOf((b, x) => b.abs(x), [-2, 0, 2])).toEqual([[-1, 0, 1]]);
    expect(await gradientOf((b, x) => b.relu(x), [-2, 0, 2])).toEqual([[0, 0, 1]]);
  });

  test('reduceMax shares among equal maxima', async () => {
    expect(await gradientOf((b, x) => b.reduceMax(x, [0]), [1, 3, 3, 2])).toEqual([[0, 0.5, 0.5, 0]]);
  });

  test('the clipped surrogate learns inside and at the borders of the clip range, and outside only back into it', async () => {
    // min(rho A, clip(rho, 0.8, 1.2) A)
    const surrogate = (b: GraphBuilder, ratio: Value, advantage: Value) =>
      b.min(b.mul(ratio, advantage), b.mul(b.min(b.max(ratio, 0.8), 1.2), advantage));
    const ratios = [1, 1, 1.2, 0.8, 1.5, 1.5, 0.5, 0.5];
    const advantages = [2, -2, 2, -2, 2, -2, 2, -2];
    const [gradient] = await gradientOf(surrogate, ratios, advantages);
    expect(gradient).toEqual([2, -2, 2, -2, 0, -2, 2, 0]);
  });
});

describe('the walk', () => {
  test('adds up all uses of a value', async () => {
    // x^2 + x exp(x) + x
    const f = (b: GraphBuilder, x: Value) => b.add(b.add(b.mul(x, x), b.mul(x, b.exp(x))), x);
    const [gradient] = await gradientOf(f, [0, 1]);
    expect(gradient[0]).toBeCloseTo(2, 12);
    expect(gradient[1]).toBeCloseTo(3 + 2 * Math.E, 12);
  });

  test('gives zeros where the output does not depend on a value, also with symbolic sizes', async () => {
    const b = new GraphBuilder('test');
    const x = b.input('x', 'float64', ['n']);
    const y = b.input('y', 'float64', ['n', 2]);
    const through = b.cast(b.argmax(y, 0), 'float64'); // stops the gradient
    const loss = b.reduceSum(b.mul(x, b.reduceSum(through, [0, 1])), [0, 1], false);
    const [dx, dy] = gradients(b, b.reduceSum(loss, [], false), [x, y]);
    b.output('dx', dx);
    b.output('dy', dy);
    const session = await openGraph(b.graph);
    const feeds = { x: vector([1, 2]), y: { dtype: 'float64', dims: [2, 2], data: [1, 2, 3, 4] } } as const;
    expect(await session.run(feeds)).toEqual({ dx: [2, 2], dy: [0, 0, 0, 0] });
    await session.release();
  });

  test('derivatives are total, and an output is its own derivative 1', async () => {
    const b = new GraphBuilder('test');
    const x = b.input('x', 'float64', []);
    const square = b.mul(x, x);
    const cube = b.mul(square, x);
    const unrelated = b.input('y', 'float64', []);
    gradients(b, cube, [cube, square, x, unrelated]).forEach((grad, i) => {
      b.output(`d${i}`, grad);
    });
    const session = await openGraph(b.graph);
    const scalar = (value: number) => ({ dtype: 'float64', dims: [], data: [value] }) as const;
    const results = await session.run({ x: scalar(3), y: scalar(0) });
    expect(results).toEqual({ d0: [1], d1: [3], d2: [27], d3: [0] });
    await session.release();
  });

  test('visits only what lies between the output and what is wanted', () => {
    const b = new GraphBuilder('test');
    const x = b.input('x', 'float64', [2]);
    const w = b.input('w', 'float64', [2]);
    const loss = b.reduceSum(b.mul(w, b.exp(x)), [0], false);
    b.log(w); // depends on w, but the loss not on it
    b.output('dw', gradients(b, loss, [w])[0]);
    expect(printGraph(b.graph)).toMatchInlineSnapshot(`
      "graph test
        input x: float64[2]
        input w: float64[2]
        %0: float64[2] = Exp(x)
        %1: float64[2] = Mul(w, %0)
        %2: float64[] = ReduceSum(%1) {axes=[0], keepdims=0}
        %3: float64[2] = Log(w)
        %4: float64[2] = Expand(1, [2])
        %5: float64[2] = Mul(%4, %0)
        output dw = %5"
    `);
  });

  test('refuses what has no derivative or no rule', () => {
    const b = new GraphBuilder('test');
    const ids = b.input('ids', 'int64', []);
    const x = b.input('x', 'float32', []);
    expect(() => gradients(b, x, [ids])).toThrow('no gradient of or with respect to a value of type int64[]');
    expect(() => gradients(b, b.input('v', 'float32', [2]), [x])).toThrow('float32[2] cannot start from float32[]');

    const cache = b.input('cache', 'float32', [1, 4, 2]);
    const update = b.input('update', 'float32', [1, 1, 2]);
    const written = b.reduceSum(b.tensorScatter(cache, update, b.int64s([1])), [0, 1, 2], false);
    expect(() => gradients(b, written, [update])).toThrow('operator TensorScatter has no gradient rule');
    // Not in the way: no error.
    expect(gradients(b, written, [written, x])).toHaveLength(2);
  });
});

test('the gradient of a gather counts every repeated index, on several threads too', async () => {
  const [rows, width, count] = [5, 64, 4096];
  const b = new GraphBuilder('test');
  const table = b.input('table', 'float32', [rows, width]);
  const ids = b.input('ids', 'int64', [count]);
  b.output('d', gradients(b, b.reduceSum(b.gather(table, ids), [0, 1], false), [table])[0]);
  const session = await openGraph(b.graph, 4);
  const feeds: Record<string, Tensor> = {
    table: { dtype: 'float32', dims: [rows, width], data: Array(rows * width).fill(0) },
    ids: { dtype: 'int64', dims: [count], data: Array.from({ length: count }, (_, i) => i % 2) },
  };
  const expected = [2048, 2048, 0, 0, 0].flatMap((value) => Array(width).fill(value));
  for (let run = 0; run < 5; run++) expect((await session.run(feeds)).d).toEqual(expected);
  await session.release();
});

test('one weight for a batch of matrices: one product over all rows, no transposed copies', () => {
  const b = new GraphBuilder('test');
  const x = b.input('x', 'float32', ['B', 'T', 4]);
  const w = b.input('w', 'float32', [3, 4]);
  const loss = b.reduceSum(b.fusedMatMul(x, w, { transB: true }), [0, 1, 2], false);
  gradients(b, loss, [x, w]).forEach((grad, i) => {
    b.output(`d${i}`, grad);
  });
  expect(printGraph(b.graph)).toMatchInlineSnapshot(`
    "graph test
      input x: float32[B, T, 4]
      input w: float32[3, 4]
      %0: float32[B, T, 3] = FusedMatMul(x, w) {transB=1}
      %1: float32[] = ReduceSum(%0) {axes=[0, 1, 2], keepdims=0}
      %2: int64[1] = Shape(x) {start=0, end=1}
      %3: int64[1] = Shape(x) {start=1, end=2}
      %4: int64[3] = Concat(%2, %3, [3]) {axis=0}
      %5: float32[B, T, 3] = Expand(1, %4)
      %6: float32[B, T, 4] = MatMul(%5, w)
      %7: float32[B*T, 3] = Reshape(%5, [-1, 3])
      %8: float32[B*T, 4] = Reshape(x, [-1, 4])
      %9: float32[3, 4] = FusedMatMul(%7, %8) {transA=1}
      output d0 = %6
      output d1 = %9"
  `);
});

test('the gradient of a tiny MLP', () => {
  const b = new GraphBuilder('mlp');
  const x = b.input('x', 'float32', ['N', 3]);
  const target = b.input('target', 'int64', ['N']);
  const [w1, bias, w2] = [
    b.input('w1', 'float32', [3, 4]),
    b.input('bias', 'float32', [4]),
    b.input('w2', 'float32', [4, 5]),
  ];
  const hidden = b.relu(b.add(b.matmul(x, w1), bias));
  const logProbs = b.logSoftmax(b.matmul(hidden, w2));
  const picked = b.gatherElements(logProbs, b.unsqueeze(target, [1]), 1);
  const loss = b.neg(b.reduceMean(picked, [0, 1], false));
  const [d1, dBias, d2] = gradients(b, loss, [w1, bias, w2]);
  b.output('loss', loss);
  b.output('w1.grad', d1);
  b.output('bias.grad', dBias);
  b.output('w2.grad', d2);
  expect(printGraph(b.graph)).toMatchInlineSnapshot(`
    "graph mlp
      input x: float32[N, 3]
      input target: int64[N]
      input w1: float32[3, 4]
      input bias: float32[4]
      input w2: float32[4, 5]
      %0: float32[N, 4] = MatMul(x, w1)
      %1: float32[N, 4] = Add(%0, bias)
      %2: float32[N, 4] = Relu(%1)
      %3: float32[N, 5] = MatMul(%2, w2)
      %4: float32[N, 5] = LogSoftmax(%3) {axis=-1}
      %5: int64[N, 1] = Unsqueeze(target) {axes=[1]}
      %6: float32[N, 1] = GatherElements(%4, %5) {axis=1}
      %7: float32[] = ReduceMean(%6) {axes=[0, 1], keepdims=0}
      %8: float32[] = Neg(%7)
      %9: float32[] = Neg(1)
      %10: int64[1] = Shape(x) {start=0, end=1}
      %11: int64[] = Squeeze(%10) {axes=[0]}
      %12: float32[] = Cast(%11) {to=float32}
      %13: float32[] = Div(%9, %12)
      %14: int64[2] = Concat(%10, [1]) {axis=0}
      %15: float32[N, 1] = Expand(%13, %14)
      %16: int64[2] = Concat(%10, [5]) {axis=0}
      %17: float32[N, 5] = ConstantOfShape(%16) {dtype=float32}
      %18: float32[N, 5] = ScatterElements(%17, %5, %15) {axis=1, reduction=add}
      %19: float32[N, 5] = Exp(%4)
      %20: float32[N, 1] = ReduceSum(%18) {axes=[-1], keepdims=1}
      %21: float32[N, 5] = Mul(%19, %20)
      %22: float32[N, 5] = Sub(%18, %21)
      %23: float32[N, 4] = FusedMatMul(%22, w2) {transB=1}
      %24: float32[4, 5] = FusedMatMul(%2, %22) {transA=1}
      %25: bool[N, 4] = Greater(%2, 0)
      %26: float32[N, 4] = Where(%25, %23, 0)
      %27: float32[4] = ReduceSum(%26) {axes=[0], keepdims=0}
      %28: float32[3, 4] = FusedMatMul(x, %26) {transA=1}
      output loss = %8
      output w1.grad = %28
      output bias.grad = %27
      output w2.grad = %24"
  `);
});
