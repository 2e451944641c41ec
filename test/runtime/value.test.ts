import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect, test } from 'vitest';
import type { DType } from '../../src/dtypes.ts';
import { bytesPerElement, typedArrayFor } from '../../src/dtypes.ts';
import { UserError } from '../../src/errors.ts';
import { copyTensor, deviceAllocator } from '../../src/runtime/device.ts';
import { transfers, Value } from '../../src/runtime/index.ts';

const DTYPES: DType[] = [
  'float32',
  'float64',
  'float16',
  'bfloat16',
  'int64',
  'int32',
  'int16',
  'int8',
  'uint64',
  'uint32',
  'uint16',
  'uint8',
  'bool',
];

const sample = (dtype: DType) => {
  const data = new (typedArrayFor(dtype))(new ArrayBuffer(3 * bytesPerElement(dtype)));
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) data.set([1n, 0n, 1n]);
  else data.set([1, 0, 1]);
  return data;
};

test.each(DTYPES)('%s tensors hold what they were made from', (dtype) => {
  using value = Value.from(dtype, [3, 1], sample(dtype));
  expect(value.dtype).toBe(dtype);
  expect(value.dims).toEqual([3, 1]);
  expect(value.size).toBe(3);
  expect(value.device).toEqual({ kind: 'cpu' });
  expect(value.data).toEqual(sample(dtype));
});

test.each(DTYPES)('%s tensors are copied by value on the host and through a device session', (dtype) => {
  using source = Value.from(dtype, [3], sample(dtype));
  using target = Value.empty(dtype, [3]);
  target.copyFrom(source);
  expect(target.data).toEqual(sample(dtype));
  using throughSession = Value.empty(dtype, [3]);
  copyTensor({ kind: 'cpu' }, dtype, source.handle.pointer, throughSession.handle.pointer);
  expect(throughSession.data).toEqual(sample(dtype));
});

test('a device allocator comes from a session and is made once', () => {
  expect(deviceAllocator({ kind: 'cpu' })).toBe(deviceAllocator({ kind: 'cpu' }));
});

test('numbers become elements of the dtype', () => {
  using int64 = Value.from('int64', [2], [1, -2]);
  expect(int64.data).toEqual(BigInt64Array.of(1n, -2n));
  using bool = Value.from('bool', [2], [0, 1]);
  expect(bool.data).toEqual(Uint8Array.of(0, 1));
});

test('scalars have no dims and one element; a dim of 0 means none', () => {
  using scalar = Value.from('float32', [], [7]);
  expect([scalar.size, [...scalar.data]]).toEqual([1, [7]]);
  using none = Value.empty('float32', [3, 0, 2]);
  expect([none.size, none.data.length]).toEqual([0, 0]);
  using other = Value.from('float32', [3, 0, 2], []);
  other.copyFrom(none);
});

test('empty tensors are zeros, even in memory used before', () => {
  for (let i = 0; i < 100; i++) {
    using value = Value.empty('float32', [1000]);
    expect(value.data.every((x) => x === 0)).toBe(true);
    if (value.data instanceof Float32Array) value.data.fill(Number.NaN);
  }
});

test.each(['float32', 'float16', 'bfloat16', 'int64'] as const)('zeros of %s on any device', (dtype) => {
  for (const device of [{ kind: 'cpu' }, { kind: 'mock' }] as const) {
    using value = Value.zeros([2, 3], device, dtype);
    expect([value.dtype, value.device, [...value.read()].map(Number)]).toEqual([dtype, device, [0, 0, 0, 0, 0, 0]]);
  }
});

