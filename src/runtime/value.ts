import koffi from 'koffi';
import type { DType, TypedArray } from '../dtypes.ts';
import { bytesPerElement, dtypeOfOnnx, onnxElementType, typedArrayFor } from '../dtypes.ts';
import { internal, UserError } from '../errors.ts';
import type { Pointer } from './api.ts';
import { castTensor, copyTensor, deviceAllocator, setToZeros } from './device.ts';
import type { Device } from './environment.ts';
import { CPU, created, deviceName, environment, explain, memoryInfo, sameDevice } from './environment.ts';
import { Handle } from './handle.ts';
import { countTransfer } from './transfers.ts';

/**
 * A tensor in memory that ONNX Runtime owns: dtype, static dims, device. It stays at its address until `dispose`; garbage
 * collection never frees it.
 */
export class Value implements Disposable {
  readonly dtype: DType;
  readonly dims: readonly number[];
  /** Number of elements; 1 for a scalar (dims []), 0 where a dim is 0. */
  readonly size: number;
  readonly device: Device;
  /** For src/runtime only. */
  readonly handle: Handle;
  #view: TypedArray | undefined;

  private constructor(
    pointer: Pointer,
    dtype: DType,
    dims: readonly number[],
    device: Device,
    release = environment().api.ReleaseValue,
  ) {
    this.dtype = dtype;
    this.dims = [...dims];
    this.size = elementCount(dims);
    this.device = device;
    this.handle = new Handle(`Value ${describe(dtype, dims)}`, pointer, release);
  }

