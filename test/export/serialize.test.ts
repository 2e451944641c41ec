import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fromBinary } from '@bufbuild/protobuf';
import * as ort from 'onnxruntime-node';
import { expect, test } from 'vitest';
import { float32ToBfloat16 } from '../../src/dtypes.ts';
import { GraphBuilder } from '../../src/export/builder.ts';
import { ModelProtoSchema } from '../../src/export/onnx_pb.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { openGraph } from './run-graph.ts';

const decode = (bytes: Uint8Array) => fromBinary(ModelProtoSchema, bytes);

function small() {
  const b = new GraphBuilder('small');
  const x = b.input('x', 'float32', ['N', 2]);
  b.output('y', b.reduceSum(b.mul(x, 2), [-1], false));
  return b;
}

test('the header: opset, IR version, producer, metadata, domains', () => {
  const model = decode(serializeGraph(small().graph, { opset: 21, metadata: { license: 'apache-2.0' } }));
  expect(model).toMatchObject({
    irVersion: 10n,
    producerName: 'rlp-ort',
    opsetImport: [{ domain: '', version: 21n }],
    metadataProps: [{ key: 'license', value: 'apache-2.0' }],
    graph: { name: 'small' },
  });
  const b = small();
  b.fusedMatMul(b.input('z', 'float32', [2, 2]), b.zeros('float32', [2, 2]), { transA: true });
  const fused = decode(serializeGraph(b.graph, { opset: 24 }));
  expect(fused.irVersion).toBe(11n);
  expect(fused.opsetImport).toMatchObject([
    { domain: '', version: 24n },
    { domain: 'com.microsoft', version: 1n },
  ]);
  expect(decode(serializeGraph(b.graph, { opset: 24, irVersion: 13 })).irVersion).toBe(13n);
});

test('inputs and outputs carry dtype, static and symbolic dims; nodes say their operator', () => {
  const { graph } = decode(serializeGraph(small().graph, { opset: 21 }));
  const shapes = [...(graph?.input ?? []), ...(graph?.output ?? [])].map(({ name, type }) => {
    if (type?.value.case !== 'tensorType') throw new Error('no tensor');
    return [name, type.value.value.elemType, type.value.value.shape?.dim.map((dim) => dim.value.value)];
  });
  expect(shapes).toEqual([
    ['x', 1, ['N', 2n]],
    ['y', 1, ['N']],
  ]);
  expect(graph?.node.map(({ opType, input, output }) => [opType, input, output])).toEqual([
    ['Mul', ['x', 'constant_0'], ['Mul_0']],
    ['ReduceSum', ['Mul_0', 'axes_m1'], ['y']],
  ]);
});

test('the same graph gives the same bytes', () => {
  expect(serializeGraph(small().graph, { opset: 21 })).toEqual(serializeGraph(small().graph, { opset: 21 }));
});

test('names that the user took cannot be made again', () => {
  for (const name of ['constant_0', 'Mul_0', 'axes_m1']) {
    const b = small();
    b.input(name, 'float32', []);
    expect(() => serializeGraph(b.graph, { opset: 21 })).toThrow(`internal: graph small: two values named ${name}`);
  }
  const b = small();
  b.output('x', b.neg(b.input('z', 'float32', [])));
  expect(() => serializeGraph(b.graph, { opset: 21 })).toThrow('two values named x');
});

test('axes become inputs where ONNX wants them so, and the model runs', async () => {
  const b = new GraphBuilder('axes');
  const x = b.input('x', 'float64', [2, 3]);
  b.output('sum', b.reduceSum(x, [0], false));
  b.output('mean', b.reduceMean(x, [-1], false));
  b.output('max', b.reduceMax(x, [0, 1], false));
  b.output('squares', b.reduceSumSquare(x, [0], false));
  b.output('cumsum', b.cumsum(x, 1));
  b.output('argmax', b.argmax(x, -1, false));
  b.output('squeezed', b.squeeze(b.unsqueeze(x, [0, 3]), [0]));
  b.output('cast', b.cast(x, 'int64'));
  b.output('split', b.split(x, [1, 2], 1)[1]);
  const session = await openGraph(b.graph);
  const data = [1.5, 2, 3, 4, 5, 6];
  expect(await session.run({ x: { dtype: 'float64', dims: [2, 3], data } })).toEqual({
    sum: [5.5, 7, 9],
    mean: [6.5 / 3, 5],
    max: [6],
    squares: [18.25, 29, 45],
    cumsum: [1.5, 3.5, 6.5, 4, 9, 15],
    argmax: [2, 2],
    squeezed: data,
    cast: [1, 2, 3, 4, 5, 6],
    split: [2, 3, 5, 6],
  });
  await session.release();
});

test.each(['float64', 'float32', 'int64', 'int32', 'uint8', 'bool'] as const)('zeros of %s', async (dtype) => {
  const b = new GraphBuilder('zeros');
  b.input('x', 'float32', ['N']);
  b.output('zeros', b.zeros(dtype, ['N', 2]));
  const session = await openGraph(b.graph);
  expect(await session.run({ x: { dtype: 'float32', dims: [2], data: [1, 1] } })).toEqual({ zeros: [0, 0, 0, 0] });
  await session.release();
});

test('an initializer that lies bfloat16 and unaligned in a file beside the model', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'rlp-ort-serialize-'));
  try {
    const weights = float32ToBfloat16(Float32Array.from([1, 2, 3, 4, 5, 0.5]));
    const offset = 13;
    writeFileSync(
      join(folder, 'model.safetensors'),
      Buffer.concat([Buffer.alloc(offset), Buffer.from(weights.buffer)]),
    );
    const b = new GraphBuilder('external');
    const x = b.input('x', 'float32', ['N', 3]);
    const w = b.externalInitializer('w', 'bfloat16', [2, 3], 'model.safetensors', offset, weights.byteLength);
    b.output('y', b.matmul(x, b.transpose(b.cast(w, 'float32'), [1, 0])));
    writeFileSync(join(folder, 'model.onnx'), serializeGraph(b.graph, { opset: 21 }));
    const session = await ort.InferenceSession.create(join(folder, 'model.onnx'));
    const { y } = await session.run({ x: new ort.Tensor('float32', Float32Array.from([1, 10, 100]), [1, 3]) });
    expect(Array.from(y.data, Number)).toEqual([321, 104]);
    await session.release();
  } finally {
    rmSync(folder, { recursive: true });
  }
});
