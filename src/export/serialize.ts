import { create, type MessageInitShape, toBinary } from '@bufbuild/protobuf';
import type { DType } from '../dtypes.ts';
import { bytesPerElement, onnxElementType } from '../dtypes.ts';
import { internal } from '../errors.ts';
import { type Attribute, bodiesOf, Graph, type Initializer, type Node, type Value } from './ir.ts';
import {
  type AttributeProtoSchema,
  AttributeProto_AttributeType as AttributeType,
  TensorProto_DataLocation as DataLocation,
  ModelProtoSchema,
  type NodeProtoSchema,
  type TensorProtoSchema,
  type ValueInfoProtoSchema,
} from './onnx_pb.ts';
import { OPERATORS, type Op, type Operator } from './operators.ts';
import { verifyGraph } from './verify.ts';

type Init<Schema extends Parameters<typeof create>[0]> = MessageInitShape<Schema>;

export interface SerializeOptions {
  /** Default-domain operator set; 24 for TensorScatter. */
  opset: number;
  /** IR version of the file; opset 21 came with 10, 24 with 11. */
  irVersion?: number;
  /** Free-form model metadata. */
  metadata?: Readonly<Record<string, string>>;
}

const PRODUCER = 'rlp-ort';

/** Axes that the IR keeps as an attribute and ONNX wants as a second input. */
const AXES_INPUT: ReadonlySet<Op> = new Set<Op>([
  'ReduceSum',
  'ReduceMean',
  'ReduceMax',
  'ReduceSumSquare',
  'Unsqueeze',
  'Squeeze',
]);

/** An ONNX ModelProto of the graph. Names of intermediate values are made here and say the operator they come from. */
export function serializeGraph(graph: Graph, options: SerializeOptions): Uint8Array {
  verifyGraph(graph);
  return new Serializer(graph).model(options);
}

class Serializer {
  readonly #graph: Graph;
  readonly #names = new Map<Value, string>();
  readonly #taken = new Set<string>();
  readonly #extra = new Map<string, Init<typeof TensorProtoSchema>>();

  constructor(graph: Graph) {
    this.#graph = graph;
    for (const [name, value] of graph.inputs) this.#assign(value, name);
    for (const { name, value } of graph.initializers) if (name !== undefined) this.#assign(value, name);
    for (const [name, value] of graph.outputs) {
      if (this.#names.has(value)) throw internal(`output ${name} is an input or an output already`);
      this.#assign(value, name);
    }
    graph.initializers.forEach(({ name, value }, i) => {
      if (name === undefined) this.#assign(value, `constant_${i}`);
    });
    this.#nameNodes(graph, '');
  }

  #nameNodes({ nodes }: Graph, prefix: string): void {
    nodes.forEach((node, i) => {
      const name = `${prefix}${node.op}_${i}`;
      for (const [attribute, body] of bodiesOf(node)) {
        for (const [input, value] of body.inputs) this.#assign(value, `${name}/${attribute}/${input}`);
        this.#nameNodes(body, `${name}/${attribute}/`);
      }
      node.outputs.forEach((value, k) => {
        if (!this.#names.has(value)) this.#assign(value, `${name}${k === 0 ? '' : `_${k}`}`);
      });
    });
  }

  #assign(value: Value, name: string): void {
    this.#take(name);
    this.#names.set(value, name);
  }

  #take(name: string): void {
    if (this.#taken.has(name)) throw internal(`graph ${this.#graph.name}: two values named ${name}`);
    this.#taken.add(name);
  }