  /** A tensor of zeros; on a device its contents are undefined until something writes them. */
  static empty(dtype: DType, dims: readonly number[], device: Device = CPU): Value {
    const value = Value.#allocate(dtype, dims, device);
    if (device.kind === 'cpu') bytesOf(value.#memory).fill(0);
    if (device.kind === 'mock') bytesOf(value.#memory).fill(0xff); // NaN, for who takes it for zeros
    return value;
  }

  /** A tensor of zeros on any device. */
  static zeros(dims: readonly number[], device: Device = CPU, dtype: DType = 'float32'): Value {
    const value = Value.#allocate(dtype, dims, device);
    value.setToZeros();
    return value;
  }

  /**
   * A copy of `data` (row-major, as many elements as dims say) on the CPU. A typed array must be of the kind `dtype` is
   * viewed as: Uint16Array bits for float16 and bfloat16, BigInt64Array for int64. Plain numbers are converted, except for
   * float16 and bfloat16: convert those with src/dtypes.ts first.
   */
  static from(dtype: DType, dims: readonly number[], data: TypedArray | readonly number[]): Value {
    if (data.length !== elementCount(dims)) {
      throw new UserError(
        `a tensor ${describe(dtype, dims)} has ${elementCount(dims)} elements, but ${data.length} were given`,
      );
    }
    const expected = typedArrayFor(dtype);
    if (ArrayBuffer.isView(data) && !(data instanceof expected)) {
      throw new UserError(`data of a ${dtype} tensor must be a ${expected.name}, not a ${data.constructor.name}`);
    }
    if (!ArrayBuffer.isView(data) && (dtype === 'float16' || dtype === 'bfloat16')) {
      throw new UserError(`data of a ${dtype} tensor must be a Uint16Array of its bits, not numbers`);
    }
    const value = Value.#allocate(dtype, dims, CPU);
    const target = value.data;
    if (ArrayBuffer.isView(data)) copyArray(data, target);
    else if (target instanceof BigInt64Array || target instanceof BigUint64Array) target.set(data.map(BigInt));
    else target.set(data);
    return value;
  }

  static #allocate(dtype: DType, dims: readonly number[], device: Device): Value {
    for (const dim of dims) {
      if (!Number.isSafeInteger(dim) || dim < 0) {
        throw new UserError(`dims of a tensor must be non-negative integers, not [${dims.join(', ')}]`);
      }
    }
    const { api, allocator } = environment();
    const shape = BigInt64Array.from(dims, BigInt);
    try {
      const pointer = created<Pointer>((out) =>
        api.CreateTensorAsOrtValue(
          device.kind === 'cpu' ? allocator : deviceAllocator(device),
          shape,
          dims.length,
          onnxElementType(dtype),
          out,
        ),
      );
      return new Value(pointer, dtype, dims, device);
    } catch (error) {
      throw explain(`allocating a tensor ${describe(dtype, dims)} on ${deviceName(device)}`, error);
    }
  }

  /**
   * Takes ownership of an OrtValue that ONNX Runtime allocated. For src/runtime only.
   * @param device that it was bound to
   */
  static adopt(pointer: Pointer, device: Device): Value {
    const { api } = environment();
    const info = created<Pointer>((out) => api.GetTensorTypeAndShape(pointer, out));
    try {
      const dtype = dtypeOfOnnx(created((out) => api.GetTensorElementType(info, out)));
      const dims = new BigInt64Array(Number(created((out) => api.GetDimensionsCount(info, out))));
      api.GetDimensions(info, dims, dims.length);
      return new Value(pointer, dtype, Array.from(dims, Number), device.kind === 'mock' ? device : deviceOf(pointer));
    } finally {
      api.ReleaseTensorTypeAndShapeInfo(info);
    }
  }

  /**
   * A live view of the native memory: writing to it writes to the tensor. Asking for it after `dispose` throws. An array
   * obtained before `dispose` must not be touched afterwards: its memory is gone, and JavaScript cannot tell.
   */
  get data(): TypedArray {
    if (this.device.kind !== 'cpu') {
      throw internal(`a tensor on ${deviceName(this.device)} has no host view; copyFrom it into one on the CPU`);
    }
    return this.#memory;
  }

  /** The contents on the host: the live view of a tensor on the CPU, a copy of one on a device. */
  read(): TypedArray {
    if (this.device.kind === 'cpu') return this.data;
    using host = Value.empty(this.dtype, this.dims);
    host.copyFrom(this);
    return host.data.slice();
  }

  /** Replaces the contents from the host: as many elements, in an array of the kind of this dtype. */
  write(data: TypedArray): void {
    if (this.device.kind === 'cpu') {
      if (data.length !== this.size) throw internal(`${data.length} elements for ${describe(this.dtype, this.dims)}`);
      copyArray(data, this.data);
      return;
    }
    using host = Value.from(this.dtype, this.dims, data);
    this.copyFrom(host);
  }

  /** On a device nothing crosses but the shape. */
  setToZeros(): void {
    if (this.size === 0) return;
    if (this.device.kind !== 'cuda') {
      bytesOf(this.#memory).fill(0);
      return;
    }
    using shape = Value.from('int64', [this.dims.length], this.dims);
    setToZeros(this.device, this.dtype, shape.handle.pointer, this.handle.pointer);
  }

  /** Takes the contents of a tensor of the same dims on the same device, rounded to this dtype. */
  castFrom(other: Value): void {
    if (!sameDims(other.dims, this.dims) || !sameDevice(other.device, this.device)) {
      throw internal(`a cast from ${describe(other.dtype, other.dims)} to ${describe(this.dtype, this.dims)}`);
    }
    this.handle.assertIdle('write to');
    castTensor(this.device, other.dtype, this.dtype, other.handle.pointer, this.handle.pointer);
  }

  /** This tensor, or a copy on `device` in its place; then this one is disposed of. */
  movedTo(device: Device): Value {
    if (sameDevice(device, this.device)) return this;
    const copy = Value.empty(this.dtype, this.dims, device);
    copy.copyFrom(this);
    this.dispose();
    return copy;
  }

  /** Of memory that the host can reach. */
  get #memory(): TypedArray {
    const { pointer } = this.handle;
    if (this.#view === undefined) {
      const View = typedArrayFor(this.dtype);
      if (this.size === 0) {
        this.#view = new View(new ArrayBuffer(0));
      } else {
        this.#view = new View(koffi.view(address(pointer), this.size * bytesPerElement(this.dtype)));
      }
    }
    return this.#view;
  }

  /**
   * Another OrtValue over the same memory, for calls that take only tensors whose memory is the caller's. The caller
   * releases it, before this value. For src/runtime only.
   */
  alias(): Pointer {
    return this.#over(this.dims, 0);
  }

  /**
   * Entries start .. start + count - 1 of the first axis as a tensor over the same memory. While it is not disposed of, this
   * value can be neither disposed of nor copied into.
   */
  slice(start: number, count: number): Value {
    const [length, ...rest] = this.dims;
    if (!(Number.isInteger(start) && Number.isInteger(count) && start >= 0 && count >= 1 && start + count <= length)) {
      throw internal(`a slice of ${count} from ${start} of a tensor ${describe(this.dtype, this.dims)}`);
    }
    const dims = [count, ...rest];
    const user = 'a slice that is not disposed of';
    const { handle } = this;
    const slice = new Value(this.#over(dims, start * elementCount(rest)), this.dtype, dims, this.device, (pointer) => {
      environment().api.ReleaseValue(pointer);
      handle.unpin(user);
    });
    handle.pin(user);
    return slice;
  }

