import { bytesPerElement } from '../dtypes.ts';
import { internal, messageOf } from '../errors.ts';
import type { Initializer, Node, Value } from './ir.ts';
import { bodiesOf, type Graph, multiplyDims, sameShape } from './ir.ts';
import { inferNode } from './operators.ts';
import { printNode } from './print.ts';

/**
 * Checks the invariants that ir.ts states; serializeGraph calls it on every graph.
 * @throws an internal error with the printed node that breaks one
 */
export function verifyGraph(graph: Graph): void {
  verifyScope(graph, new Set());
}

/** @param around values of the graphs around a body */
function verifyScope(graph: Graph, around: ReadonlySet<Value>): void {
  const known = new Set(around);
  const originate = (value: Value, what: string) => {
    if (known.has(value)) throw broken(graph, `${what} has another origin already`);
    known.add(value);
  };
  for (const [name, value] of graph.inputs) originate(value, `input ${name}`);
  for (const initializer of graph.initializers) {
    originate(initializer.value, `initializer ${initializer.name ?? initializer.value}`);
    verifyInitializer(graph, initializer);
  }
  for (const node of graph.nodes) {
    node.inputs.forEach((value, i) => {
      if (value === null || known.has(value)) return;
      const later = graph.nodes.some(({ outputs }) => outputs.includes(value));
      throw broken(graph, `input ${i} ${later ? 'is used before the node that makes it' : 'comes from nowhere'}`, node);
    });
    for (const [, body] of bodiesOf(node)) verifyScope(body, known);
    verifyTypes(graph, node);
    node.outputs.forEach((value, i) => {
      if (known.has(value)) throw broken(graph, `output ${i} has another origin already`, node);
      known.add(value);
    });
  }
  for (const [name, value] of graph.outputs) {
    if (!known.has(value)) throw broken(graph, `output ${name} comes from nowhere`);
  }
}

function verifyInitializer(graph: Graph, { name, value, data }: Initializer): void {
  const size = multiplyDims(value.shape);
  const found = data.kind === 'inline' ? data.bytes.length : data.length;
  if (typeof size !== 'number' || size * bytesPerElement(value.dtype) !== found) {
    throw broken(graph, `initializer ${name ?? ''} ${value} has ${found} bytes`);
  }
}

function verifyTypes(graph: Graph, node: Node): void {
  const declared = node.outputs.map(({ shape }) => shape);
  const inferred = (() => {
    try {
      return inferNode(node.op, node.inputs, node.attributes, declared);
    } catch (error) {
      throw broken(graph, messageOf(error).replace('internal: ', ''), node);
    }
  })();
  if (inferred.length !== node.outputs.length) {
    throw broken(graph, `${node.outputs.length} outputs instead of ${inferred.length}`, node);
  }
  inferred.forEach(({ dtype, shape }, i) => {
    const output = node.outputs[i];
    if (output.dtype === dtype && sameShape(output.shape, shape)) return;
    throw broken(graph, `output ${i} must be ${dtype}[${shape.join(', ')}]`, node);
  });
}

const broken = (graph: Graph, what: string, node?: Node): Error =>
  internal(`graph ${graph.name}: ${what}${node === undefined ? '' : `\n  ${printNode(graph, node)}`}`);
