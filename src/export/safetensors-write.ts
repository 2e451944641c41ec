import { randomBytes } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import {
  bytesPerElement,
  type DType,
  float32ToBfloat16,
  float32ToFloat16,
  type TypedArray,
  typedArrayFor,
} from '../dtypes.ts';
import { internal, UserError } from '../errors.ts';
import { fileError } from '../file-error.ts';
import { SAFETENSORS_DTYPES } from './safetensors.ts';

/** Elements converted and written at a time. */
const CHUNK_ELEMENTS = 4 << 20;
const STORED_NAMES = new Map(Object.entries(SAFETENSORS_DTYPES).map(([stored, dtype]) => [dtype, stored]));
const DTYPE_ORDER = new Map([...STORED_NAMES.keys()].map((dtype, index) => [dtype, index]));

export interface TensorToWrite {
  name: string;
  /** As stored. */
  dtype: DType;
  shape: readonly number[];
  /**
   * Row-major elements in the host representation of `dtype` (see typedArrayFor); for float16 and bfloat16 also as float32,
   * which is rounded to nearest even. A function is called when the tensor's turn comes, so that one tensor at a time is held.
   */
  data: TypedArray | (() => TypedArray | Promise<TypedArray>);
}

const elementCount = (tensor: TensorToWrite): number => tensor.shape.reduce((a, b) => a * b, 1);

/** Order of the reference implementation: widest type first (which aligns every tensor), then by name. */
function compareTensors(a: TensorToWrite, b: TensorToWrite): number {
  const byDtype = (DTYPE_ORDER.get(b.dtype) ?? 0) - (DTYPE_ORDER.get(a.dtype) ?? 0);
  if (byDtype !== 0) return byDtype;
  return a.name < b.name ? -1 : 1;
}

function headerBytes(tensors: readonly TensorToWrite[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries: [string, unknown][] = [];
  if (Object.keys(metadata).length > 0) {
    entries.push(['__metadata__', Object.fromEntries(Object.entries(metadata).sort(([a], [b]) => (a < b ? -1 : 1)))]);
  }
  let offset = 0;
  let previous: string | undefined;
  for (const tensor of tensors) {
    if (tensor.name === previous || tensor.name === '__metadata__')
      throw internal(`tensor name ${tensor.name} is taken`);
    previous = tensor.name;
    const end = offset + elementCount(tensor) * bytesPerElement(tensor.dtype);
    entries.push([
      tensor.name,
      { dtype: STORED_NAMES.get(tensor.dtype), shape: tensor.shape, data_offsets: [offset, end] },
    ]);
    offset = end;
  }
  // Not Object.fromEntries: it would move names that look like array indices to the front.
  const json = `{${entries.map(([name, value]) => `${JSON.stringify(name)}:${JSON.stringify(value)}`).join(',')}}`;
  const text = new TextEncoder().encode(json);
  const padded = new Uint8Array(8 + Math.ceil(text.byteLength / 8) * 8).fill(0x20);
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.byteLength - 8), true);
  padded.set(text, 8);
  return padded;
}

/** Rounds to a 16-bit float type; a finite value beyond its range is an error, not an infinity. */
function toHalf(values: Float32Array, start: number, tensor: TensorToWrite): Uint16Array {
  const isFloat16 = tensor.dtype === 'float16';
  const bits = isFloat16 ? float32ToFloat16(values) : float32ToBfloat16(values);
  const exponent = isFloat16 ? 0x7c00 : 0x7f80;
  for (let i = 0; i < bits.length; i++) {
    if ((bits[i] & exponent) === exponent && Number.isFinite(values[i])) {
      const index = start + i;
      const advice = isFloat16 ? 'write bfloat16 or float32' : 'write float32';
      throw new UserError(
        `tensor ${tensor.name}: value ${values[i]} at index ${index} is beyond the range of ${tensor.dtype}; ${advice}`,
      );
    }
  }
  return bits;
}

async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  // A write may take fewer bytes than offered, and no more than 2 GiB.
  for (let done = 0; done < bytes.byteLength; ) {
    const { bytesWritten } = await handle.write(bytes, done, Math.min(bytes.byteLength - done, 1 << 30));
    done += bytesWritten;
  }
}

async function writeTensor(handle: FileHandle, tensor: TensorToWrite): Promise<void> {
  const data = typeof tensor.data === 'function' ? await tensor.data() : tensor.data;
  if (data.length !== elementCount(tensor)) {
    throw internal(`tensor ${tensor.name} has ${data.length} elements, its shape ${elementCount(tensor)}`);
  }
  const isHalf = tensor.dtype === 'float16' || tensor.dtype === 'bfloat16';
  const rounds = isHalf && data instanceof Float32Array;
  if (!rounds && !(data instanceof typedArrayFor(tensor.dtype))) {
    throw internal(`tensor ${tensor.name} of ${tensor.dtype} given as ${data.constructor.name}`);
  }
  for (let start = 0; start < data.length; start += CHUNK_ELEMENTS) {
    const chunk = data.subarray(start, start + CHUNK_ELEMENTS);
    const stored = rounds ? toHalf(chunk as Float32Array, start, tensor) : chunk;
    await writeFully(handle, new Uint8Array(stored.buffer, stored.byteOffset, stored.byteLength));
  }
}

/**
 * Writes a safetensors file. The bytes depend on the tensors alone, not on the order in which they are given, and are
 * those the reference implementation writes. They go to a temporary file beside `file`, which is synced and then renamed,
 * so `file` is never seen half-written; on failure the temporary file is removed and an existing `file` is untouched.
 *
 * Errors: UserError if the file system fails (disk full ...) or a value is beyond the range of the stored type.
 */
export async function writeSafetensors(
  file: string,
  tensors: Iterable<TensorToWrite>,
  metadata: Readonly<Record<string, string>> = { format: 'pt' },
): Promise<void> {
  const sorted = [...tensors].sort(compareTensors);
  const header = headerBytes(sorted, metadata);
  const temporary = `${file}.partial-${process.pid}-${randomBytes(2).toString('hex')}`;
  try {
    // 'wx': never write through a file or link that somebody else put there.
    const handle = await open(temporary, 'wx');
    try {
      await writeFully(handle, header);
      for (const tensor of sorted) await writeTensor(handle, tensor);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, file);
  } catch (thrown) {
    await rm(temporary, { force: true });
    throw fileError('cannot write', file, thrown);
  }
}
