import { CheckpointScorer } from '../checkpoint-scorer.ts';
import type { TrainConfig } from '../config.ts';
import { scoreTokens } from '../micro-batches.ts';
import { type OpenModel, openModel } from '../model-directory.ts';
import { rowLogProbs, type TrainingSession } from '../optim/index.ts';
import type { SessionOptions } from '../runtime/index.ts';
import { checkSameTokenizer } from '../thought-data.ts';
import type { TreeDocument } from '../tree-batch.ts';

type ReferenceSettings = Pick<TrainConfig, 'objective' | 'model' | 'baseline' | 'klReference'>;

/** The EMA follows the weights where it is RLP's baseline; otherwise it stays what they were at the start. */
const emaFollows = ({ objective, baseline }: ReferenceSettings): boolean => objective === 'rlp' && baseline === 'ema';

/** Whether the weights that the KL is taken to are the session's EMA, as it follows the policy or as it was at the start. */
export const isSessionEma = (settings: ReferenceSettings): boolean =>
  settings.klReference === 'ema' || (settings.klReference === 'start' && !emaFollows(settings));

/** Folder of the reference of the KL where it has weights of its own; undefined where there is none such. */
export const referenceFolder = (settings: ReferenceSettings): string | undefined =>
  settings.klReference === undefined || isSessionEma(settings)
    ? undefined
    : settings.klReference === 'start'
      ? settings.model
      : settings.klReference;

/**
 * The reference of the KL as a model of its own; undefined where it is the session's EMA, or there is no KL.
 * @throws UserError unless it can read what is written for `model`
 */
export async function openReference(settings: ReferenceSettings, model: OpenModel): Promise<OpenModel | undefined> {
  const folder = referenceFolder(settings);
  if (folder === undefined) return undefined;
  const reference = await openModel(folder);
  if (folder !== settings.model) await checkSameTokenizer(model, reference);
  return reference;
}

/** Log-probs under the reference of the KL. Its weights are read at the first call, and kept in float32. */
export class KlReference implements Disposable {
  readonly #model: OpenModel | undefined;
  readonly #session: TrainingSession;
  readonly #options: SessionOptions;
  readonly #tokens: number;
  #scorer: CheckpointScorer | undefined;

  constructor(
    model: OpenModel | undefined,
    session: TrainingSession,
    options: SessionOptions,
    config: Pick<TrainConfig, 'microBatchTokens'>,
  ) {
    this.#model = model;
    this.#session = session;
    this.#options = options;
    this.#tokens = scoreTokens(config);
  }

  /** log p(target) of every loss row, nats, in the order of rowLogProbs. */
  async rowLogProbs(documents: readonly TreeDocument[]): Promise<Float32Array> {
    if (this.#model === undefined) {
      return rowLogProbs(documents, (batch) => this.#session.runEvalStep(batch, 'ema'), this.#tokens);
    }
    this.#scorer ??= await CheckpointScorer.create(this.#model, this.#options, this.#tokens);
    return this.#scorer.rowLogProbs(documents);
  }

  [Symbol.dispose](): void {
    this.#scorer?.[Symbol.dispose]();
  }
}
