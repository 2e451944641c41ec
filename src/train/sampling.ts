import { trainOptionsSchema } from '../config.ts';
import { recordedSettings } from '../config-resolve.ts';
import { sampledLength } from '../optim/index.ts';
import { type DocumentRollouts, type RolloutDocument, RolloutEngine, type RolloutOptions } from '../rollout/index.ts';
import type { TrainContext } from './objective.ts';

/** Rollouts under the policy as it is now. Throws the signal's reason when it is aborted. */
export async function sampleRollouts(
  { hooks, model, session, sessionOptions }: TrainContext,
  documents: readonly RolloutDocument[],
  options: RolloutOptions,
): Promise<DocumentRollouts[]> {
  // On the CPU products with weights that are known when a session is made are faster; on a device weights stay where they are.
  const isOnCpu = sessionOptions.device?.kind === 'cpu';
  const graphs = isOnCpu ? model.trainingRolloutGraphs : model.residentRolloutGraphs;
  using engine = await RolloutEngine.create(graphs, {
    ...sessionOptions,
    ...(isOnCpu ? { initializers: session.weights } : { weights: session.weights }),
  });
  const rollouts: DocumentRollouts[] = [];
  for await (const rollout of engine.generate(documents, { ...options, signal: hooks.signal })) rollouts.push(rollout);
  return rollouts;
}

export const sampledTokens = (rollouts: readonly DocumentRollouts[]): number =>
  rollouts.reduce((sum, { thoughts }) => sum + thoughts.reduce((n, thought) => n + sampledLength(thought), 0), 0);

/** What a file of a run's rollouts says of them all. */
export function rolloutMetadata(
  { config, modelHash, dataHash, rewardHash }: TrainContext,
  { textHash, tokenizerHash }: { textHash?: string; tokenizerHash: string },
) {
  const settings = recordedSettings(trainOptionsSchema, config);
  return { config: { ...settings, dataHash, textHash, tokenizerHash, rewardHash }, modelHash };
}