  /** A new OrtValue over this one's memory from element `start`; it must be released first. */
  #over(dims: readonly number[], start: number): Pointer {
    const data = address(this.handle.pointer) + BigInt(start * bytesPerElement(this.dtype));
    const shape = BigInt64Array.from(dims, BigInt);
    const bytes = elementCount(dims) * bytesPerElement(this.dtype);
    const type = onnxElementType(this.dtype);
    return created<Pointer>((out) =>
      environment().api.CreateTensorWithDataAsOrtValue(
        memoryInfo(this.device),
        data,
        bytes,
        shape,
        shape.length,
        type,
        out,
      ),
    );
  }

  /** Copies the contents of a tensor of the same dtype and dims, from whichever device to this one's. */
  copyFrom(other: Value): void {
    if (other.dtype !== this.dtype || !sameDims(other.dims, this.dims)) {
      throw new UserError(
        `cannot copy a tensor ${describe(other.dtype, other.dims)} into one ${describe(this.dtype, this.dims)}`,
      );
    }
    if (other === this || this.size === 0) return;
    this.handle.assertIdle('write to');
    try {
      const device = this.device.kind === 'cpu' ? other.device : this.device;
      if (!sameDevice(this.device, other.device)) {
        const bytes = this.size * bytesPerElement(this.dtype);
        countTransfer(this.device.kind === 'cpu' ? 'toHost' : 'toDevice', 'copy', bytes);
      }
      if (device.kind !== 'cuda') copyArray(other.#memory, this.#memory);
      else copyTensor(device, this.dtype, other.handle.pointer, this.handle.pointer);
    } catch (error) {
      throw explain(`copying a tensor from ${deviceName(other.device)} to ${deviceName(this.device)}`, error);
    }
  }

  get disposed(): boolean {
    return this.handle.disposed;
  }

  /** Frees the memory. Throws while a run in flight uses it; does nothing the second time. */
  dispose(): void {
    this.handle.dispose();
    this.#view = undefined;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

const address = (value: Pointer): Pointer =>
  created<Pointer>((out) => environment().api.GetTensorMutableData(value, out));

function deviceOf(value: Pointer): Device {
  const { api } = environment();
  const info = created<Pointer>((out) => api.GetTensorMemoryInfo(value, out)); // belongs to the value
  const name = created<string>((out) => api.MemoryInfoGetName(info, out));
  const id = created<number>((out) => api.MemoryInfoGetId(info, out));
  return name === 'Cuda' ? { kind: 'cuda', id } : CPU; // "Cpu", or host memory that a device provider pinned
}

const bytesOf = ({ buffer, byteOffset, byteLength }: TypedArray) => new Uint8Array(buffer, byteOffset, byteLength);

/** Between arrays of one kind and length. */
function copyArray(source: TypedArray, target: TypedArray): void {
  bytesOf(target).set(bytesOf(source));
}

const elementCount = (dims: readonly number[]): number => dims.reduce((product, dim) => product * dim, 1);

const sameDims = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

/** "float32[2, 3]" */
export const describe = (dtype: DType, dims: readonly (number | string)[]): string =>
  `${dtype}[${dims.map((dim) => (dim === '' ? '?' : dim)).join(', ')}]`;
