import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';
import { CANDIDATES, keep, lastColumn, reaching, scaleOf, searchThreshold } from './probability-threshold.ts';
import { RowSwitch } from './row-switch.ts';

/** Which tokens may be drawn; scalars of a run. */
export interface TruncationInputs {
  /** int64 []: that many of the likeliest; 0 for all. */
  topK: Value;
  /** float32 [] in (0, 1]: the likeliest that have this much of the probability; 1 for all. */
  topP: Value;
  /** float32 [] in [0, 1]: those at least this fraction as likely as the likeliest; 0 for all. */
  minP: Value;
  /** Built for the CPU, see `keep`. */
  forCpu?: boolean;
}

/**
 * Cuts distributions to their likeliest tokens: by top-k, by top-p (Holtzman et al., arXiv 1904.09751) of what top-k
 * left, and by min-p (Nguyen et al., arXiv 2407.01082), in the order of transformers' logits processors.
 *
 * Each is a threshold on the probability, so the vocabulary need not be sorted: the k-th largest; the largest whose tokens
 * have the mass; a fraction of the largest. Equal probabilities are kept or dropped together. As equal to the threshold
 * count those within a factor of 1 + 2^-21 of it, or 1 + 2^-15 where top-p needs more than 256 tokens.
 * Masses are float32 sums, so a token within some 1e-6 of the mass that top-p wants may fall on either side.
 */
export class Truncation {
  readonly #b: GraphBuilder;
  readonly #switch: RowSwitch;
  /** (n, 1): one over the threshold. */
  readonly #scale: Value;
  readonly #forCpu: boolean;

  /**
   * @param probabilities float32 [N, V], N >= 1
   * @param most float32 [N, 1], the largest of each row
   * @param enabled bool []; false keeps all
   */
  constructor(b: GraphBuilder, probabilities: Value, most: Value, inputs: TruncationInputs, enabled: Value) {
    this.#b = b;
    const { topK, topP, minP, forCpu = false } = inputs;
    this.#forCpu = forCpu;
    const byCount = b.and(enabled, b.greater(topK, 0));
    const byMass = b.and(enabled, b.less(topP, 1));
    const byRatio = b.and(enabled, b.greater(minP, 0));
    const sorted = likeliest(b, probabilities, byCount, byMass, topK); // (N, k)
    const count = b.where(byCount, lastColumn(b, sorted), 0); // thresholds (N, 1)
    const mass = b.where(byMass, massThreshold(b, probabilities, sorted, byCount, byMass, inputs), 0);
    const threshold = b.max(b.max(count, mass), b.mul(most, minP));
    this.#switch = new RowSwitch(b, 'truncated', probabilities.shape[0], b.or(b.or(byCount, byMass), byRatio));
    this.#scale = this.#switch.on(scaleOf(b, threshold));
  }

  /**
   * Masses in proportion to the probabilities of the tokens kept, 0 for the others; in the same unit within a row.
   * `reduce` keeps the rows.
   */
  masses(probabilities: Value, reduce: (masses: Value) => Value = (masses) => masses): Value {
    const kept = keep(this.#b, this.#switch.on(probabilities), this.#scale, this.#forCpu);
    const untouched = reduce(probabilities);
    return this.#switch.merge(reduce(kept), this.#switch.off(untouched));
  }
}

/**
 * The largest probabilities, largest first [N, k]: as many as top-k keeps, or the candidates of top-p. Where neither is
 * on, the first column is all there is, and costs next to nothing. (Not the first 0 rows: TopK's CPU kernel divides by
 * their number.)
 */
function likeliest(b: GraphBuilder, probabilities: Value, byCount: Value, byMass: Value, topK: Value): Value {
  const [rows, vocabulary] = [probabilities.shape[0], Number(probabilities.shape[1])];
  const int64 = (value: number) => b.scalar('int64', value);
  const columns = b.where(b.or(byCount, byMass), int64(vocabulary), int64(1));
  const wanted = b.where(byCount, topK, int64(CANDIDATES));
  const end = b.unsqueeze(columns, [0]);
  const looked = b.node('Slice', [probabilities, b.int64s([0]), end, b.int64s([1])], {}, [[rows, 'columns']])[0];
  return b.topK(looked, b.unsqueeze(b.min(wanted, columns), [0]), 1, 'k');
}

/**
 * The threshold [N, 1] of top-p, given the likeliest tokens' probabilities in order [N, k]: that of the first token with
 * which they have the mass wanted, of their own where they are all that top-k left. Where even together they do not have
 * it, the whole distribution is searched, for these rows alone.
 */
function massThreshold(
  b: GraphBuilder,
  probabilities: Value,
  sorted: Value,
  byCount: Value,
  byMass: Value,
  { topP, forCpu = false }: TruncationInputs,
): Value {
  const whole = b.scalar('float32', 1);
  const { threshold, wanted, least, falls } = reaching(b, sorted, topP, (together) =>
    b.where(byCount, together, whole),
  );
  if (Number(probabilities.shape[1]) <= CANDIDATES) return b.where(falls, least, threshold);

  const short = b.and(b.and(byMass, b.not(byCount)), falls);
  const rows = b.squeeze(b.nonZero(b.squeeze(short, [1]), 'short'), [0]); // (short)
  const found = searchThreshold(
    b,
    b.gather(probabilities, rows),
    b.gather(least, rows),
    b.gather(wanted, rows),
    forCpu,
  );
  return b.scatterElements(threshold, b.unsqueeze(rows, [1]), found, 0, 'none');
}
