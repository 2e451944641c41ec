import { describe, expect, test } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { printGraph } from '../../src/export/print.ts';
import { verifyGraph } from '../../src/export/verify.ts';
import { openGraph } from './run-graph.ts';

const fresh = () => new GraphBuilder('test');

describe('constants', () => {
  test('equal ones are shared; dtype, shape and the sign of zero tell others apart', () => {
    const b = fresh();
    const one = b.constant('float32', [1, 2]);
    expect(b.constant('float32', [1, 2])).toBe(one);
    expect(b.constant('float64', [1, 2])).not.toBe(one);
    expect(b.constant('float32', [1, 2], [2, 1])).not.toBe(one);
    expect(b.scalar('float32', -0)).not.toBe(b.scalar('float32', 0));
    expect(() => b.constant('float32', [1, 2], [3])).toThrow('internal: 2 values for shape [3]');
  });

  test('every dtype holds its values', async () => {
    const b = fresh();
    for (const dtype of ['float32', 'float64', 'int64', 'int32', 'uint8', 'bool'] as const) {
      b.output(dtype, b.constant(dtype, [1, 0]));
    }
    b.output('negative', b.constant('int64', [-1, 2 ** 40]));
    b.output('half', b.cast(b.constant('bfloat16', [1.5, -2]), 'float32'));
    const session = await openGraph(b.graph);
    expect(await session.run({})).toEqual({
      float32: [1, 0],
      float64: [1, 0],
      int64: [1, 0],
      int32: [1, 0],
      uint8: [1, 0],
      bool: [1, 0],
      negative: [-1, 2 ** 40],
      half: [1.5, -2],
    });
    await session.release();
  });

  test('numbers stand for scalars of the dtype they meet', () => {
    const b = fresh();
    const x = b.input('x', 'float64', [2]);
    expect(b.sub(1, x).dtype).toBe('float64');
    expect(b.where(b.less(x, 0), 0, x).dtype).toBe('float64');
    expect(() => b.add(1, 2)).toThrow('internal: Add of two numbers');
  });
});

test('shapes are inferred, and what does not fit is refused with its operands', () => {
  const b = fresh();
  const x = b.input('x', 'float32', ['N', 1, 3]);
  const y = b.input('y', 'float32', [4, 3]);
  expect(b.add(x, y).shape).toEqual(['N', 4, 3]);
  expect(b.matmul(x, b.transpose(y, [1, 0])).shape).toEqual(['N', 1, 4]);
  expect(b.concat([x, x], 0).shape).toEqual(['N+N', 1, 3]);
  expect(b.reshape(x, ['N*1', 3]).shape).toEqual(['N*1', 3]);
  expect(() => b.matmul(x, y)).toThrow(
    'internal: MatMul(float32[N, 1, 3], float32[4, 3]): inner dimensions differ: [N, 1, 3] x [4, 3]',
  );
  expect(() => b.add(y, b.input('z', 'float32', ['M', 3]))).toThrow(
    'shapes [4, 3] and [M, 3] do not broadcast at axis 0',
  );
  expect(() => b.add(y, b.cast(y, 'float64'))).toThrow('operands of float32 and float64 do not mix');
  expect(() => b.sigmoid(b.int64s([1]))).toThrow('a floating-point operand is needed, not int64');
  expect(() => b.reshape(y, [5])).toThrow('[4, 3] cannot be reshaped to [5]');
  expect(() => b.softmax(y, 2)).toThrow('axis 2 is outside a tensor of rank 2');
  expect(() => b.squeeze(y, [0])).toThrow('axis 0 of size 4 squeezed');
  expect(() => b.transpose(y, [0, 0])).toThrow('perm [0, 0] is no permutation of 2 axes');
});

