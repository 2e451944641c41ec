import { type FileHandle, open } from 'node:fs/promises';
import { z } from 'zod';
import {
  bfloat16ToFloat32,
  bytesPerElement,
  type DType,
  float16ToFloat32,
  type TypedArray,
  typedArrayFor,
} from '../dtypes.ts';
import { internal, messageOf, UserError } from '../errors.ts';
import { fileError } from '../file-error.ts';

/**
 * Element types by their safetensors names. The order is that of the reference implementation, which stores tensors
 * from the last type to the first so that every tensor is aligned.
 */
export const SAFETENSORS_DTYPES: Readonly<Record<string, DType>> = {
  BOOL: 'bool',
  U8: 'uint8',
  I8: 'int8',
  I16: 'int16',
  U16: 'uint16',
  F16: 'float16',
  BF16: 'bfloat16',
  I32: 'int32',
  U32: 'uint32',
  F32: 'float32',
  F64: 'float64',
  I64: 'int64',
  U64: 'uint64',
};

/** Limit of the reference implementation: a longer header is an attack or another kind of file. */
const MAX_HEADER_BYTES = 100_000_000;
/** Elements are converted and scanned this many bytes at a time. A multiple of every element size. */
const CHUNK_BYTES = 8 << 20;

/** Where the elements of one tensor lie: little-endian, row-major, contiguous. */
export interface TensorLocation {
  name: string;
  dtype: DType;
  shape: readonly number[];
  /** Path of the file. */
  file: string;
  /** Of the first byte, from the start of the file. */
  offset: number;
  byteLength: number;
}

export interface SafetensorsHeader {
  file: string;
  /** `__metadata__` of the header. */
  metadata: Readonly<Record<string, string>>;
  /** In the order of their offsets. */
  tensors: ReadonlyMap<string, TensorLocation>;
}

const size = z.int('a list of integers >= 0').nonnegative('a list of integers >= 0');
const entrySchema = z.strictObject({
  dtype: z.string('a string'),
  shape: z.array(size, 'a list of integers >= 0'),
  data_offsets: z.tuple([size, size], 'two integers >= 0'),
});
const metadataSchema = z.record(z.string(), z.string());

/** Reads exactly `into.byteLength` bytes at `position`; false if the file ends before. */
async function readFully(handle: FileHandle, into: Uint8Array, position: number): Promise<boolean> {
  let done = 0;
  while (done < into.byteLength) {
    // One read call of the system moves less than 2 GiB.
    const length = Math.min(into.byteLength - done, 1 << 30);
    const { bytesRead } = await handle.read(into, done, length, position + done);
    if (bytesRead === 0) return false;
    done += bytesRead;
  }
  return true;
}

/** Names in the outermost object of valid JSON whose values are all objects, repetitions included. */
function topLevelNames(json: string): string[] {
  const names: string[] = [];
  let depth = 0;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[{}]/g)) {
    if (token === '{') depth++;
    else if (token === '}') depth--;
    else if (depth === 1) names.push(JSON.parse(token));
  }
  return names;
}

function parseHeaderJson(bytes: Uint8Array, file: string): Record<string, unknown> {
  let raw: unknown;
  let json: string;
  try {
    json = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    raw = JSON.parse(json);
  } catch (thrown) {
    throw new UserError(`${file}: the safetensors header is not valid JSON: ${messageOf(thrown)}`);
  }
  if (typeof raw !== 'object' || raw === null || Array.isArray(raw)) {
    throw new UserError(`${file}: the safetensors header is not a JSON object`);
  }
  const record = raw as Record<string, unknown>;
  for (const [name, value] of Object.entries(record)) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      throw new UserError(`${file}: tensor ${name}: expected an object in the header, found ${JSON.stringify(value)}`);
    }
  }
  // JSON.parse keeps the last of two equal names, and would hide the first.
  const seen = new Set<string>();
  for (const name of topLevelNames(json)) {
    if (seen.has(name)) throw new UserError(`${file}: tensor ${name}: the name occurs twice in the header`);
    seen.add(name);
  }
  return record;
}

