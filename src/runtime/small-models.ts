import type { DType } from '../dtypes.ts';
import { bytesPerElement, onnxElementType } from '../dtypes.ts';

// The few protobuf fields needed, by hand: src/export serializes models, and the runtime does not depend on it. One byte
// holds every tag, length and integer here, since all are below 128.
const message = (field: number, body: readonly number[]): number[] => [(field << 3) | 2, body.length, ...body];
const text = (field: number, value: string): number[] => message(field, [...Buffer.from(value)]);
const integer = (field: number, value: number): number[] => [field << 3, value];

/** Attributes of a node: an integer, or one element of a dtype that is zero. */
type Attributes = Readonly<Record<string, number | { zeroOf: DType }>>;

// AttributeProto: name = 1, i = 3, t = 5, type = 20 (INT 2, TENSOR 4). TensorProto: dims = 1, data_type = 2, raw_data = 9.
const attribute = (name: string, value: Attributes[string]): number[] => {
  const type = (kind: number) => [0xa0, 0x01, kind];
  if (typeof value === 'number') return [...text(1, name), ...integer(3, value), ...type(2)];
  const zero = Array<number>(bytesPerElement(value.zeroOf)).fill(0);
  const tensor = [...integer(1, 1), ...integer(2, onnxElementType(value.zeroOf)), ...message(9, zero)];
  return [...text(1, name), ...message(5, tensor), ...type(4)];
};

/** An ONNX model of one node, y = op(x), over tensors of any rank. */
function oneNodeModel(op: string, x: DType, y: DType, attributes: Attributes = {}): Uint8Array {
  // TypeProto.tensor_type.elem_type; no shape: any
  const valueInfo = (name: string, dtype: DType) => [
    ...text(1, name),
    ...message(2, message(1, integer(1, onnxElementType(dtype)))),
  ];
  const settings = Object.entries(attributes).flatMap(([name, value]) => message(5, attribute(name, value)));
  const graph = [
    ...message(1, [...text(1, 'x'), ...text(2, 'y'), ...text(4, op), ...settings]),
    ...text(2, 'one node'),
    ...message(11, valueInfo('x', x)),
    ...message(12, valueInfo('y', y)),
  ];
  return Uint8Array.from([...integer(1, 10), ...message(7, graph), ...message(8, integer(2, 21))]); // IR 10, opset 21
}

/** y = x: it copies from wherever x is to wherever y is. */
export const identityModel = (dtype: DType): Uint8Array => oneNodeModel('Identity', dtype, dtype);

/** y = zeros of the shape x, which is int64 [rank]. */
export const zerosModel = (dtype: DType): Uint8Array =>
  oneNodeModel('ConstantOfShape', 'int64', dtype, { value: { zeroOf: dtype } });

/** y = x in another type. */
export const castModel = (from: DType, to: DType): Uint8Array =>
  oneNodeModel('Cast', from, to, { to: onnxElementType(to) });
