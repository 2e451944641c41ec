import { valuesRead } from './execution-order.ts';
import type { Graph } from './ir.ts';

/**
 * Takes out the nodes and initializers that no output depends on. ONNX Runtime (1.30) runs such nodes all the same. Inputs stay.
 */
export function dropUnread(graph: Graph): void {
  const read = new Set(graph.outputs.values());
  const kept = graph.nodes.toReversed().filter((node) => {
    if (!node.outputs.some((value) => read.has(value))) return false;
    for (const value of valuesRead([node])) if (value !== null) read.add(value);
    return true;
  });
  graph.nodes.splice(0, graph.nodes.length, ...kept.reverse());
  const initializers = graph.initializers.filter(({ value }) => read.has(value));
  graph.initializers.splice(0, graph.initializers.length, ...initializers);
}
