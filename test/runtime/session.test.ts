import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as npm from 'onnxruntime-node';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { DType } from '../../src/dtypes.ts';
import { UserError } from '../../src/errors.ts';
import { Session, Value } from '../../src/runtime/index.ts';
import { addModel, identityModel, matmulModel, model } from './models.ts';

let folder: string;
const weight = { dtype: 'float32', dims: [2, 2], location: 'weights.bin', offset: 3, length: 16 } as const;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'rlp-ort-runtime-'));
  // The tensor starts at an odd offset, as tensors in a safetensors file may.
  writeFileSync(join(folder, 'weights.bin'), Buffer.concat([Buffer.alloc(3), Buffer.from(floats(1, 2, 3, 4).buffer)]));
  writeFileSync(join(folder, 'matmul.onnx'), matmulModel(weight));
});
afterAll(() => rmSync(folder, { recursive: true }));

const floats = (...values: number[]) => Float32Array.from(values);

async function matmul(session: Session): Promise<number[]> {
  using x = Value.from('float32', [1, 2], [1, 10]);
  const { y } = await session.run({ x });
  using result = y;
  return Array.from(result.data, Number);
}

test('says what the model takes and gives', async () => {
  using session = await Session.create(addModel());
  expect(session.inputs).toEqual([
    { name: 'a', dtype: 'float32', dims: ['n', 2] },
    { name: 'b', dtype: 'float32', dims: [2] },
  ]);
  expect(session.outputs).toEqual([{ name: 'c', dtype: 'float32', dims: ['n', 2] }]);
});

test.each<[DType, (number | string)[]]>([
  ['int64', ['batch', 3]],
  ['bfloat16', ['', 0]],
  ['float16', []],
  ['bool', ['größe']],
])('reads dtype and dims of %s %j', async (dtype, dims) => {
  using session = await Session.create(identityModel(dtype, dims));
  expect(session.inputs).toEqual([{ name: 'x', dtype, dims }]);
});

test('runs as onnxruntime-node does, in the same process', async () => {
  using session = await Session.create(addModel());
  using a = Value.from('float32', [2, 2], [1, 2, 3, 4]);
  using b = Value.from('float32', [2], [10, 20]);
  using c = (await session.run({ a, b })).c;
  const reference = await npm.InferenceSession.create(addModel());
  const expected = await reference.run({
    a: new npm.Tensor('float32', floats(1, 2, 3, 4), [2, 2]),
    b: new npm.Tensor('float32', floats(10, 20), [2]),
  });
  await reference.release();
  expect(c.dims).toEqual(expected.c.dims);
  expect(c.data).toEqual(expected.c.data);
  expect([...c.data]).toEqual([11, 22, 13, 24]);
});

test('scalars, bfloat16 and tensors without elements pass through', async () => {
  for (const [dtype, dims, data] of [
    ['float32', [], floats(5)],
    ['bfloat16', [2], Uint16Array.of(0x3f80, 0xc000)],
    ['int64', [0, 4], new BigInt64Array(0)],
  ] as const) {
    using session = await Session.create(identityModel(dtype, dims.map(String)));
    using x = Value.from(dtype, dims, data);
    using y = (await session.run({ x })).y;
    expect([y.dtype, y.dims, y.data]).toEqual([dtype, dims, data]);
  }
});

test('finds external data beside the model, or in the folder given for a model from bytes', async () => {
  using fromPath = await Session.create(join(folder, 'matmul.onnx'));
  expect(await matmul(fromPath)).toEqual([31, 42]);
  using fromBytes = await Session.create(matmulModel(weight), { externalDataFolder: folder });
  expect(await matmul(fromBytes)).toEqual([31, 42]);
});

test('initializers replace external data, also for optimized and prepacked graphs', async () => {
  for (const optimizationLevel of ['disable', 'basic', 'extended', 'all'] as const) {
    const W = Value.from('float32', [2, 2], [5, 6, 7, 8]);
    const initializers = new Map([['W', W]]);
    using session = await Session.create(join(folder, 'matmul.onnx'), { initializers, optimizationLevel });
    W.data[0] = 0; // the session has a copy
    W.dispose();
    expect(await matmul(session)).toEqual([75, 86]);
  }
});

test('initializers of any size are copied', async () => {
  const n = 1 << 16;
  const bytes = model({
    inputs: { x: ['float32', [n]] },
    outputs: { y: ['float32', [n]] },
    nodes: [{ op: 'Add', inputs: ['x', 'W'], outputs: ['y'] }],
    external: { W: { dtype: 'float32', dims: [n], location: 'absent.bin', offset: 0, length: 4 * n } },
  });
  using W = Value.from('float32', [n], new Float32Array(n).fill(2));
  using session = await Session.create(bytes, { initializers: new Map([['W', W]]) });
  W.data[9] = 7;
  using x = Value.empty('float32', [n]);
  using y = (await session.run({ x })).y;
  expect(y.data[9]).toBe(2);
});

test('initializers are seen by constant folding, and need no file', async () => {
  // W -> Neg -> folded; y = x (-W)
  const bytes = model({
    inputs: { x: ['float32', ['m', 2]] },
    outputs: { y: ['float32', ['m', 2]] },
    nodes: [
      { op: 'Neg', inputs: ['W'], outputs: ['negative'] },
      { op: 'MatMul', inputs: ['x', 'negative'], outputs: ['y'] },
    ],
    external: { W: { ...weight, location: 'absent.bin' } },
  });
  using W = Value.from('float32', [2, 2], [5, 6, 7, 8]);
  using session = await Session.create(bytes, { initializers: new Map([['W', W]]) });
  expect(await matmul(session)).toEqual([-75, -86]);
});

