import { create, toBinary } from '@bufbuild/protobuf';
import type { DType } from '../../src/dtypes.ts';
import { onnxElementType } from '../../src/dtypes.ts';
import { AttributeProto_AttributeType, ModelProtoSchema, TensorProto_DataLocation } from '../../src/export/onnx_pb.ts';

/** Dims: number, symbol, or '' for an unnamed unknown; undefined for unknown rank. */
type Tensor = readonly [dtype: DType, dims: readonly (number | string)[] | undefined];

interface NodeSpec {
  op: string;
  inputs: readonly string[];
  outputs: readonly string[];
  ints?: Readonly<Record<string, number>>;
}

interface ExternalSpec {
  dtype: DType;
  dims: readonly number[];
  location: string;
  offset: number;
  length: number;
}

interface ModelSpec {
  inputs?: Readonly<Record<string, Tensor>>;
  outputs: Readonly<Record<string, Tensor>>;
  nodes: readonly NodeSpec[];
  external?: Readonly<Record<string, ExternalSpec>>;
  opset?: number;
}

/** The bytes of an ONNX model, straight from its parts: nothing is checked, so that broken models can be made too. */
export function model({ inputs = {}, outputs, nodes, external = {}, opset = 21 }: ModelSpec): Uint8Array {
  const infos = (tensors: Readonly<Record<string, Tensor>>) =>
    Object.entries(tensors).map(([name, [dtype, dims]]) => ({
      name,
      type: {
        value: {
          case: 'tensorType' as const,
          value: {
            elemType: onnxElementType(dtype),
            shape: dims && {
              dim: dims.map((dim) => ({
                value:
                  typeof dim === 'number'
                    ? { case: 'dimValue' as const, value: BigInt(dim) }
                    : dim === ''
                      ? { case: undefined }
                      : { case: 'dimParam' as const, value: dim },
              })),
            },
          },
        },
      },
    }));
  return toBinary(
    ModelProtoSchema,
    create(ModelProtoSchema, {
      irVersion: 10n,
      opsetImport: [{ domain: '', version: BigInt(opset) }],
      graph: {
        name: 'test',
        input: infos(inputs),
        output: infos(outputs),
        node: nodes.map((node) => ({
          opType: node.op,
          input: [...node.inputs],
          output: [...node.outputs],
          attribute: Object.entries(node.ints ?? {}).map(([name, i]) => ({
            name,
            i: BigInt(i),
            type: AttributeProto_AttributeType.INT,
          })),
        })),
        initializer: Object.entries(external).map(([name, { dtype, dims, location, offset, length }]) => ({
          name,
          dataType: onnxElementType(dtype),
          dims: dims.map(BigInt),
          dataLocation: TensorProto_DataLocation.EXTERNAL,
          externalData: [
            { key: 'location', value: location },
            { key: 'offset', value: String(offset) },
            { key: 'length', value: String(length) },
          ],
        })),
      },
    }),
  );
}

/** c = a + b over float32 [n, 2] and [2]. */
export const addModel = (): Uint8Array =>
  model({
    inputs: { a: ['float32', ['n', 2]], b: ['float32', [2]] },
    outputs: { c: ['float32', ['n', 2]] },
    nodes: [{ op: 'Add', inputs: ['a', 'b'], outputs: ['c'] }],
  });

/** y = x, for any dtype and dims. */
export const identityModel = (dtype: DType, dims: readonly (number | string)[]): Uint8Array =>
  model({
    inputs: { x: [dtype, dims] },
    outputs: { y: [dtype, dims] },
    nodes: [{ op: 'Identity', inputs: ['x'], outputs: ['y'] }],
  });

/** y = x W with W [k, n] in an external file. */
export const matmulModel = (weight: ExternalSpec): Uint8Array =>
  model({
    inputs: { x: ['float32', ['m', weight.dims[0]]] },
    outputs: { y: ['float32', ['m', weight.dims[1]]] },
    nodes: [{ op: 'MatMul', inputs: ['x', 'W'], outputs: ['y'] }],
    external: { W: weight },
  });
