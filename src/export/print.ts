import { bytesPerElement, type DType, typedArrayFor } from '../dtypes.ts';
import { type Attribute, bodiesOf, Graph, type Initializer, type Node, type Value } from './ir.ts';

/**
 * A graph as text, for snapshot tests and error messages: inputs, initializers, one line a node, outputs.
 *
 *     graph mlp
 *       input x: float32[N, 3]
 *       initializer w: bfloat16[3, 4] in model.safetensors, 24 bytes at 128
 *       %0: float32[N, 4] = FusedMatMul(x, w) {transB=1}
 *       output y = %0
 *
 * Node outputs are numbered in order, those of the bodies of a Loop or an If, which follow their node, before its own; small
 * constants stand where they are used. A broken graph prints too: a value from nowhere is `%?`.
 */
export function printGraph(graph: Graph): string {
  const name = valueNames(graph);
  const inputs = [...graph.inputs.values()].map((value) => `input ${name(value)}: ${value}`);
  const initializers = graph.initializers
    .filter((initializer) => initializer.name !== undefined || literal(initializer) === undefined)
    .map((initializer) => `initializer ${name(initializer.value)}: ${initializer.value}${place(initializer)}`);
  const nodes = graph.nodes.flatMap((node) => nodeLines(node, name));
  const outputs = [...graph.outputs].map(([output, value]) => `output ${output} = ${name(value)}`);
  return [`graph ${graph.name}`, ...[...inputs, ...initializers, ...nodes, ...outputs].map((line) => `  ${line}`)].join(
    '\n',
  );
}

/** The line of one node, with the names it has in the whole graph's text. */
export const printNode = (graph: Graph, node: Node): string => nodeText(node, valueNames(graph));

type Names = (value: Value) => string;

function valueNames(graph: Graph): Names {
  const names = new Map<Value, string>();
  for (const [name, value] of graph.inputs) names.set(value, name);
  graph.initializers.forEach((initializer, i) => {
    names.set(initializer.value, initializer.name ?? literal(initializer) ?? `constant_${i}`);
  });
  let count = 0;
  const number = ({ inputs, nodes }: Graph) => {
    for (const [name, value] of inputs) if (!names.has(value)) names.set(value, `%${count++}.${name}`);
    for (const node of nodes) {
      for (const [, body] of bodiesOf(node)) number(body);
      for (const value of node.outputs) names.set(value, `%${count++}`);
    }
  };
  number(graph);
  return (value) => names.get(value) ?? '%?';
}

function nodeLines(node: Node, name: Names): string[] {
  const inside = bodiesOf(node).flatMap(([, body]) => [
    ...body.nodes.flatMap((inner) => nodeLines(inner, name)),
    ...[...body.outputs].map(([output, value]) => `output ${output} = ${name(value)}`),
  ]);
  return [nodeText(node, name), ...inside.map((line) => `  ${line}`)];
}

function nodeText({ op, inputs, attributes, outputs }: Node, name: Names): string {
  const left = outputs.map((value) => `${name(value)}: ${value}`).join(', ');
  const operands = inputs.map((value) => (value === null ? '-' : name(value))).join(', ');
  const shown = Object.entries(attributes)
    .map(([key, value]) => `${key}=${attributeText(value)}`)
    .filter((text) => !DEFAULTS.has(text));
  return `${left} = ${op}(${operands})${shown.length === 0 ? '' : ` {${shown.join(', ')}}`}`;
}

/** Attributes that say nothing: what ONNX assumes anyway. */
const DEFAULTS: ReadonlySet<string> = new Set(['transA=0', 'transB=0', 'alpha=1', 'stash_type=1', 'reduction=none']);

function attributeText(value: Attribute): string {
  if (typeof value === 'number' || typeof value === 'string') return String(value);
  if (value instanceof Graph) return `(${[...value.inputs.keys()].join(', ')})`;
  return 'float' in value ? String(value.float) : `[${value.join(', ')}]`;
}

/** Constants up to this many elements are written out. */
const MAX_LITERAL = 4;

function literal({ value, name, data }: Initializer): string | undefined {
  const count = data.kind === 'inline' ? data.bytes.length / bytesPerElement(value.dtype) : Number.NaN;
  if (name !== undefined || data.kind !== 'inline' || count > MAX_LITERAL || !Number.isInteger(count)) return undefined;
  const numbers = Array.from(viewAs(value.dtype, data.bytes), (x) => numberText(value.dtype, x));
  return value.rank === 0 ? numbers[0] : `[${numbers.join(', ')}]`;
}

/** The shortest decimal that is read back as the same number of that dtype. */
function numberText(dtype: DType, x: number | bigint): string {
  if (Object.is(x, -0)) return '-0';
  if (dtype !== 'float32' || typeof x === 'bigint' || !Number.isFinite(x)) return String(x);
  let digits = 1;
  while (Math.fround(Number(x.toPrecision(digits))) !== x) digits++;
  return String(Number(x.toPrecision(digits)));
}

function viewAs(dtype: DType, bytes: Uint8Array): Iterable<number | bigint> {
  // A copy: the bytes need not be aligned.
  return new (typedArrayFor(dtype))(bytes.slice().buffer) as Iterable<number | bigint>;
}

function place({ data }: Initializer): string {
  return data.kind === 'inline' ? '' : ` in ${data.location}, ${data.length} bytes at ${data.offset}`;
}
