import { openModel } from './model-directory.ts';
import { type PlacedNode, Session } from './runtime/index.ts';
import { cpuNodesNotice, sessionOptionsOf } from './session-options.ts';

/** Who runs the nodes of one of a model's graphs. */
export interface GraphPlacement {
  graph: string;
  nodes: PlacedNode[];
  /** What is left to the CPU although another device was asked for; undefined where nothing is. */
  notice?: string;
}

/**
 * Loads a model's graphs on a device, one after the other.
 * @param verbose the notice names every node
 * @throws UserError when the folder is no checkpoint, or the device cannot be used
 */
export async function graphPlacements(directory: string, device: string, verbose = false): Promise<GraphPlacement[]> {
  const options = { ...sessionOptionsOf({ device }), recordPlacement: true };
  const model = await openModel(directory);
  const { prefill, step } = model.rolloutGraphs;
  const { trainingModel, evalModel, optimizerModel } = model.trainingArtifacts;
  const graphs = {
    ...{ rollout_prefill: prefill, rollout_step: step },
    ...{ training_model: trainingModel, eval_model: evalModel, optimizer_model: optimizerModel },
  };
  const placements: GraphPlacement[] = [];
  for (const [graph, bytes] of Object.entries(graphs)) {
    using session = await Session.create(bytes, { ...options, externalDataFolder: model.directory });
    const nodes = session.placement;
    const notice = device === 'cpu' ? undefined : cpuNodesNotice(nodes, device, verbose);
    placements.push({ graph, nodes, ...(notice !== undefined && { notice }) });
  }
  return placements;
}
