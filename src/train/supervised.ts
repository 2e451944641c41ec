import { microBatches, scoreTokens } from '../micro-batches.ts';
import { buildTreeBatch, type TreeDocument, tokensOf } from '../tree-batch.ts';
import type { Objective, TrainContext } from './objective.ts';

/** What an objective with a next-token loss trains on. */
export interface Supervised<Item> {
  /** The items of the next step. */
  next(): Promise<Item[]>;
  /** Their loss, the mean over all their targets. */
  lossOf(items: readonly Item[]): TreeDocument[];
  heldOut: readonly Item[] | undefined;
  /** How far the data has been gone through. */
  metrics(): Record<string, number>;
  /** Where `next` stands, as JSON. */
  state(): unknown;
  restore(state: unknown): void;
}

/** An objective without thoughts: -log p of the data's own tokens. */
export function supervisedObjective<Item>(
  { config, session, hooks }: TrainContext,
  { next, lossOf, heldOut, metrics, state, restore }: Supervised<Item>,
): Objective {
  return {
    emaDecay: config.emaDecay ?? 1,
    async prepare() {
      const documents = lossOf(await next());
      return { documents, tokens: { input: tokensOf(documents), written: 0 }, metrics: metrics() };
    },
    afterUpdate() {},
    async evaluate() {
      if (heldOut === undefined) return undefined;
      let loss = 0;
      for (const batch of microBatches(lossOf(heldOut), scoreTokens(config))) {
        hooks.signal?.throwIfAborted();
        loss += (await session.runEvalStep(buildTreeBatch(batch))).loss;
      }
      return { 'eval/loss': loss, 'eval/perplexity': Math.exp(loss) };
    },
    state,
    restore,
  };
}