function parseEntry(name: string, raw: unknown, file: string, dataStart: number): TensorLocation {
  const where = `${file}: tensor ${name}`;
  const result = entrySchema.safeParse(raw);
  if (!result.success) {
    const [issue] = result.error.issues;
    const field = issue.path.length > 0 ? `${issue.path[0].toString()}: expected ` : '';
    throw new UserError(`${where}: ${field}${issue.message}, found ${JSON.stringify(raw)}`);
  }
  const { dtype: storedDtype, shape, data_offsets } = result.data;
  const [begin, end] = data_offsets;
  if (!Object.hasOwn(SAFETENSORS_DTYPES, storedDtype)) {
    const known = Object.keys(SAFETENSORS_DTYPES).join(', ');
    throw new UserError(`${where}: dtype ${storedDtype} is not supported; supported: ${known}`);
  }
  const dtype = SAFETENSORS_DTYPES[storedDtype];
  const expected = shape.reduce((product, dimension) => product * dimension, bytesPerElement(dtype));
  if (expected !== end - begin) {
    throw new UserError(
      `${where}: shape [${shape.join(', ')}] of ${storedDtype} takes ${expected} bytes, but data_offsets [${begin}, ${end}] span ${end - begin}`,
    );
  }
  return { name, dtype, shape, file, offset: dataStart + begin, byteLength: end - begin };
}

/** The tensors have to tile the data exactly: no overlap, no gap, no end before or behind the file's. */
function checkTiling(tensors: readonly TensorLocation[], file: string, dataStart: number, fileBytes: number): void {
  let end = dataStart;
  let previous = 'the header';
  for (const { name, offset, byteLength } of tensors) {
    if (offset !== end) {
      const what = offset < end ? 'overlaps' : 'leaves a gap behind';
      throw new UserError(
        `${file}: tensor ${name}: ${what} ${previous}: it starts at byte ${offset}, expected ${end}; the file is damaged`,
      );
    }
    end = offset + byteLength;
    previous = `tensor ${name}`;
    if (end > fileBytes) {
      throw new UserError(
        `${file}: tensor ${name}: ends at byte ${end}, but the file has ${fileBytes} bytes; it is truncated, download or copy it again`,
      );
    }
  }
  if (end !== fileBytes) {
    throw new UserError(
      `${file}: ${fileBytes - end} bytes behind ${previous} belong to no tensor; the file is damaged`,
    );
  }
}

async function readHeaderBytes(handle: FileHandle, file: string, fileBytes: number): Promise<Uint8Array> {
  const prefix = new Uint8Array(8);
  if (!(await readFully(handle, prefix, 0))) {
    throw new UserError(`${file}: not a safetensors file: it has ${fileBytes} bytes, expected at least 8`);
  }
  if (new TextDecoder().decode(prefix) === 'version ') {
    throw new UserError(`${file}: this is a Git LFS pointer, not the file itself; fetch it with: git lfs pull`);
  }
  const length = new DataView(prefix.buffer).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw new UserError(
      `${file}: not a safetensors file: its header would have ${length} bytes, more than ${MAX_HEADER_BYTES}`,
    );
  }
  const header = new Uint8Array(Number(length));
  if (8 + header.byteLength > fileBytes || !(await readFully(handle, header, 8))) {
    throw new UserError(
      `${file}: truncated: the header needs ${8 + header.byteLength} bytes, but the file has ${fileBytes}; download or copy it again`,
    );
  }
  return header;
}

/**
 * Reads and validates the header of a safetensors file (8 bytes little-endian length, JSON, data); no tensor is read.
 * https://github.com/huggingface/safetensors#format
 *
 * Errors: UserError if the file cannot be read, is truncated or damaged, names a tensor twice, has a dtype we cannot
 * hold, or has offsets that do not tile the data.
 */
export async function readSafetensorsHeader(file: string): Promise<SafetensorsHeader> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(file, 'r');
    const { size: fileBytes } = await handle.stat();
    const headerBytes = await readHeaderBytes(handle, file, fileBytes);
    const { __metadata__: rawMetadata = {}, ...entries } = parseHeaderJson(headerBytes, file);
    const metadata = metadataSchema.safeParse(rawMetadata);
    if (!metadata.success) throw new UserError(`${file}: __metadata__ of the header is not a map of strings`);
    const dataStart = 8 + headerBytes.byteLength;
    const tensors = Object.entries(entries)
      .map(([name, raw]) => parseEntry(name, raw, file, dataStart))
      .sort((a, b) => a.offset - b.offset || a.byteLength - b.byteLength);
    checkTiling(tensors, file, dataStart, fileBytes);
    return { file, metadata: metadata.data, tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])) };
  } catch (thrown) {
    throw fileError('cannot read', file, thrown);
  } finally {
    await handle?.close();
  }
}