test('a cast rounds to the nearest, on the device where both lie', () => {
  // 2048 + 1 has 12 bits: a tie that goes to the even one in float16; bfloat16 has 8 bits.
  const numbers = [1.5, -2, 2049, 1 / 3];
  const expected = { float16: [0x3e00, 0xc000, 0x6800, 0x3555], bfloat16: [0x3fc0, 0xc000, 0x4500, 0x3eab] };
  for (const [dtype, bits] of Object.entries(expected) as ['float16' | 'bfloat16', number[]][]) {
    using from = Value.from('float32', [4], numbers).movedTo({ kind: 'mock' });
    using to = Value.empty(dtype, [4], { kind: 'mock' });
    const { toDevice } = transfers();
    to.castFrom(from);
    expect(transfers().toDevice).toBe(toDevice);
    expect([...to.read()]).toEqual(bits);
    using elsewhere = Value.empty(dtype, [4]);
    expect(() => elsewhere.castFrom(from)).toThrow(`internal: a cast from float32[4] to ${dtype}[4]`);
  }
});

test('data is one live view, which garbage collection does not free', () => {
  using value = Value.empty('float32', [1 << 16]);
  expect(value.data).toBe(value.data);
  value.data[5] = 3;
  setFlagsFromString('--expose-gc');
  const collect: () => void = runInNewContext('gc');
  collect();
  using copy = Value.empty('float32', [1 << 16]);
  copy.copyFrom(value);
  expect(copy.data[5]).toBe(3);
});

test('a disposed tensor gives nothing away', () => {
  const value = Value.empty('float32', [2, 3]);
  void value.data;
  value.dispose();
  value.dispose();
  expect(value.disposed).toBe(true);
  expect(() => value.data).toThrow('Value float32[2, 3] was used after it was disposed of');
  using other = Value.empty('float32', [2, 3]);
  expect(() => other.copyFrom(value)).toThrow('was used after it was disposed of');
});

test('data that does not fit is refused', () => {
  expect(() => Value.from('float32', [2, 2], [1, 2, 3])).toThrow(
    new UserError('a tensor float32[2, 2] has 4 elements, but 3 were given'),
  );
  expect(() => Value.from('int64', [1], Int32Array.of(1))).toThrow(
    'data of a int64 tensor must be a BigInt64Array, not a Int32Array',
  );
  expect(() => Value.from('bfloat16', [1], [1])).toThrow('must be a Uint16Array of its bits');
  expect(() => Value.empty('float32', [2, -1])).toThrow('non-negative integers, not [2, -1]');
  expect(() => Value.empty('float32', [1.5])).toThrow('non-negative integers, not [1.5]');
  using a = Value.empty('float32', [2]);
  using b = Value.empty('float32', [3]);
  expect(() => a.copyFrom(b)).toThrow('cannot copy a tensor float32[3] into one float32[2]');
});

test('more memory than there is gives an error, not a crash', () => {
  expect(() => Value.empty('float64', [2 ** 50])).toThrow('allocating a tensor float64[1125899906842624] on cpu');
});

test('a slice is the same memory, and keeps it', () => {
  const value = Value.from('float32', [3, 2], [0, 1, 2, 3, 4, 5]);
  const slice = value.slice(1, 2);
  expect(slice.dims).toEqual([2, 2]);
  expect([...slice.data].map(Number)).toEqual([2, 3, 4, 5]);
  slice.data[0] = 7 as never;
  expect(value.data[2]).toBe(7);
  expect(() => value.dispose()).toThrow('a slice that is not disposed of still uses it');
  slice.dispose();
  value.dispose();
  expect(value.disposed).toBe(true);
});

test.each([
  [3, 1],
  [-1, 1],
  [0, 4],
  [0, 0],
  [0.5, 1],
])('a slice from %d of %d entries of three is refused', (start, count) => {
  using value = Value.empty('float32', [3, 2]);
  expect(() => value.slice(start, count)).toThrow(`internal: a slice of ${count} from ${start}`);
});

test('what moves to a device is no longer on the host', () => {
  const value = Value.from('float32', [2], [1, 2]);
  expect(value.movedTo({ kind: 'cpu' })).toBe(value);
  using moved = value.movedTo({ kind: 'mock' });
  expect(value.disposed).toBe(true);
  expect([...moved.read()]).toEqual([1, 2]);
});
