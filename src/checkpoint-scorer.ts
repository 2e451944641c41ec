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

interface Loaded {
  tree: TreeModel;
  weights: ReadonlyMap<string, Value>;
}

/** Teacher-forced scores under a checkpoint's weights, as they are. */
export class CheckpointScorer implements NoThinkScorer, Disposable {
  readonly #load: () => Promise<Loaded>;
  readonly #tokens: number;
  #loading: Promise<Loaded> | undefined;
  #loaded: Loaded | undefined;

  private constructor(load: () => Promise<Loaded>, tokens: number) {
    this.#load = load;
    this.#tokens = tokens;
  }

  /**
   * @param tokens padded tokens of a pass, at most
   * @throws UserError that names the tensors that are not finite
   */
  static async create(model: OpenModel, options: SessionOptions, tokens?: number): Promise<CheckpointScorer> {
    const scorer = CheckpointScorer.onDemand(model, options, tokens);
    await scorer.#whenLoaded();
    return scorer;
  }

  /** The same, but weights and graph are loaded when something is scored first: until then it takes no memory. */
  static onDemand(model: OpenModel, options: SessionOptions, tokens: number = SCORE_TOKENS): CheckpointScorer {
    return new CheckpointScorer(() => load(model, options), tokens);
  }

  async #whenLoaded(): Promise<Loaded> {
    this.#loading ??= this.#load();
    this.#loaded = await this.#loading;
    return this.#loaded;
  }

  /** There is no policy beside these weights. */
  async copyFromPolicy(): Promise<void> {}

  #run = async (batch: TreeBatch) => {
    const { tree, weights } = await this.#whenLoaded();
    return await tree.run(batch, weights);
  };

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
    this.#loaded?.tree.dispose();
    for (const value of this.#loaded?.weights.values() ?? []) value.dispose();
  }
}

async function load(model: OpenModel, options: SessionOptions): Promise<Loaded> {
  const weights = [...(await model.loadWeights())];
  const tree = await TreeModel.create(model.trainingArtifacts.evalModel, options);
  const values = weights.map(
    ([name, { shape, data }]) => [name, Value.from('float32', shape, data).movedTo(tree.session.device)] as const,
  );
  return { tree, weights: new Map(values) };
}