  model({ opset, irVersion = opset >= 24 ? 11 : 10, metadata = {} }: SerializeOptions): Uint8Array {
    const graph = this.#graph;
    const domains = new Set(allNodes(graph).map((node) => (OPERATORS[node.op] as Operator).domain ?? ''));
    domains.add('');
    // Nodes first: serializing them may add initializers.
    const node = graph.nodes.map((n, i) => this.#node(n, `${n.op}_${i}`));
    const initializer = [...graph.initializers.map((init) => this.#initializer(init)), ...this.#extra.values()];
    const model = create(ModelProtoSchema, {
      irVersion: BigInt(irVersion),
      producerName: PRODUCER,
      opsetImport: [...domains].sort().map((domain) => ({ domain, version: BigInt(domain === '' ? opset : 1) })),
      metadataProps: Object.entries(metadata).map(([key, value]) => ({ key, value })),
      graph: {
        name: graph.name,
        node,
        initializer,
        input: [...graph.inputs.values()].map((value) => this.#valueInfo(value)),
        output: [...graph.outputs.values()].map((value) => this.#valueInfo(value)),
      },
    });
    return toBinary(ModelProtoSchema, model);
  }

  #name(value: Value | null): string {
    if (value === null) return '';
    const name = this.#names.get(value);
    if (name === undefined)
      throw internal(`graph ${this.#graph.name}: a value ${value} is used but comes from nowhere`);
    return name;
  }

  #node(node: Node, nodeName: string): Init<typeof NodeProtoSchema> {
    const input = node.inputs.map((value) => this.#name(value));
    const attribute: Init<typeof AttributeProtoSchema>[] = [];
    for (const [name, value] of Object.entries(node.attributes)) {
      if (name === 'axes' && AXES_INPUT.has(node.op)) input.push(this.#int64Constant(value as readonly number[]));
      else if (name === 'axis' && node.op === 'CumSum') input.push(this.#int64Constant(value as number));
      else if (name === 'dtype' && node.op === 'ConstantOfShape') attribute.push(this.#fill(value as DType));
      else if (name === 'to') attribute.push(encodeAttribute(name, onnxElementType(value as DType)));
      else if (value instanceof Graph) attribute.push(this.#body(name, value, `${nodeName}/${name}`));
      else attribute.push(encodeAttribute(name, value));
    }
    return {
      opType: node.op,
      domain: (OPERATORS[node.op] as Operator).domain ?? '',
      name: nodeName,
      input,
      output: node.outputs.map((value) => this.#name(value)),
      attribute,
    };
  }

  #body(name: string, { inputs, nodes, outputs }: Graph, prefix: string): Init<typeof AttributeProtoSchema> {
    const g = {
      name: prefix,
      node: nodes.map((n, i) => this.#node(n, `${prefix}/${n.op}_${i}`)),
      input: [...inputs.values()].map((value) => this.#valueInfo(value)),
      output: [...outputs.values()].map((value) => this.#valueInfo(value)),
    };
    return { name, type: AttributeType.GRAPH, g };
  }

  /** A list makes a vector, a number a scalar; equal ones are shared. */
  #int64Constant(values: readonly number[] | number): string {
    const list = typeof values === 'number' ? [values] : values;
    const name = `${typeof values === 'number' ? 'axis' : 'axes'}_${list.join('_').replaceAll('-', 'm')}`;
    if (this.#extra.has(name)) return name;
    this.#take(name);
    const bytes = new Uint8Array(BigInt64Array.from(list, BigInt).buffer);
    const dims = typeof values === 'number' ? [] : [BigInt(list.length)];
    this.#extra.set(name, { name, dataType: onnxElementType('int64'), dims, rawData: bytes });
    return name;
  }

  #fill(dtype: DType): Init<typeof AttributeProtoSchema> {
    const rawData = new Uint8Array(bytesPerElement(dtype));
    const t = { dims: [1n], dataType: onnxElementType(dtype), rawData };
    return { name: 'value', type: AttributeType.TENSOR, t };
  }

  #initializer({ value, data }: Initializer): Init<typeof TensorProtoSchema> {
    const dims = value.shape.map((dim) => BigInt(dim));
    const tensor = { name: this.#name(value), dataType: onnxElementType(value.dtype), dims };
    if (data.kind === 'inline') return { ...tensor, rawData: data.bytes };
    const { location, offset, length } = data;
    const entries = { location, offset: String(offset), length: String(length) };
    const externalData = Object.entries(entries).map(([key, text]) => ({ key, value: text }));
    return { ...tensor, dataLocation: DataLocation.EXTERNAL, externalData };
  }

  #valueInfo(value: Value): Init<typeof ValueInfoProtoSchema> {
    const dim = value.shape.map((size) => ({
      value:
        typeof size === 'number'
          ? ({ case: 'dimValue', value: BigInt(size) } as const)
          : ({ case: 'dimParam', value: size } as const),
    }));
    return {
      name: this.#name(value),
      type: { value: { case: 'tensorType', value: { elemType: onnxElementType(value.dtype), shape: { dim } } } },
    };
  }
}

const allNodes = ({ nodes }: Graph): Node[] =>
  nodes.flatMap((node) => [node, ...bodiesOf(node).flatMap(([, body]) => allNodes(body))]);

function encodeAttribute(name: string, value: Exclude<Attribute, Graph>): Init<typeof AttributeProtoSchema> {
  if (typeof value === 'number') return { name, type: AttributeType.INT, i: BigInt(value) };
  if (typeof value === 'string') return { name, type: AttributeType.STRING, s: new TextEncoder().encode(value) };
  if ('float' in value) return { name, type: AttributeType.FLOAT, f: value.float };
  return { name, type: AttributeType.INTS, ints: value.map(BigInt) };
}
