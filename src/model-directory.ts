import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import {
  type ArtifactName,
  buildArtifact,
  checkFinite,
  type GraphOptions,
  loadWeights,
  locateIn,
  openCheckpoint,
  type StoredDType,
  storedDTypes,
  trainingRolloutGraphs,
  type Weight,
} from './export/index.ts';
import { fileError } from './file-error.ts';
import { checkLora } from './lora.ts';
import type { ModelConfig } from './model-config.ts';
import type { TrainingArtifacts } from './optim/index.ts';
import type { RolloutGraphs } from './rollout/index.ts';

/**
 * A model as the loops use it: a Hugging Face directory, exported or not. Its headers are read and checked; weights and
 * graphs come when they are asked for.
 */
export interface OpenModel {
  directory: string;
  config: ModelConfig;
  /** Of each of the checkpoint's weights. */
  dtypes: ReadonlyMap<string, StoredDType>;
  /** What the graphs are built for. */
  options: GraphOptions;
  /** SHA-256 of configuration and weights; reads them once. */
  hash(): Promise<string>;
  /** Weights are the checkpoint's; external data is relative to `directory`. */
  readonly rolloutGraphs: RolloutGraphs;
  /** Weights are float32 and given at session creation. */
  readonly trainingRolloutGraphs: RolloutGraphs;
  /** Weights are float32 inputs, read where they are in every run. */
  readonly residentRolloutGraphs: RolloutGraphs;
  readonly trainingArtifacts: TrainingArtifacts;
  /** Reads the weights once, in pieces. Throws a UserError that names the tensors with a NaN or an infinity. */
  checkFinite(): Promise<void>;
  /** Throws a UserError that names the tensors with a NaN or an infinity. */
  loadWeights(): Promise<Map<string, Weight>>;
}

/**
 * The graphs are built here from config.json and the headers of the weights, also where an export has left some: those
 * point at bytes of the weights by offset, and other weights may have come there since.
 * @param options of the training graphs and the rollout graphs under training; `dtype` and `truncation` of all rollout graphs
 * @throws UserError when the folder is no checkpoint that can be used
 */
export async function openModel(directory: string, options: GraphOptions = {}): Promise<OpenModel> {
  const checkpoint = await openCheckpoint(directory);
  const { config, tensors } = checkpoint;
  const { truncation } = options;
  const limits = {
    ...{ vocabSize: config.vocabSize, maxPositions: config.maxPositions },
    ...(typeof truncation === 'object' && { cut: truncation }),
  };
  if (options.lora !== undefined) checkLora(config, options.lora);
  const graph = (name: ArtifactName, of: GraphOptions = {}) => buildArtifact(name, config, locateIn(tensors), of);
  return {
    directory,
    config,
    dtypes: storedDTypes(checkpoint),
    options,
    async hash() {
      const hash = createHash('sha256').update(JSON.stringify(config));
      for (const file of checkpoint.files) {
        try {
          for await (const chunk of createReadStream(file)) hash.update(chunk);
        } catch (thrown) {
          throw fileError('cannot read', file, thrown);
        }
      }
      return hash.digest('hex');
    },
    get rolloutGraphs() {
      const { dtype = 'float32', truncation = true, forCpu = true } = options;
      return { prefill: graph('prefill', { dtype }), step: graph('step', { dtype, truncation, forCpu }), ...limits };
    },
    get trainingRolloutGraphs() {
      return { ...trainingRolloutGraphs(config, { forCpu: true, ...options }), ...limits };
    },
    get residentRolloutGraphs() {
      return { ...trainingRolloutGraphs(config, { ...options, weightsAsInputs: true }), ...limits };
    },
    get trainingArtifacts() {
      return {
        trainingModel: graph('trainingModel', options),
        evalModel: graph('evalModel', options),
        optimizerModel: graph('optimizerModel', options),
      };
    },
    checkFinite: () => checkFinite(checkpoint),
    async loadWeights() {
      const weights = await loadWeights(checkpoint);
      // A sum is not finite if a term is not; the reverse is for checkFinite to tell, which names the tensors.
      const suspect = [...weights.values()].some(({ data }) => !Number.isFinite(sumOf(data)));
      if (suspect) await checkFinite(checkpoint);
      return weights;
    },
  };
}

/** In float64: no sum of finite float32 values overflows it. */
function sumOf(values: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return sum;
}