describe('symbolic sizes', () => {
  test('are read from the input that introduced them, once, or defined', () => {
    const b = fresh();
    const x = b.input('x', 'float32', ['N', 2]);
    expect(b.dim('N')).toBe(b.dim('N'));
    expect(b.knows('N')).toBe(true);
    expect(b.knows('M')).toBe(false);
    expect(() => b.zeros('float32', ['M'])).toThrow('internal: no graph input introduces the symbolic dim M');
    b.defineDim('M', b.mul(b.dim('N'), b.int64s([2])));
    expect(b.knows('M')).toBe(true);
    expect(b.expand(x, [3, 'N', 2]).shape).toEqual([3, 'N', 2]);
  });

  test('a reshape costs nothing at run time where ONNX can infer the sizes', () => {
    const b = fresh();
    const x = b.input('x', 'float32', ['D', 'P', 6]);
    b.input('y', 'float32', ['R']);
    expect(b.reshape(x, ['D', 'P', 6])).toBe(x);
    b.reshape(x, ['D', 'P', 2, 3]);
    b.reshape(x, ['D*P', 6]);
    b.reshape(b.reshape(x, ['D*P', 6]), ['D', 'P', 6]);
    b.reshape(x, ['D', 'P*6']);
    expect(printGraph(b.graph)).toMatchInlineSnapshot(`
      "graph test
        input x: float32[D, P, 6]
        input y: float32[R]
        %0: float32[D, P, 2, 3] = Reshape(x, [0, 0, 2, 3])
        %1: float32[D*P, 6] = Reshape(x, [-1, 6])
        %2: float32[D*P, 6] = Reshape(x, [-1, 6])
        %3: float32[D, P*6] = Reshape(x, [0, -1])"
    `);
  });

  test('run', async () => {
    const b = fresh();
    const x = b.input('x', 'int64', ['D', 'P']);
    b.output('range', b.range('P'));
    b.output('flat', b.reshape(b.reshape(x, ['D*P']), ['P', 'D']));
    b.output('expanded', b.expand(b.range('P'), ['D', 'P']));
    b.output('like', b.reshapeLike(b.transpose(x, [1, 0]), x));
    b.output('tail', b.slice(x, 1, 1, undefined, 'P-1'));
    b.output('shape', b.shapeOf(x));
    const session = await openGraph(b.graph);
    const feeds = { x: { dtype: 'int64', dims: [2, 3], data: [1, 2, 3, 4, 5, 6] } } as const;
    expect(await session.run(feeds)).toEqual({
      range: [0, 1, 2],
      flat: [1, 2, 3, 4, 5, 6],
      expanded: [0, 1, 2, 0, 1, 2],
      like: [1, 4, 2, 5, 3, 6],
      tail: [2, 3, 5, 6],
      shape: [2, 3],
    });
    await session.release();
  });

  test('a slice of unknown size must say it', () => {
    const b = fresh();
    const x = b.input('x', 'float32', ['N']);
    expect(b.slice(x, 0, 1, 3).shape).toEqual([2]);
    expect(() => b.slice(x, 0, 1, undefined)).toThrow('the size of slice 1: of float32[N] must be said');
  });
});

test('an input, and a value that is an output already, get a node of their own as output', async () => {
  const b = fresh();
  const x = b.input('x', 'float32', [2]);
  const y = b.neg(x);
  b.output('x.out', x);
  b.output('y', y);
  b.output('z', y);
  expect(() => b.output('y', x)).toThrow('internal: graph test: two outputs named y');
  expect(() => b.input('x', 'float32', [2])).toThrow('internal: graph test: two inputs or initializers named x');
  const session = await openGraph(b.graph);
  expect(await session.run({ x: { dtype: 'float32', dims: [2], data: [1, 2] } })).toEqual({
    'x.out': [1, 2],
    y: [-1, -2],
    z: [-1, -2],
  });
  await session.release();
});

test('a loop carries values on and stacks what each iteration makes', async () => {
  const b = fresh();
  const x = b.input('x', 'float32', ['C', 2]);
  const start = b.input('start', 'float32', [2]);
  const scale = b.input('scale', 'float32', []);
  const { carried, stacked } = b.loop('C', [start], (i, [sum]) => {
    const row = b.gather(x, i);
    const next = b.add(sum, b.mul(row, scale)); // scale comes from outside
    return { carried: [next], stacked: [b.reduceSum(next, [0], false)] };
  });
  b.output('sum', carried[0]);
  b.output('sums', stacked[0]);
  expect(printGraph(b.graph)).toMatchInlineSnapshot(`
    "graph test
      input x: float32[C, 2]
      input start: float32[2]
      input scale: float32[]
      %0: int64[1] = Shape(x) {start=0, end=1}
      %1: int64[] = Squeeze(%0) {axes=[0]}
      %10: float32[2], %11: float32[C] = Loop(%1, -, start) {body=(iteration, condition, carried_0)}
        %5: float32[2] = Gather(x, %2.iteration) {axis=0}
        %6: float32[2] = Mul(%5, scale)
        %7: float32[2] = Add(%4.carried_0, %6)
        %8: float32[] = ReduceSum(%7) {axes=[0], keepdims=0}
        %9: bool[] = Identity(%3.condition)
        output condition.out = %9
        output carried_0.out = %7
        output stacked_0 = %8
      output sum = %10
      output sums = %11"
  `);
  const session = await openGraph(b.graph);
  const feeds = (rows: number[]) => ({
    x: { dtype: 'float32', dims: [rows.length / 2, 2], data: rows } as const,
    start: { dtype: 'float32', dims: [2], data: [100, 200] } as const,
    scale: { dtype: 'float32', dims: [], data: [2] } as const,
  });
  expect(await session.run(feeds([1, 2, 3, 4, 5, 6]))).toEqual({ sum: [118, 224], sums: [306, 320, 342] });
  expect((await session.run(feeds([1, 2]))).sums).toEqual([306]);
  await session.release();
});

