import { resolve } from 'node:path';
import { UserError } from '../errors.ts';
import type { GraphOptions } from '../export/index.ts';
import { describeLora, initialAdapters, type LoraConfig } from '../lora.ts';
import { type OpenModel, openModel } from '../model-directory.ts';
import { TrainingSession } from '../optim/index.ts';
import type { Seed } from '../random.ts';
import type { SessionOptions } from '../runtime/index.ts';
import { hasTrainingState, loadTrainingCheckpoint } from './checkpoint.ts';

/** What the training graphs are built for; `train` sets the same from its flags. */
type TrainingGraphs = Pick<GraphOptions, 'recompute' | 'dtype' | 'ema' | 'weightDecayOn' | 'forCpu'>;

/** What a training session is opened with beyond the model. */
export interface TrainingSessionOptions extends SessionOptions, TrainingGraphs {
  /** Train adapters in place of the weights. A checkpoint of adapters says which: then it may be left out. */
  lora?: LoraConfig | undefined;
  /** Of the adapters' start. */
  seed?: Seed;
  /** Training checkpoint to go on from; by default the model's folder, where it is one. With LoRA the model is the one adapted. */
  checkpoint?: string;
}

/**
 * A training session on a model: a Hugging Face directory, an export, or a training checkpoint, whose weights, moments, EMA
 * and step it goes on from. Its graphs are built for where it computes: on the CPU, with products arranged for its kernels,
 * unless `forCpu` is false.
 * @throws UserError when the folder cannot be used, or the checkpoint is of another model or of other adapters
 */
export async function openTrainingSession(
  directory: string,
  { lora, seed = 0, checkpoint, recompute, dtype, ema, weightDecayOn, forCpu, ...options }: TrainingSessionOptions = {},
): Promise<TrainingSession> {
  const from = checkpoint ?? (lora === undefined && (await hasTrainingState(directory)) ? directory : undefined);
  const saved = from === undefined ? undefined : await loadTrainingCheckpoint(from);
  if (from !== undefined && saved !== undefined) {
    checkSameAdapters(from, saved.lora, lora ?? saved.lora);
    if (saved.lora !== undefined && resolve(from) === resolve(directory)) {
      throw new UserError(
        `checkpoint ${from}: has the state of adapters (${describeLora(saved.lora)}), and its weights have them merged in; ` +
          'open the model that they were trained on, with this folder as `checkpoint`',
      );
    }
  }
  const adapters = lora ?? saved?.lora;
  const graphs: GraphOptions = {
    ...{ lora: adapters, recompute, ema, forCpu: forCpu ?? (options.device?.kind ?? 'cpu') === 'cpu' },
    ...(dtype !== undefined && { dtype }),
    ...(weightDecayOn !== undefined && { weightDecayOn }),
  };
  const session = await createSession(await openModel(directory, graphs), { lora: adapters, seed }, options);
  if (saved === undefined) return session;
  try {
    session.loadState(saved.training);
    return session;
  } catch (thrown) {
    session.release();
    throw thrown;
  }
}

/**
 * @param saved adapters whose state a checkpoint has; undefined: that of the weights
 * @throws UserError when others are to be trained
 */
export function checkSameAdapters(
  checkpoint: string,
  saved: LoraConfig | undefined,
  lora: LoraConfig | undefined,
): void {
  const [found, wanted] = [saved, lora].map((of) =>
    of === undefined ? 'all weights' : `adapters (${describeLora(of)})`,
  );
  if (found === wanted) return;
  throw new UserError(
    `checkpoint ${checkpoint}: has the state of ${found}, expected ${wanted}; open it for what it has`,
  );
}

/** A session on an opened model as it is. */
export async function createSession(
  model: OpenModel,
  { lora, seed }: { lora: LoraConfig | undefined; seed: Seed },
  options: SessionOptions,
): Promise<TrainingSession> {
  const weights = await model.loadWeights();
  if (lora !== undefined) {
    for (const [name, adapter] of initialAdapters(model.config, lora, seed)) weights.set(name, adapter);
  }
  return TrainingSession.create(model.trainingArtifacts, weights, options);
}
