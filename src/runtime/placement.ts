import koffi from 'koffi';
import type { Out, Pointer } from './api.ts';
import { created, environment } from './environment.ts';

/** A node as ONNX Runtime runs it, after its optimizations. */
export interface PlacedNode {
  name: string;
  op: string;
  /** Execution provider, e.g. "CUDAExecutionProvider". */
  provider: string;
}

/** Session option without which ONNX Runtime does not keep what the placement is read from. */
export const RECORD_PLACEMENT = { 'session.record_ep_graph_assignment_info': '1' };

/** Which provider each node of a session's graph was given to. */
export function placementOf(session: Pointer): PlacedNode[] {
  const { api } = environment();
  const subgraphs = pointers((out, count) => api.Session_GetEpGraphAssignmentInfo(session, out, count));
  return subgraphs.flatMap((subgraph) => {
    const provider = created<string>((out) => api.EpAssignedSubgraph_GetEpName(subgraph, out));
    const nodes = pointers((out, count) => api.EpAssignedSubgraph_GetNodes(subgraph, out, count));
    return nodes.map((node) => ({
      name: created<string>((out) => api.EpAssignedNode_GetName(node, out)),
      op: created<string>((out) => api.EpAssignedNode_GetOperatorType(node, out)),
      provider,
    }));
  });
}

/** The elements of an array of pointers. */
function pointers(call: (out: Out<Pointer>, count: Out<number>) => void): Pointer[] {
  const array: Out<Pointer> = [null];
  const count = Number(created<number>((out) => call(array, out)));
  return array[0] === null || count === 0 ? [] : koffi.decode(array[0], koffi.array('void *', count));
}
