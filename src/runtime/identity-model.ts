import type { DType } from '../dtypes.ts';
import { onnxElementType } from '../dtypes.ts';

// The few protobuf fields needed, by hand: src/export serializes models, and the runtime does not depend on it. One byte
// holds every tag, length and integer here, since all are below 128.
const message = (field: number, body: readonly number[]): number[] => [(field << 3) | 2, body.length, ...body];
const text = (field: number, value: string): number[] => message(field, [...Buffer.from(value)]);
const integer = (field: number, value: number): number[] => [field << 3, value];

/** An ONNX model of one node, y = Identity(x), over tensors of any rank: it copies from wherever x is to wherever y is. */
export function identityModel(dtype: DType): Uint8Array {
  const tensorType = message(1, integer(1, onnxElementType(dtype))); // TypeProto.tensor_type.elem_type; no shape: any
  const valueInfo = (name: string) => [...text(1, name), ...message(2, tensorType)];
  const node = [...text(1, 'x'), ...text(2, 'y'), ...text(4, 'Identity')];
  const graph = [
    ...message(1, node),
    ...text(2, 'copy'),
    ...message(11, valueInfo('x')),
    ...message(12, valueInfo('y')),
  ];
  const opset = integer(2, 21);
  return Uint8Array.from([...integer(1, 10), ...message(7, graph), ...message(8, opset)]); // IR version 10
}
