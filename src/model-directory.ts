import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { access, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { DType } from './dtypes.ts';
import {
  ARTIFACTS,
  type ArtifactName,
  buildArtifact,
  dtypeOf,
  loadWeights,
  locateIn,
  openCheckpoint,
  trainingRolloutGraphs,
  type Weight,
} from './export/index.ts';
import type { ModelConfig } from './model-config.ts';
import type { TrainingArtifacts } from './optim/index.ts';
import type { RolloutGraphs } from './rollout/index.ts';

/** A model as the loops use it: what `rlp-ort export` wrote, or a Hugging Face directory, whose graphs are then built here. */
export interface OpenModel {
  directory: string;
  config: ModelConfig;
  /** Of the checkpoint's weights. */
  dtype: DType;
  /** SHA-256 of configuration and weights. */
  hash: string;
  /** Weights are the checkpoint's; external data is relative to `directory`. */
  rolloutGraphs: RolloutGraphs;
  /** Weights are float32 and given at session creation. */
  trainingRolloutGraphs: RolloutGraphs;
  trainingArtifacts: TrainingArtifacts;
  loadWeights(): Promise<Map<string, Weight>>;
}

/** @throws UserError when the folder is no checkpoint that can be used. */
export async function openModel(directory: string): Promise<OpenModel> {
  const checkpoint = await openCheckpoint(directory);
  const { config, tensors } = checkpoint;
  const graph = async (name: ArtifactName): Promise<Uint8Array> => {
    const path = join(directory, ARTIFACTS[name]);
    // As bytes even from a file, so that both ways of having a graph meet the same session options.
    return (await exists(path)) ? readFile(path) : buildArtifact(name, config, locateIn(tensors));
  };
  const hash = createHash('sha256').update(JSON.stringify(config));
  for (const file of checkpoint.files) for await (const chunk of createReadStream(file)) hash.update(chunk);
  return {
    directory,
    config,
    dtype: dtypeOf(checkpoint),
    hash: hash.digest('hex'),
    rolloutGraphs: { prefill: await graph('prefill'), step: await graph('step') },
    trainingRolloutGraphs: trainingRolloutGraphs(config),
    trainingArtifacts: {
      trainingModel: await graph('trainingModel'),
      evalModel: await graph('evalModel'),
      optimizerModel: await graph('optimizerModel'),
    },
    loadWeights: () => loadWeights(checkpoint),
  };
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false;
  }
}
