import { bodiesOf, type Graph, type Node, type Value } from './ir.ts';

/**
 * Moves the nodes whose results are only outputs of the graph to its end, the first of them last.
 *
 * ONNX Runtime (1.30) does not run nodes in the order of the file: it takes the nodes that nothing reads, the last first, and
 * before each what that needs. Left as they are made, the weight gradients of a backward pass would wait for the whole
 * pass, and hold every layer's activations until then; in this order each runs as soon as it can.
 */
export function runResultsEarly(graph: Graph): void {
  const read = new Set(valuesRead(graph.nodes));
  const isResult = ({ outputs }: Node) => !outputs.some((value) => read.has(value));
  const results = graph.nodes.filter(isResult);
  const others = graph.nodes.filter((node) => !isResult(node));
  graph.nodes.splice(0, graph.nodes.length, ...others, ...results.reverse());
}

/** By nodes, those in their bodies too. */
export const valuesRead = (nodes: readonly Node[]): (Value | null)[] =>
  nodes.flatMap((node) => [
    ...node.inputs,
    ...bodiesOf(node).flatMap(([, body]) => [...valuesRead(body.nodes), ...body.outputs.values()]),
  ]);
