import { open, readdir, readFile, writeFile } from 'node:fs/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { readSafetensorsHeader, readTensor, readTensorBytes, sameBytes } from '../../src/export/safetensors.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/export/safetensors-write.ts';
import { temporaryFolder } from './checkpoint-fixture.ts';

/** A safetensors file from its header (text as it is, else as JSON) and data. */
function fileBytes(header: unknown, dataBytes: number, headerLength?: bigint): Uint8Array {
  const json = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(headerLength ?? BigInt(json.length));
  return Buffer.concat([prefix, json, Buffer.alloc(dataBytes)]);
}
const f32 = (begin: number, end: number, shape = [(end - begin) / 4]) => ({
  dtype: 'F32',
  shape,
  data_offsets: [begin, end],
});

const located = async (file: string, name: string) => {
  const tensor = (await readSafetensorsHeader(file)).tensors.get(name);
  if (tensor === undefined) throw new Error(`no tensor ${name}`);
  return tensor;
};

afterEach(() => vi.restoreAllMocks());

describe('reading', () => {
  it('locates tensors in the order of their offsets', async () => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    const header = { b: f32(8, 16, [2, 1]), __metadata__: { format: 'pt' }, a: f32(0, 8), empty: f32(8, 8, [0, 3]) };
    await writeFile(file, fileBytes(header, 16));
    const { tensors, metadata } = await readSafetensorsHeader(file);
    const start = 8 + JSON.stringify(header).length;
    expect(metadata).toEqual({ format: 'pt' });
    expect([...tensors.keys()]).toEqual(['a', 'empty', 'b']);
    const b = { name: 'b', dtype: 'float32', shape: [2, 1], file, offset: start + 8, byteLength: 8 };
    expect(tensors.get('b')).toEqual(b);
  });

  it('accepts a file without tensors and names that JavaScript treats specially', async () => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    await writeFile(file, fileBytes('{}', 0));
    expect((await readSafetensorsHeader(file)).tensors.size).toBe(0);
    await writeFile(file, fileBytes('{"__proto__":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}', 1));
    expect([...(await readSafetensorsHeader(file)).tensors.keys()]).toEqual(['__proto__']);
  });

  const valid = fileBytes({ a: f32(0, 8) }, 8);
  it.each<[string, Uint8Array, string]>([
    ['an empty file', new Uint8Array(0), 'not a safetensors file: it has 0 bytes'],
    [
      'a header beyond the file',
      fileBytes('{}', 0, 500n),
      'truncated: the header needs 508 bytes, but the file has 10',
    ],
    ['a huge header', fileBytes('{}', 0, 1n << 60n), 'its header would have 1152921504606846976 bytes'],
    ['a Git LFS pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), 'git lfs pull'],
    ['broken JSON', fileBytes('{"a":', 0), 'the safetensors header is not valid JSON'],
    ['broken UTF-8', Buffer.concat([fileBytes('', 0, 1n), Buffer.from([0xff])]), 'header is not valid JSON'],
    ['a header that is a list', fileBytes('[]', 0), 'header is not a JSON object'],
    ['an entry that is no object', fileBytes({ a: 3 }, 0), 'tensor a: expected an object in the header, found 3'],
    [
      'metadata of numbers',
      fileBytes({ __metadata__: { a: 1 } }, 0),
      '__metadata__ of the header is not a map of strings',
    ],
    [
      'an unknown dtype',
      fileBytes({ a: { ...f32(0, 8), dtype: 'F8_E4M3' } }, 8),
      'tensor a: dtype F8_E4M3 is not supported',
    ],
    ['a negative dimension', fileBytes({ a: f32(0, 8, [-2]) }, 8), 'tensor a: shape: expected a list of integers >= 0'],
    ['a shape that is no list', fileBytes({ a: { ...f32(0, 8), shape: 2 } }, 8), 'tensor a: shape: expected a list'],
    [
      'missing offsets',
      fileBytes({ a: { dtype: 'F32', shape: [2] } }, 8),
      'tensor a: data_offsets: expected two integers',
    ],
    [
      'a shape that does not fit its offsets',
      fileBytes({ a: f32(0, 8, [3]) }, 8),
      'tensor a: shape [3] of F32 takes 12 bytes, but data_offsets [0, 8] span 8',
    ],
    ['overflowing dimensions', fileBytes({ a: f32(0, 8, [2 ** 40, 2 ** 40]) }, 8), 'takes 4.83'],
    ['overlapping tensors', fileBytes({ a: f32(0, 8), b: f32(4, 12) }, 12), 'tensor b: overlaps tensor a'],
    ['a gap', fileBytes({ a: f32(0, 8), b: f32(12, 16) }, 16), 'tensor b: leaves a gap behind tensor a'],
    ['a late start', fileBytes({ a: f32(4, 12) }, 12), 'tensor a: leaves a gap behind the header'],
    ['truncated data', valid.subarray(0, valid.length - 1), 'tensor a: ends at byte'],
    ['data behind the last tensor', fileBytes({ a: f32(0, 8) }, 9), '1 bytes behind tensor a belong to no tensor'],
    [
      'a name that occurs twice',
      fileBytes(`{"a":${JSON.stringify(f32(0, 8))},"\\u0061":${JSON.stringify(f32(0, 8))}}`, 8),
      'tensor a: the name occurs twice',
    ],
  ])('refuses %s', async (_, bytes, message) => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    await writeFile(file, bytes);
    const error = await readSafetensorsHeader(file).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ name: 'UserError', message: expect.stringContaining(message) });
    expect(error).toMatchObject({ message: expect.stringContaining(file) });
  });

  it('refuses a missing file and a folder', async () => {
    using folder = temporaryFolder();
    await expect(readSafetensorsHeader(folder.in('no'))).rejects.toThrow('no such file or folder (ENOENT)');
    await expect(readSafetensorsHeader(folder.path)).rejects.toThrow('it is a folder, not a file (EISDIR)');
  });

  it('notices a file that shrinks after its header was read', async () => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    await writeFile(file, valid);
    const tensor = await located(file, 'a');
    await writeFile(file, valid.subarray(0, valid.length - 4));
    await expect(readTensor(tensor)).rejects.toThrow('tensor a: the file ends before byte');
  });
});

