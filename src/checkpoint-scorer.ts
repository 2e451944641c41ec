import { SCORE_TOKENS } from './micro-batches.ts';
import type { OpenModel } from './model-directory.ts';
import { rowLogProbs } from './optim/index.ts';
import {
  type BaselineRequest,
  type NoThinkScorer,
  noThinkLogProbs,
  type PositionScore,
  positionScores,
} from './reward/index.ts';
import { type SessionOptions, Value } from './runtime/index.ts';
import type { TreeBatch, TreeDocument } from './tree-batch.ts';
import { TreeModel } from './tree-model.ts';

/** Teacher-forced scores under a checkpoint's weights, as they are. */
export class CheckpointScorer implements NoThinkScorer, Disposable {
  readonly #model: TreeModel;
  readonly #weights: ReadonlyMap<string, Value>;

  readonly #tokens: number;

  private constructor(model: TreeModel, weights: ReadonlyMap<string, Value>, tokens: number) {
    this.#model = model;
    this.#tokens = tokens;
    this.#weights = weights;
  }

  /**
   * @param tokens padded tokens of a pass, at most
   * @throws UserError that names the tensors that are not finite
   */
  static async create(
    model: OpenModel,
    options: SessionOptions,
    tokens: number = SCORE_TOKENS,
  ): Promise<CheckpointScorer> {
    const weights = [...(await model.loadWeights())];
    const tree = await TreeModel.create(model.trainingArtifacts.evalModel, options);
    const values = weights.map(
      ([name, { shape, data }]) => [name, Value.from('float32', shape, data).movedTo(tree.session.device)] as const,
    );
    return new CheckpointScorer(tree, new Map(values), tokens);
  }

  /** There is no policy beside these weights. */
  async copyFromPolicy(): Promise<void> {}

  #run = (batch: TreeBatch) => this.#model.run(batch, this.#weights);

  score(requests: readonly BaselineRequest[], horizon: number): Promise<Float32Array[][]> {
    return noThinkLogProbs(this.#run, requests, horizon, this.#tokens);
  }

  positionScores = (documents: readonly ArrayLike<number>[], kind: PositionScore): Promise<Float32Array[]> =>
    positionScores(this.#run, documents, kind, this.#tokens);

  /** log p(target) of every loss row, nats, in the order of rowLogProbs. */
  rowLogProbs(documents: readonly TreeDocument[]): Promise<Float32Array> {
    return rowLogProbs(documents, this.#run, this.#tokens);
  }

  [Symbol.dispose](): void {
    this.#model.dispose();
    for (const value of this.#weights.values()) value.dispose();
  }
}
