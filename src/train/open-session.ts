import { initialAdapters, type LoraConfig } from '../lora.ts';
import { type OpenModel, openModel } from '../model-directory.ts';
import { TrainingSession } from '../optim/index.ts';
import type { Seed } from '../random.ts';
import type { SessionOptions } from '../runtime/index.ts';
import { hasTrainingState, loadTrainingCheckpoint } from './checkpoint.ts';

/** What a training session is opened with beyond the model. */
export interface TrainingSessionOptions extends SessionOptions {
  /** Train adapters in place of the weights. */
  lora?: LoraConfig | undefined;
  /** Of the adapters' start. */
  seed?: Seed;
  /** Training checkpoint to go on from; by default the model's folder, where it is one. With LoRA the model is the one adapted. */
  checkpoint?: string;
}

/**
 * A training session on a model: a Hugging Face directory, an export, or a training checkpoint, whose weights, moments, EMA
 * and step it goes on from.
 * @throws UserError when the folder cannot be used, or the checkpoint is of another model
 */
export async function openTrainingSession(
  directory: string,
  { lora, seed = 0, checkpoint, ...options }: TrainingSessionOptions = {},
): Promise<TrainingSession> {
  const session = await createSession(await openModel(directory, { lora }), { lora, seed }, options);
  const from = checkpoint ?? (lora === undefined && (await hasTrainingState(directory)) ? directory : undefined);
  if (from === undefined) return session;
  try {
    session.loadState((await loadTrainingCheckpoint(from)).training);
    return session;
  } catch (thrown) {
    session.release();
    throw thrown;
  }
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
