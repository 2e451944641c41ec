import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';
import { RowSwitch } from './row-switch.ts';

/** Which tokens may be drawn; scalars of a run. */
export interface TruncationInputs {
  /** int64 []: that many of the likeliest; 0 for all. */
  topK: Value;
  /** float32 [] in (0, 1]: the likeliest that have this much of the probability; 1 for all. */
  topP: Value;
  /** float32 [] in [0, 1]: those at least this fraction as likely as the likeliest; 0 for all. */
  minP: Value;
}

/** Smallest normal number: as a threshold it keeps all that can be drawn. */
const SMALLEST = 2 ** -126;
/** A threshold lies this factor below the least probability to be kept: no rounding of their quotient drops that one. */
const SLACK = 1 + 2 ** -22;
/** Top-p is searched from 2^-64 of the largest probability on, by factors of 2 to these powers. */
const SEARCH_POWERS = Array.from({ length: 22 }, (_, i) => 2 ** (5 - i));

/**
 * Cuts distributions to their likeliest tokens: by top-k, by top-p (Holtzman et al., arXiv 1904.09751) of what top-k
 * left, and by min-p (Nguyen et al., arXiv 2407.01082), in the order of transformers' logits processors.
 *
 * Each is a threshold on the probability, so that the vocabulary need not be sorted: top-k the k-th largest, top-p the
 * largest one whose tokens have the mass, found by bisection, min-p a fraction of the largest. Equal probabilities are
 * kept or dropped together; as equal count those within a factor of 1 + 2^-21 of the threshold, 1 + 2^-15 for top-p.
 */
export class Truncation {
  readonly #b: GraphBuilder;
  readonly #switch: RowSwitch;
  /** (n, 1): one over the threshold. */
  readonly #scale: Value;

  /**
   * @param probabilities float32 [N, V]
   * @param most float32 [N, 1], the largest of each row
   * @param enabled bool []; false keeps all
   */
  constructor(b: GraphBuilder, probabilities: Value, most: Value, inputs: TruncationInputs, enabled: Value) {
    this.#b = b;
    const [rows] = probabilities.shape;
    const { topK, topP, minP } = inputs;
    const byCount = b.and(enabled, b.greater(topK, 0));
    const byMass = b.and(enabled, b.less(topP, 1));
    const byRatio = b.and(enabled, b.greater(minP, 0));
    const countScale = b.where(byCount, topKScale(b, columnsIf(b, probabilities, byCount), topK), 1 / SMALLEST); // (N, 1)
    const massScale = topPScale(b, columnsIf(b, probabilities, byMass), most, countScale, topP);
    const scale = b.min(b.where(byMass, massScale, countScale), inverse(b, b.mul(most, minP)));
    this.#switch = new RowSwitch(b, 'truncated', rows, b.or(b.or(byCount, byMass), byRatio));
    this.#scale = this.#switch.on(scale);
  }

  /**
   * Masses in proportion to the probabilities of the tokens kept, 0 for the others; in the same unit within a row.
   * `reduce` keeps the rows.
   */
  masses(probabilities: Value, reduce: (masses: Value) => Value = (masses) => masses): Value {
    const kept = keep(this.#b, this.#switch.on(probabilities), this.#scale);
    const untouched = reduce(probabilities);
    return this.#switch.merge(reduce(kept), this.#switch.off(untouched));
  }
}

/** probability / threshold where that is above 1, else 0. */
const keep = (b: GraphBuilder, probabilities: Value, scale: Value): Value =>
  b.thresholdedRelu(b.mul(probabilities, scale), 1);

/** One over a threshold that keeps this probability. */
const inverse = (b: GraphBuilder, probability: Value): Value => b.div(SLACK, b.max(probability, SMALLEST * SLACK));

/**
 * The table [N, V] where a condition holds; its first column where it does not, so that what is computed from it costs
 * next to nothing. (Not its first 0 rows: TopK's CPU kernel divides by their number.)
 */
function columnsIf(b: GraphBuilder, table: Value, condition: Value): Value {
  const end = b.unsqueeze(b.where(condition, b.scalar('int64', Number(table.shape[1])), 1), [0]); // (1)
  return b.node('Slice', [table, b.int64s([0]), end, b.int64s([1])], {}, [[table.shape[0], 'columns']])[0];
}

/** The k-th largest probability's scale: [N, columns] -> [N, 1] */
function topKScale(b: GraphBuilder, probabilities: Value, topK: Value): Value {
  const k = b.max(b.min(b.unsqueeze(topK, [0]), b.shapeOf(probabilities, 1, 2)), 1); // (1): 1 also where it is off
  return inverse(b, b.slice(b.topK(probabilities, k, 1, 'k'), 1, -1, undefined, 1));
}

/**
 * The largest threshold whose tokens have the share `topP` of what `scale` [N, 1] keeps: [N, columns] -> its scale [N, 1].
 * The higher the threshold, the less mass: of ever smaller steps up, those are taken that leave enough.
 */
function topPScale(b: GraphBuilder, probabilities: Value, most: Value, scale: Value, topP: Value): Value {
  const massAt = (at: Value) => b.reduceSum(keep(b, probabilities, at), [1]); // (N, 1), in units of the threshold
  let found = b.min(scale, b.div(2 ** 64, most));
  const wanted = b.mul(topP, b.div(massAt(found), found));
  for (const power of SEARCH_POWERS) {
    const next = b.mul(found, 2 ** -power);
    found = b.where(b.greaterOrEqual(massAt(next), b.mul(wanted, next)), next, found);
  }
  return found;
}