async function readAt(handle: FileHandle, into: Uint8Array, position: number, tensor: TensorLocation): Promise<void> {
  if (await readFully(handle, into, position)) return;
  throw new UserError(
    `${tensor.file}: tensor ${tensor.name}: the file ends before byte ${position + into.byteLength}; was it changed while being read?`,
  );
}

/** Opens the tensor's file for `use`, and turns failures of the file system into UserErrors. */
async function withFile<T>(tensor: TensorLocation, use: (handle: FileHandle) => Promise<T>): Promise<T> {
  let handle: FileHandle | undefined;
  try {
    handle = await open(tensor.file, 'r');
    return await use(handle);
  } catch (thrown) {
    throw fileError('cannot read', tensor.file, thrown);
  } finally {
    await handle?.close();
  }
}

/**
 * Reads a tensor piece by piece. `elements` is a view of the stored type (float16 and bfloat16 as their bits) and is
 * overwritten by the next piece; `start` is the index of its first element in the flattened tensor.
 */
export async function forEachChunk(
  tensor: TensorLocation,
  visit: (elements: TypedArray, start: number) => void,
): Promise<void> {
  const width = bytesPerElement(tensor.dtype);
  const ArrayType = typedArrayFor(tensor.dtype);
  const buffer = new ArrayBuffer(Math.min(CHUNK_BYTES, tensor.byteLength));
  await withFile(tensor, async (handle) => {
    for (let done = 0; done < tensor.byteLength; done += CHUNK_BYTES) {
      const length = Math.min(CHUNK_BYTES, tensor.byteLength - done);
      await readAt(handle, new Uint8Array(buffer, 0, length), tensor.offset + done, tensor);
      visit(new ArrayType(buffer, 0, length / width), done / width);
    }
  });
}

/** Whether two tensors of the same type are stored with the same bytes. */
export async function sameBytes(a: TensorLocation, b: TensorLocation): Promise<boolean> {
  if (a.dtype !== b.dtype || a.byteLength !== b.byteLength) return false;
  const left = Buffer.allocUnsafe(CHUNK_BYTES);
  const right = Buffer.allocUnsafe(CHUNK_BYTES);
  return await withFile(a, (handleA) =>
    withFile(b, async (handleB) => {
      for (let done = 0; done < a.byteLength; done += CHUNK_BYTES) {
        const length = Math.min(CHUNK_BYTES, a.byteLength - done);
        await readAt(handleA, left.subarray(0, length), a.offset + done, a);
        await readAt(handleB, right.subarray(0, length), b.offset + done, b);
        if (left.compare(right, 0, length, 0, length) !== 0) return false;
      }
      return true;
    }),
  );
}

/** The stored bytes of a tensor. */
export async function readTensorBytes(tensor: TensorLocation): Promise<Uint8Array> {
  const bytes = new Uint8Array(tensor.byteLength);
  await withFile(tensor, (handle) => readAt(handle, bytes, tensor.offset, tensor));
  return bytes;
}

/** The elements of a float32, bfloat16 or float16 tensor as float32 (exact for all three), row-major. */
export async function readTensor(tensor: TensorLocation): Promise<Float32Array> {
  if (tensor.dtype === 'float32') return new Float32Array((await readTensorBytes(tensor)).buffer);
  if (tensor.dtype !== 'bfloat16' && tensor.dtype !== 'float16') {
    throw internal(`tensor ${tensor.name} of ${tensor.dtype} read as float32`);
  }
  const decode = tensor.dtype === 'bfloat16' ? bfloat16ToFloat32 : float16ToFloat32;
  const out = new Float32Array(tensor.byteLength / 2);
  await forEachChunk(tensor, (bits, start) => out.set(decode(bits as Uint16Array), start));
  return out;
}
