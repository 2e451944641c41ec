import type { ModelConfig } from '../../src/model-config.ts';
import type { Thought, ThoughtRules } from '../../src/rollout/index.ts';
import { Value } from '../../src/runtime/index.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { TreeModel } from '../../src/tree-model.ts';
import { evalGraph, type HostWeights } from '../fixtures/tiny-model.ts';

/** Teacher-forced passes over flat sequences: no cache, no branches, no sampling. */
export class Reference implements Disposable {
  readonly #model: TreeModel;
  readonly #weights: Map<string, Value>;
  readonly #vocabSize: number;

  private constructor(model: TreeModel, weights: Map<string, Value>, vocabSize: number) {
    this.#model = model;
    this.#weights = weights;
    this.#vocabSize = vocabSize;
  }

  static async create(config: ModelConfig, weights: HostWeights): Promise<Reference> {
    const values = [...weights].map(([name, { shape, data }]) => [name, Value.from('float32', shape, data)] as const);
    return new Reference(await TreeModel.create(evalGraph(config)), new Map(values), config.vocabSize);
  }

  /** log p(next token | tokens up to i) in nats at temperature 1: [tokens][vocabulary]. */
  async logProbs(tokens: readonly number[]): Promise<Float32Array[]> {
    const V = this.#vocabSize;
    const losses = tokens.flatMap((_, token) => Array.from({ length: V }, (_, target) => ({ token, target })));
    const batch = buildTreeBatch([{ trunk: tokens, losses, branches: [] }]);
    const { logProbs } = await this.#model.run(batch, this.#weights);
    return tokens.map((_, i) => logProbs.slice(i * V, (i + 1) * V));
  }

  /** The log-probs of every next token that a thought met: while it was written, and for each target. */
  async thought(
    document: ArrayLike<number>,
    thought: Thought,
    { open, close }: Pick<ThoughtRules, 'open' | 'close'>,
  ): Promise<{ written: Float32Array[]; scored: Float32Array[] }> {
    const prefix = Array.from(document).slice(0, thought.position);
    const forced = thought.finishReason === 'closed' ? [] : [close].flat();
    const opening = [open].flat();
    const sequence = [...prefix, ...opening, ...thought.tokens, ...forced, ...thought.targets];
    const table = await this.logProbs(sequence);
    const first = sequence.length - 1 - thought.targets.length; // the closing delimiter predicts the first target
    return {
      written: table.slice(prefix.length + opening.length - 1).slice(0, thought.tokens.length),
      scored: table.slice(first, -1),
    };
  }

  [Symbol.dispose](): void {
    this.#model.dispose();
    for (const value of this.#weights.values()) value.dispose();
  }
}

/** log softmax(logits / temperature) from log-probs at temperature 1. */
export function temper(logProbs: ArrayLike<number>, temperature: number): number[] {
  const scaled = Array.from(logProbs, (value) => value / temperature);
  const most = Math.max(...scaled);
  const logSum = most + Math.log(scaled.reduce((sum, value) => sum + Math.exp(value - most), 0));
  return scaled.map((value) => value - logSum);
}

/** Index of the largest value, the first of equals. */
export function argmax(values: ArrayLike<number>): number {
  return Array.from(values).reduce((best, value, i, all) => (value > all[best] ? i : best), 0);
}