describe('writing', () => {
  const values = Float32Array.of(1, -2.5, 0, 65504, 1 / 3, 2 ** -20);
  const tensor = (name: string, dtype: TensorToWrite['dtype']): TensorToWrite => ({
    name,
    dtype,
    shape: [2, 3],
    data: values,
  });

  it('stores exactly these bytes', async () => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    await writeSafetensors(file, [{ name: 'x', dtype: 'bfloat16', shape: [2], data: Float32Array.of(1, -2) }]);
    const json = '{"__metadata__":{"format":"pt"},"x":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'.padEnd(88);
    const expected = Buffer.concat([Buffer.from([88, 0, 0, 0, 0, 0, 0, 0]), Buffer.from(json)]);
    expect(await readFile(file)).toEqual(Buffer.concat([expected, Buffer.from([0x80, 0x3f, 0x00, 0xc0])]));
  });

  it('reads back what it wrote, in every dtype', async () => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    const ids = BigInt64Array.of(1n, -(2n ** 60n));
    await writeSafetensors(file, [
      tensor('half', 'float16'),
      { name: 'ids', dtype: 'int64', shape: [2], data: ids },
      tensor('brain', 'bfloat16'),
      { name: 'empty', dtype: 'float32', shape: [0], data: new Float32Array(0) },
      { name: 'lazy', dtype: 'float32', shape: [2, 3], data: async () => values },
      { name: 'scalar', dtype: 'bool', shape: [], data: Uint8Array.of(1) },
    ]);
    // Widest type first, then by name.
    const { tensors } = await readSafetensorsHeader(file);
    expect([...tensors.keys()]).toEqual(['ids', 'empty', 'lazy', 'brain', 'half', 'scalar']);
    expect([...tensors.values()].every(({ offset }) => offset % 2 === 0)).toBe(true);
    expect(await readTensor(await located(file, 'lazy'))).toEqual(values);
    // 1/3 rounds to 0x3eab and 0x3555, 65504 to 65536 and itself, 2^-20 stays (subnormal in float16).
    const brain = Float32Array.of(1, -2.5, 0, 65536, 0.333984375, 2 ** -20);
    const half = Float32Array.of(1, -2.5, 0, 65504, 0.333251953125, 2 ** -20);
    expect(await readTensor(await located(file, 'brain'))).toEqual(brain);
    expect(await readTensor(await located(file, 'half'))).toEqual(half);
    expect(await readTensorBytes(await located(file, 'ids'))).toEqual(new Uint8Array(ids.buffer));
    expect(await readTensor(await located(file, 'empty'))).toEqual(new Float32Array(0));
    expect(await sameBytes(await located(file, 'half'), await located(file, 'half'))).toBe(true);
    expect(await sameBytes(await located(file, 'half'), await located(file, 'brain'))).toBe(false);
  });

  it('does not depend on the order of the tensors', async () => {
    using folder = temporaryFolder();
    const tensors = [tensor('b', 'float32'), tensor('a', 'float32'), tensor('10', 'float16'), tensor('9', 'float16')];
    await writeSafetensors(folder.in('1'), tensors);
    await writeSafetensors(folder.in('2'), tensors.toReversed());
    expect(await readFile(folder.in('1'))).toEqual(await readFile(folder.in('2')));
    expect([...(await readSafetensorsHeader(folder.in('1'))).tensors.keys()]).toEqual(['a', 'b', '10', '9']);
  });

  it('crosses chunk boundaries', async () => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    // More than one chunk of the writer and of the reader, and a part of one.
    const data = Float32Array.from({ length: (4 << 20) + 5 }, (_, i) => i % 128);
    await writeSafetensors(file, [{ name: 'x', dtype: 'bfloat16', shape: [data.length], data }]);
    expect(Buffer.from((await readTensor(await located(file, 'x'))).buffer).equals(Buffer.from(data.buffer))).toBe(
      true,
    );
  });

  it('refuses values beyond the range of the dtype', async () => {
    using folder = temporaryFolder();
    const write = (dtype: 'float16' | 'bfloat16', value: number) =>
      writeSafetensors(folder.in('a'), [{ name: 'x', dtype, shape: [2], data: Float32Array.of(0, value) }]);
    await expect(write('float16', 65520)).rejects.toThrow(
      'tensor x: value 65520 at index 1 is beyond the range of float16; write bfloat16 or float32',
    );
    await expect(write('bfloat16', 3.4e38)).rejects.toThrow('beyond the range of bfloat16; write float32');
    expect(await readdir(folder.path)).toEqual([]);
    await write('float16', 65519);
    await write('float16', Number.POSITIVE_INFINITY);
  });

  it('calls wrong arguments a bug of ours', async () => {
    using folder = temporaryFolder();
    const write = (...tensors: TensorToWrite[]) => writeSafetensors(folder.in('a'), tensors);
    await expect(write(tensor('x', 'int64'))).rejects.toThrow('internal: tensor x of int64 given as Float32Array');
    await expect(write({ ...tensor('x', 'float32'), shape: [7] })).rejects.toThrow('internal: tensor x has 6 elements');
    await expect(write(tensor('x', 'float32'), tensor('x', 'float32'))).rejects.toThrow(
      'internal: tensor name x is taken',
    );
    expect(await readdir(folder.path)).toEqual([]);
  });

  it('says that the disk is full, and leaves the old file and nothing else', async () => {
    using folder = temporaryFolder();
    const file = folder.in('a.safetensors');
    await writeSafetensors(file, [tensor('x', 'float32')]);
    const before = await readFile(file);
    const handle = await open(file);
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    vi.spyOn(Object.getPrototypeOf(handle), 'write').mockRejectedValue(full);
    await handle.close();
    const error = await writeSafetensors(file, [tensor('y', 'float32')]).catch((thrown: unknown) => thrown);
    const message = `cannot write ${file}: no space left on the device: free some space or write elsewhere (ENOSPC)`;
    expect(error).toMatchObject({ name: 'UserError', message });
    expect(await readdir(folder.path)).toEqual(['a.safetensors']);
    expect(await readFile(file)).toEqual(before);
  });

  it('goes on after a write that took only a part', async () => {
    using folder = temporaryFolder();
    const handle = await open(folder.in('other'), 'w');
    const prototype = Object.getPrototypeOf(handle);
    const write = prototype.write;
    await handle.close();
    vi.spyOn(prototype, 'write').mockImplementation(function (this: unknown, bytes, offset, length) {
      return write.call(this, bytes, offset, Math.min(Number(length), 3));
    });
    await writeSafetensors(folder.in('a'), [tensor('x', 'float32')]);
    expect(await readTensor(await located(folder.in('a'), 'x'))).toEqual(values);
  });
});
