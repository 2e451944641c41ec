import type { Thought } from './branch-row.ts';
import { Lookahead } from './lookahead.ts';
import { assertDocument, assertOptions, type RolloutDocument, type RolloutOptions, scoresText } from './options.ts';
import { type RolloutGraphs, RolloutModel, type RolloutModelOptions } from './rollout-model.ts';
import { type RolloutCounts, Wave } from './wave.ts';

/** All thoughts of a document: by position in the order asked for, then by rollout. */
export interface DocumentRollouts {
  document: RolloutDocument;
  thoughts: Thought[];
  /** log p(x_t ... x_t+h-1 | the text before each) in nats, by position; where `noThink` asks for it. */
  noThink?: Float32Array[];
}

/**
 * Writes thoughts before positions of documents, and scores the true continuation under each or samples an answer. A document is a prefix tree:
 * its tokens are prefilled once, and all thoughts at all its positions attend to that one cache.
 *
 * Which tokens are sampled depends on the weights and on (seed, step, document, position, rollout) alone, not on what else
 * is in the batch; rounding may differ in the last bits of the log-probs.
 */
export class RolloutEngine implements Disposable {
  readonly #model: RolloutModel;
  readonly #counts: RolloutCounts = { prefilled: 0, steps: 0, rows: 0, slots: 0, keys: 0, stepMs: 0 };

  private constructor(model: RolloutModel) {
    this.#model = model;
  }

  /** Throws UserError when a graph cannot be loaded. */
  static async create(graphs: RolloutGraphs, options: RolloutModelOptions = {}): Promise<RolloutEngine> {
    return new RolloutEngine(await RolloutModel.create(graphs, options));
  }

  get counts(): Readonly<RolloutCounts> {
    return { ...this.#counts };
  }

  /**
   * Yields each document with its thoughts, in the order given, as soon as it and all before it are done. Reads up to
   * `documentsPerBatch` documents ahead of the caches. The event loop is free while the model runs. Stopping early (`break`)
   * frees the caches. Throws UserError on bad options, positions and token ids and on
   * documents too long for the model, RunError on log-probs that are not finite, and the reason of an aborted signal.
   */
  async *generate(
    documents: Iterable<RolloutDocument> | AsyncIterable<RolloutDocument>,
    options: RolloutOptions,
  ): AsyncGenerator<DocumentRollouts> {
    assertOptions(options, this.#model);
    const source = new Lookahead(documents, (document) => assertDocument(document, options, this.#model));
    try {
      for (;;) {
        const first = await source.peek(options.documentsPerBatch);
        if (first.length === 0) return;
        using wave = new Wave(this.#model, first, options, this.#counts);
        do {
          for (const { document, thoughts } of wave.takeDone()) yield resultOf(document, thoughts, options);
          await wave.admit(source);
          options.signal?.throwIfAborted();
        } while (await wave.step());
      }
    } finally {
      await source.close();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
  dispose(): void {
    this.#model.dispose();
  }
}

/** @param rows in the order of rowsOf */
function resultOf(document: RolloutDocument, rows: Thought[], options: RolloutOptions): DocumentRollouts {
  if (!scoresText(options)) return { document, thoughts: rows };
  const count = document.positions.length * options.groupSize;
  const noThink = rows.slice(count).map(({ reasonedLogProbs }) => Float32Array.from(reasonedLogProbs));
  return { document, thoughts: rows.slice(0, count), noThink };
}
