import type { DType } from '../dtypes.ts';
import { onnxElementType } from '../dtypes.ts';

// The few protobuf fields needed, by hand: src/export serializes models, and the runtime does not depend on it. One byte
// holds every tag, length and integer here, since all are below 128.
const message = (field: number, body: readonly number[]): number[] => [(field << 3) | 2, body.length, ...body];
const text = (field: number, value: string): number[] => message(field, [...Buffer.from(value)]);
const integer = (field: number, value: number): number[] => [field << 3, value];

/** An ONNX model of one node, y = op(x), over tensors of any rank. */
function oneNodeModel(op: string, x: DType, y: DType): Uint8Array {
  // TypeProto.tensor_type.elem_type; no shape: any
  const valueInfo = (name: string, dtype: DType) => [
    ...text(1, name),
    ...message(2, message(1, integer(1, onnxElementType(dtype)))),
  ];
  const graph = [
    ...message(1, [...text(1, 'x'), ...text(2, 'y'), ...text(4, op)]),
    ...text(2, 'one node'),
    ...message(11, valueInfo('x', x)),
    ...message(12, valueInfo('y', y)),
  ];
  return Uint8Array.from([...integer(1, 10), ...message(7, graph), ...message(8, integer(2, 21))]); // IR 10, opset 21
}

/** y = x: it copies from wherever x is to wherever y is. */
export const identityModel = (dtype: DType): Uint8Array => oneNodeModel('Identity', dtype, dtype);

/** y = float32 zeros of the shape x, which is int64 [rank]. */
export const zerosModel = (): Uint8Array => oneNodeModel('ConstantOfShape', 'int64', 'float32');
