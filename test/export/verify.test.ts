import { expect, test } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { gradients } from '../../src/export/gradient.ts';
import { type Node, Value } from '../../src/export/ir.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { verifyGraph } from '../../src/export/verify.ts';

/** y = exp(x + 1), x float32[N, 2]. */
function graph() {
  const b = new GraphBuilder('demo');
  const x = b.input('x', 'float32', ['N', 2]);
  const y = b.exp(b.add(x, 1));
  b.output('y', y);
  return { b, graph: b.graph, x, y };
}

const node = (op: Node['op'], inputs: Node['inputs'], outputs: Node['outputs'], attributes = {}): Node => ({
  op,
  inputs,
  attributes,
  outputs,
});

test('accepts what the builder and gradients make', () => {
  const { b, graph: whole, x, y } = graph();
  const loss = b.reduceSum(b.softmax(b.concat([y, x], 1)), [0, 1], false);
  b.output('dx', gradients(b, loss, [x])[0]);
  expect(() => verifyGraph(whole)).not.toThrow();
});

test('a value with two origins', () => {
  const { graph: whole, x, y } = graph();
  whole.nodes.push(node('Neg', [x], [y]));
  expect(() => verifyGraph(whole)).toThrow(
    'internal: graph demo: output 0 has another origin already\n  %2: float32[N, 2] = Neg(x)',
  );
  const second = graph();
  second.graph.inputs.set('again', second.x);
  expect(() => verifyGraph(second.graph)).toThrow('internal: graph demo: input again has another origin already');
});

test('a node before the one it reads, and a value of another graph', () => {
  const { graph: whole } = graph();
  whole.nodes.reverse();
  expect(() => verifyGraph(whole)).toThrow(
    'internal: graph demo: input 0 is used before the node that makes it\n  %0: float32[N, 2] = Exp(%1)',
  );
  const other = graph();
  other.b.neg(graph().y);
  expect(() => verifyGraph(other.graph)).toThrow(
    'internal: graph demo: input 0 comes from nowhere\n  %2: float32[N, 2] = Neg(%?)',
  );
});

test('an output that is not of the graph', () => {
  const { graph: whole } = graph();
  whole.outputs.set('z', graph().y);
  expect(() => verifyGraph(whole)).toThrow('internal: graph demo: output z comes from nowhere');
});

test('a recorded dtype, shape or number of outputs that the operator does not give', () => {
  const { graph: whole, x } = graph();
  whole.nodes.push(node('Neg', [x], [new Value('float32', [2, 'N'])]));
  expect(() => verifyGraph(whole)).toThrow('output 0 must be float32[N, 2]\n  %2: float32[2, N] = Neg(x)');
  whole.nodes.splice(-1, 1, node('Less', [x, x], [new Value('float32', ['N', 2])]));
  expect(() => verifyGraph(whole)).toThrow('output 0 must be bool[N, 2]\n  %2: float32[N, 2] = Less(x, x)');
  whole.nodes.splice(-1, 1, node('Neg', [x], [new Value('float32', ['N', 2]), new Value('float32', [])]));
  expect(() => verifyGraph(whole)).toThrow('2 outputs instead of 1\n');
});

test('inputs that the operator does not take', () => {
  const { graph: whole, x } = graph();
  whole.nodes.push(node('ReduceSum', [x], [x], { axes: [2], keepdims: 1 }));
  expect(() => verifyGraph(whole)).toThrow('axis 2 is outside a tensor of rank 2');
});

test('an initializer with too few bytes, or without a static shape', () => {
  const { b, graph: whole } = graph();
  b.inlineInitializer('w', 'float32', [2], new Uint8Array(4));
  expect(() => verifyGraph(whole)).toThrow('internal: graph demo: initializer w float32[2] has 4 bytes');
  const second = graph();
  second.b.externalInitializer('w', 'bfloat16', ['N'], 'model.safetensors', 0, 4);
  expect(() => verifyGraph(second.graph)).toThrow('initializer w bfloat16[N] has 4 bytes');
});

test('serializeGraph verifies', () => {
  const { graph: whole } = graph();
  whole.nodes.reverse();
  expect(() => serializeGraph(whole, { opset: 21 })).toThrow('is used before the node that makes it');
});
