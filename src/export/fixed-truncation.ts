import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';
import { CANDIDATES, keep, lastColumn, reaching, scaleOf, searchThreshold } from './probability-threshold.ts';

/** Cuts that are known when a graph is made; the values that cut nothing are 0, 1 and 0. */
export interface TokenCut {
  /** That many of the likeliest tokens. */
  topK: number;
  /** The likeliest that have this much of the probability. */
  topP: number;
  /** Those at least this fraction as likely as the likeliest. */
  minP: number;
}

/**
 * Truncation (truncation.ts) by cuts that are known when the graph is made, of shapes that do not depend on data: what a CUDA graph
 * can hold. Where more than 256 tokens may be needed for the mass of top-p, that is 21 passes over the vocabulary in every step.
 */
export class FixedTruncation {
  readonly #b: GraphBuilder;
  /** (N, 1): one over the threshold. */
  readonly #scale: Value;

  /**
   * @param probabilities float32 [N, V]
   * @param most float32 [N, 1], the largest of each row
   * @param enabled bool []; false keeps all
   */
  constructor(b: GraphBuilder, probabilities: Value, most: Value, { topK, topP, minP }: TokenCut, enabled: Value) {
    this.#b = b;
    const vocabulary = Number(probabilities.shape[1]);
    const byCount = topK > 0;
    const thresholds: Value[] = [];
    if (byCount || topP < 1) {
      const count = Math.min(byCount ? topK : CANDIDATES, vocabulary);
      const sorted = b.topK(probabilities, b.int64s([count]), 1, count);
      if (byCount) thresholds.push(lastColumn(b, sorted));
      if (topP < 1) {
        const whole = b.scalar('float32', 1);
        const found = reaching(b, sorted, b.scalar('float32', topP), (together) => (byCount ? together : whole));
        const beyond =
          byCount || count === vocabulary
            ? found.least
            : searchThreshold(b, probabilities, found.least, found.wanted, false);
        thresholds.push(b.where(found.falls, beyond, found.threshold));
      }
    }
    if (minP > 0) thresholds.push(b.mul(most, minP));
    const threshold = thresholds.reduce((a, c) => b.max(a, c), b.scalar('float32', 0));
    this.#scale = scaleOf(b, b.where(enabled, threshold, 0));
  }

  /**
   * Masses in proportion to the probabilities of the tokens kept, 0 for the others; in the same unit within a row.
   * `reduce` keeps the rows.
   */
  masses(probabilities: Value, reduce: (masses: Value) => Value = (masses) => masses): Value {
    return reduce(keep(this.#b, probabilities, this.#scale, false));
  }
}