test('what a loop carries keeps its type, and what its body makes stays inside', () => {
  const b = fresh();
  const x = b.input('x', 'float32', ['C', 2]);
  expect(() => b.loop('C', [x], (i, [sum]) => ({ carried: [b.gather(sum, i)], stacked: [] }))).toThrow(
    'internal: Loop(int64[], null, float32[C, 2]): float32[C, 2] is carried on as float32[2]',
  );
  const other = fresh();
  const y = other.input('y', 'float32', ['C', 2]);
  let inside = y;
  other.loop('C', [], (i) => {
    inside = other.gather(y, i);
    return { carried: [], stacked: [other.neg(inside)] };
  });
  other.output('leak', other.exp(inside));
  expect(() => verifyGraph(other.graph)).toThrow('input 0 comes from nowhere');
});

test('either computes what the condition asks for, from values around it', async () => {
  const b = fresh();
  const condition = b.input('condition', 'bool', []);
  const x = b.input('x', 'float32', [2]);
  const [first, second] = b.either(
    condition,
    () => [b.mul(x, 2), x],
    () => [x, b.neg(x)],
  );
  b.output('first', first);
  b.output('second', b.exp(second));
  expect(printGraph(b.graph)).toMatchInlineSnapshot(`
    "graph test
      input condition: bool[]
      input x: float32[2]
      %4: float32[2], %5: float32[2] = If(condition) {then_branch=(), else_branch=()}
        %0: float32[2] = Mul(x, 2)
        %1: float32[2] = Identity(x)
        output then_0 = %0
        output then_1 = %1
        %2: float32[2] = Neg(x)
        %3: float32[2] = Identity(x)
        output else_0 = %3
        output else_1 = %2
      %6: float32[2] = Exp(%5)
      output first = %4
      output second = %6"
  `);
  const session = await openGraph(b.graph);
  const run = (holds: number) =>
    session.run({
      condition: { dtype: 'bool', dims: [], data: [holds] },
      x: { dtype: 'float32', dims: [2], data: [0, 1] },
    });
  expect(await run(1)).toEqual({ first: [0, 2], second: [1, Math.fround(Math.E)] });
  expect(await run(0)).toEqual({ first: [0, 1], second: [1, Math.fround(1 / Math.E)] });
  await session.release();

  expect(() =>
    b.either(
      condition,
      () => [x],
      () => [b.reduceSum(x, [0])],
    ),
  ).toThrow('float32[2] or else float32[1]');
  let inside = x;
  const other = fresh();
  const y = other.input('y', 'float32', [2]);
  other.either(
    other.input('condition', 'bool', []),
    () => {
      inside = other.neg(y);
      return [inside];
    },
    () => [y],
  );
  other.output('leak', other.exp(inside));
  expect(() => verifyGraph(other.graph)).toThrow('input 0 comes from nowhere');
});

test('TensorScatter writes a cache at slots', async () => {
  const b = fresh();
  const cache = b.input('cache', 'float32', [2, 3, 1]);
  const update = b.input('update', 'float32', [2, 1, 1]);
  b.output('out', b.tensorScatter(cache, update, b.constant('int64', [0, 2])));
  const session = await openGraph(b.graph);
  const result = await session.run({
    cache: { dtype: 'float32', dims: [2, 3, 1], data: [1, 2, 3, 4, 5, 6] },
    update: { dtype: 'float32', dims: [2, 1, 1], data: [10, 20] },
  });
  expect(result).toEqual({ out: [10, 2, 3, 4, 5, 20] });
  await session.release();
});
