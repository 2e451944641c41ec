import { Float16Array as Float16View } from '@petamoriken/float16';
import { internal } from './errors.ts';

/** Element types of tensors, by their NumPy names. */
export type DType =
  | 'float32'
  | 'float64'
  | 'float16'
  | 'bfloat16'
  | 'int64'
  | 'int32'
  | 'int16'
  | 'int8'
  | 'uint64'
  | 'uint32'
  | 'uint16'
  | 'uint8'
  | 'bool';

/** Every array that tensors are seen through. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Uint16Array
  | Int16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

interface DTypeFacts {
  /** ONNX TensorProto.DataType; the C API's ONNXTensorElementDataType has the same numbers. */
  onnx: number;
  bytes: number;
  /** Host view; float16 and bfloat16 have no native array in Node 20 and are seen as their bits. */
  array: new (
    buffer: ArrayBuffer,
    byteOffset?: number,
    length?: number,
  ) => TypedArray;
}

const FACTS: Record<DType, DTypeFacts> = {
  float32: { onnx: 1, bytes: 4, array: Float32Array },
  uint8: { onnx: 2, bytes: 1, array: Uint8Array },
  int8: { onnx: 3, bytes: 1, array: Int8Array },
  uint16: { onnx: 4, bytes: 2, array: Uint16Array },
  int16: { onnx: 5, bytes: 2, array: Int16Array },
  int32: { onnx: 6, bytes: 4, array: Int32Array },
  int64: { onnx: 7, bytes: 8, array: BigInt64Array },
  bool: { onnx: 9, bytes: 1, array: Uint8Array },
  float16: { onnx: 10, bytes: 2, array: Uint16Array },
  float64: { onnx: 11, bytes: 8, array: Float64Array },
  uint32: { onnx: 12, bytes: 4, array: Uint32Array },
  uint64: { onnx: 13, bytes: 8, array: BigUint64Array },
  bfloat16: { onnx: 16, bytes: 2, array: Uint16Array },
};

const BY_ONNX = new Map(Object.entries(FACTS).map(([dtype, facts]) => [facts.onnx, dtype as DType]));

/** Bytes of an element of a tensor. */
export const bytesPerElement = (dtype: DType): number => FACTS[dtype].bytes;
/** Class of array through which a tensor is seen: Uint16Array of bits for float16 and bfloat16, BigInt64Array for int64. */
export const typedArrayFor = (dtype: DType): DTypeFacts['array'] => FACTS[dtype].array;
export const onnxElementType = (dtype: DType): number => FACTS[dtype].onnx;
export const isFloat = (dtype: DType): boolean => dtype.includes('float');

/** The dtype of an ONNX element type number; throws on one that no tensor of ours can have (strings, complex, 4-bit ...). */
export function dtypeOfOnnx(elementType: number): DType {
  const dtype = BY_ONNX.get(elementType);
  if (dtype === undefined) throw internal(`no host representation of ONNX element type ${elementType}`);
  return dtype;
}

/** bfloat16 bits to float32, exactly. */
export function bfloat16ToFloat32(bits: Uint16Array): Float32Array {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i] << 16;
  return new Float32Array(out.buffer);
}

/** Rounds to nearest even; NaN stays NaN. */
export function float32ToBfloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  for (let i = 0; i < bits.length; i++) {
    const b = bits[i];
    // Rounding up the payload of a NaN could carry into the exponent and make it an infinity.
    out[i] = Number.isNaN(values[i]) ? (b >>> 16) | 0x40 : (b + 0x7fff + ((b >>> 16) & 1)) >>> 16;
  }
  return out;
}

/** float32 of all 65536 float16 bit patterns: the general conversion costs some 200 ns an element. */
let float16Values: Float32Array | undefined;

/** float16 bits to float32, exactly. */
export function float16ToFloat32(bits: Uint16Array): Float32Array {
  float16Values ??= Float32Array.from(new Float16View(Uint16Array.from({ length: 65536 }, (_, i) => i).buffer));
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = float16Values[bits[i]];
  return out;
}

/** Rounds to nearest even; beyond 65504 becomes infinite, as IEEE 754 has it; NaN stays NaN. */
export function float32ToFloat16(values: Float32Array): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const out = new Uint16Array(values.length);
  const sum = new Float32Array(1);
  const sumBits = new Uint32Array(sum.buffer);
  for (let i = 0; i < bits.length; i++) {
    const magnitude = bits[i] & 0x7fffffff;
    let half: number;
    if (magnitude > 0x7f800000) {
      half = 0x7e00;
    } else if (magnitude >= 0x47800000) {
      half = 0x7c00; // 2^16 and above
    } else if (magnitude >= 0x38800000) {
      // At least 2^-14, normal in both: rebias the exponent (127 -> 15), round 13 bits away; 65520 carries into infinity.
      half = (magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13;
    } else {
      // Subnormal in float16, in units of 2^-24: the spacing of float32 at 0.5, so the addition does the rounding.
      sum[0] = Math.abs(values[i]) + 0.5;
      half = sumBits[0] - 0x3f000000;
    }
    out[i] = ((bits[i] >>> 16) & 0x8000) | half;
  }
  return out;
}