test('the event loop goes on during creation and runs', async () => {
  const n = 800;
  const shape: ['float32', number[]] = ['float32', [n, n]];
  const chain = Array.from({ length: 4 }, (_, i) => ({ op: 'MatMul', inputs: [`t${i}`, 'w'], outputs: [`t${i + 1}`] }));
  using session = await Session.create(
    model({ inputs: { t0: shape, w: shape }, outputs: { t4: shape }, nodes: chain }),
    { intraOpThreads: 1 },
  );
  using t0 = Value.empty('float32', [n, n]);
  let ticks = 0;
  let running = true;
  const tick = () => {
    ticks++;
    if (running) setImmediate(tick);
  };
  setImmediate(tick);
  using t4 = (await session.run({ t0, w: t0 })).t4;
  running = false;
  expect(t4.size).toBe(n * n);
  expect(ticks).toBeGreaterThan(10);
});

test('runs of one session may overlap', async () => {
  using session = await Session.create(addModel());
  using b = Value.from('float32', [2], [10, 20]);
  const results = await Promise.all(
    Array.from({ length: 20 }, async (_, i) => {
      using a = Value.from('float32', [1, 2], [i, i]);
      using c = (await session.run({ a, b })).c;
      return [...c.data];
    }),
  );
  expect(results).toEqual(Array.from({ length: 20 }, (_, i) => [10 + i, 20 + i]));
});

test('a model that cannot be loaded is the user’s to mend, and is named', async () => {
  const absent = Session.create(join(folder, 'absent.onnx'));
  await expect(absent).rejects.toThrow(UserError);
  await expect(absent).rejects.toThrow(/cannot load .*absent\.onnx on cpu: .*(doesn't exist|No such file)/);
  await expect(Session.create(Uint8Array.of(1, 2, 3))).rejects.toThrow(
    /cannot load a model of 3 bytes on cpu: .*[Pp]rotobuf/,
  );
  const unknownOperator = model({
    outputs: { y: ['float32', [1]] },
    nodes: [{ op: 'Nope', inputs: [], outputs: ['y'] }],
  });
  await expect(Session.create(unknownOperator)).rejects.toThrow('Nope');
  const noWeights = Session.create(matmulModel({ ...weight, location: 'gone.bin' }), { externalDataFolder: folder });
  await expect(noWeights).rejects.toThrow('gone.bin');
});

test('an initializer that does not fit the model is refused by name', async () => {
  using W = Value.from('float32', [4], [5, 6, 7, 8]);
  const wrong = Session.create(join(folder, 'matmul.onnx'), { initializers: new Map([['W', W]]) });
  await expect(wrong).rejects.toThrow(
    /cannot load .*matmul\.onnx on cpu: .*dimensions do not match.* \(with initializers W float32\[4\]\)/,
  );
  using other = Value.from('float32', [1], [0]);
  const unknown = Session.create(join(folder, 'matmul.onnx'), { initializers: new Map([['V', other]]) });
  await expect(unknown).rejects.toThrow('Failed to find existing initializer with name V');
});

test('feeds that do not fit are named with what was expected', async () => {
  using session = await Session.create(addModel());
  using a = Value.empty('float32', [3, 2]);
  using b = Value.empty('float32', [2]);
  using wide = Value.empty('float32', [3, 5]);
  using int = Value.empty('int64', [2]);
  await expect(session.run({ a })).rejects.toThrow("cannot run the model: input 'b' float32[2] is not bound");
  await expect(session.run({ a, b, z: b })).rejects.toThrow("the model has no input 'z'; its inputs are: a, b");
  await expect(session.run({ a, b: int })).rejects.toThrow("input 'b' of the model is float32[2], but got int64[2]");
  await expect(session.run({ a: wide, b })).rejects.toThrow(
    "input 'a' of the model is float32[n, 2], but got float32[3, 5]",
  );
  await expect(session.run({ a: b, b })).rejects.toThrow("input 'a' of the model is float32[n, 2], but got float32[2]");
  await expect(session.run({ a, b }, ['d'])).rejects.toThrow("the model has no output 'd'; its outputs are: c");
});

test('what fails inside a run carries ONNX Runtime’s message', async () => {
  using session = await Session.create(
    model({
      inputs: { a: ['float32', ['n']], b: ['float32', ['m']] },
      outputs: { c: ['float32', ['k']] },
      nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['c'] }],
    }),
    { logSeverity: 'fatal' },
  );
  using a = Value.empty('float32', [3]);
  using b = Value.empty('float32', [2]);
  await expect(session.run({ a, b })).rejects.toThrow(/running the model: .*Add.* 2 by 3|running the model: .*Add/);
});

test('options reach ONNX Runtime', async () => {
  using session = await Session.create(addModel(), {
    intraOpThreads: 1,
    configEntries: { 'session.disable_prepacking': '1' },
  });
  expect(session.device).toEqual({ kind: 'cpu' });
  const nonsense = Session.create(addModel(), { configEntries: { '': 'x' } });
  await expect(nonsense).rejects.toThrow('key');
});

test('a session outlives what uses it', async () => {
  const session = await Session.create(addModel());
  const binding = session.bind();
  expect(() => session.dispose()).toThrow('cannot dispose of Session: a Binding that is not disposed of still uses it');
  binding.dispose();
  session.dispose();
  session.dispose();
  expect(session.disposed).toBe(true);
  expect(() => session.bind()).toThrow('Session was used after it was disposed of');
  await expect(session.run({})).rejects.toThrow('Session was used after it was disposed of');
});
