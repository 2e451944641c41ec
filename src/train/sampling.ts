import { trainOptionsSchema } from '../config.ts';
import { recordedSettings } from '../config-resolve.ts';
import type { OpenModel } from '../model-directory.ts';
import { sampledLength, type TrainingSession } from '../optim/index.ts';
import { type DocumentRollouts, type RolloutDocument, RolloutEngine, type RolloutOptions } from '../rollout/index.ts';
import type { MachineOptions } from '../session-options.ts';
import type { StepTokens, TrainContext } from './objective.ts';

/**
 * Rollouts under the weights in training. On the CPU an engine is made for each step, because products with weights that are known
 * when a session is made are faster; on a device one engine reads the weights where they are.
 */
export class PolicySampler implements Disposable {
  readonly #model: OpenModel;
  readonly #session: TrainingSession;
  readonly #options: MachineOptions;
  #resident: RolloutEngine | undefined;

  constructor(model: OpenModel, session: TrainingSession, options: MachineOptions) {
    this.#model = model;
    this.#session = session;
    this.#options = options;
  }

  /** Rollouts under the policy as it is now. Throws the signal's reason when it is aborted. */
  async sample(documents: readonly RolloutDocument[], options: RolloutOptions): Promise<DocumentRollouts[]> {
    const { weights } = this.#session;
    if (this.#options.device !== undefined && this.#options.device.kind !== 'cpu') {
      this.#resident ??= await RolloutEngine.create(this.#model.residentRolloutGraphs, { ...this.#options, weights });
      return await collect(this.#resident.generate(documents, options));
    }
    using engine = await RolloutEngine.create(this.#model.trainingRolloutGraphs, {
      ...this.#options,
      initializers: weights,
    });
    return await collect(engine.generate(documents, options));
  }

  [Symbol.dispose](): void {
    this.#resident?.dispose();
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}

/** Rollouts of a step. Throws the signal's reason when it is aborted. */
export const sampleRollouts = (
  { hooks, policy }: Pick<TrainContext, 'hooks' | 'policy'>,
  documents: readonly RolloutDocument[],
  options: RolloutOptions,
): Promise<DocumentRollouts[]> => policy.sample(documents, { ...options, signal: hooks.signal });

export const sampledTokens = (rollouts: readonly DocumentRollouts[]): number =>
  rollouts.reduce((sum, { thoughts }) => sum + thoughts.reduce((n, thought) => n + sampledLength(thought), 0), 0);

/** Tokens that were read to sample, and those that were written; `open` are the tokens that open a thought. */
export const countTokens = (rollouts: readonly DocumentRollouts[], open: readonly number[]): StepTokens => ({
  input: rollouts.reduce((sum, { document }) => sum + document.positions.reduce((a, b) => Math.max(a, b)), 0),
  written: rollouts
    .flatMap(({ thoughts }) => thoughts)
    .reduce((sum, thought) => sum + open.length + sampledLength(thought) + (thought.answer?.forced.length ?? 0), 0),
});

/** What a file of a run's rollouts says of them all. */
export function rolloutMetadata(
  { config, modelHash, dataHash, rewardHash }: TrainContext,
  { textHash, tokenizerHash }: { textHash?: string; tokenizerHash: string },
) {
  const settings = recordedSettings(trainOptionsSchema, config);
  return { config: { ...settings, dataHash, textHash, tokenizerHash, rewardHash }, modelHash };
}
