import { expect, test } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { Value } from '../../src/export/ir.ts';
import { printGraph, printNode } from '../../src/export/print.ts';

test('a graph prints with its names, places, literals and attributes', () => {
  const b = new GraphBuilder('demo');
  const x = b.input('x', 'float32', ['N', 4]);
  const w = b.cast(b.externalInitializer('w', 'bfloat16', [3, 4], 'model.safetensors', 128, 24), 'float32');
  const [left, right] = b.split(b.fusedMatMul(x, w, { transB: true, alpha: 0.5 }), [1, 2], -1);
  const table = b.constant('float32', [0, 1, 2, 3, 4, 5], [3, 2]);
  const y = b.add(b.mul(left, -0), b.gather(table, b.constant('int64', [-1])));
  b.output('y', b.add(b.reduceMean(y, [-1]), right));
  b.output('mask', b.where(b.constant('bool', [1, 0]), right, 1e-5));
  expect(printGraph(b.graph)).toMatchInlineSnapshot(`
    "graph demo
      input x: float32[N, 4]
      initializer w: bfloat16[3, 4] in model.safetensors, 24 bytes at 128
      initializer constant_2: float32[3, 2]
      %0: float32[3, 4] = Cast(w) {to=float32}
      %1: float32[N, 3] = FusedMatMul(x, %0) {transB=1, alpha=0.5}
      %2: float32[N, 1], %3: float32[N, 2] = Split(%1, [1, 2]) {axis=1}
      %4: float32[N, 1] = Mul(%2, -0)
      %5: float32[1, 2] = Gather(constant_2, [-1]) {axis=0}
      %6: float32[N, 2] = Add(%4, %5)
      %7: float32[N, 1] = ReduceMean(%6) {axes=[-1], keepdims=1}
      %8: float32[N, 2] = Add(%7, %3)
      %9: float32[N, 2] = Where([1, 0], %3, 0.00001)
      output y = %8
      output mask = %9"
  `);
});

test('optional inputs, values from nowhere and broken constants print too', () => {
  const b = new GraphBuilder('demo');
  const x = b.input('x', 'float32', [2]);
  const stray = new Value('float32', [2]);
  const node = { op: 'Concat', inputs: [x, null, stray], attributes: { axis: 0 }, outputs: [stray] } as const;
  expect(printNode(b.graph, node)).toBe('%?: float32[2] = Concat(x, -, %?) {axis=0}');
  b.graph.addInitializer({
    name: undefined,
    value: new Value('float32', [2]),
    data: { kind: 'inline', bytes: new Uint8Array(3) },
  });
  expect(printGraph(b.graph)).toBe('graph demo\n  input x: float32[2]\n  initializer constant_0: float32[2]');
});
