import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';

// Parts of cutting distributions by a threshold on the probability, see truncation.ts.

/** Smallest normal number: as a threshold it keeps all that can be drawn. */
const SMALLEST = 2 ** -126;
/** A threshold lies this factor below the least probability to be kept: no rounding of their quotient drops that one. */
const SLACK = 1 + 2 ** -22;
/** Top-p looks for its threshold among this many of the likeliest tokens, which suffice for most distributions. */
export const CANDIDATES = 256;
/** Beyond them it searches from 2^-32 of the least likely candidate on, by factors of 2 to these powers. */
const SEARCH_POWERS = Array.from({ length: 21 }, (_, i) => 2 ** (4 - i));

/**
 * probability / threshold where that is above 1, else 0; `scale` is one over the threshold. ThresholdedRelu and Shrink are the same
 * there. The first is four times as fast on the CPU, and has no CUDA kernel at our opset.
 */
export function keep(b: GraphBuilder, probabilities: Value, scale: Value, forCpu: boolean): Value {
  const x = b.mul(probabilities, scale);
  return forCpu ? b.thresholdedRelu(x, 1) : b.shrink(x, 1);
}

/** One over a threshold that lets probabilities equal to this one pass; finite where it is 0. */
export const scaleOf = (b: GraphBuilder, threshold: Value): Value => b.div(SLACK, b.max(threshold, SMALLEST * SLACK));

export const lastColumn = (b: GraphBuilder, x: Value): Value => b.slice(x, 1, -1, undefined, 1);

/**
 * Of the likeliest tokens' probabilities in order [N, k]: what they have together, what the last has, and what the first has with
 * which they have `share` of their own mass, or of 1; all [N, 1].
 */
export function reaching(b: GraphBuilder, sorted: Value, share: Value, ofTheirs: (together: Value) => Value) {
  const cumulative = b.cumsum(sorted, 1);
  const together = lastColumn(b, cumulative);
  const wanted = b.mul(share, ofTheirs(together));
  const reached = b.cast(b.greaterOrEqual(cumulative, wanted), 'float32');
  const threshold = b.gatherElements(sorted, b.argmax(reached, 1), 1); // of the first that reaches it
  return { threshold, wanted, least: lastColumn(b, sorted), falls: b.less(together, wanted) };
}

/**
 * The largest threshold [n, 1] whose tokens have the mass wanted [n, 1], below that of `least` [n, 1]. The higher the
 * threshold, the less mass: of ever smaller steps up from far below, those are taken that leave enough.
 */
export function searchThreshold(
  b: GraphBuilder,
  probabilities: Value,
  least: Value,
  wanted: Value,
  forCpu: boolean,
): Value {
  let found = b.max(b.mul(least, 2 ** -32), SMALLEST);
  for (const power of SEARCH_POWERS) {
    const next = b.mul(found, 2 ** power);
    const scale = b.reciprocal(next);
    const mass = b.reduceSum(keep(b, probabilities, scale, forCpu), [1]); // (n, 1), in units of the threshold
    found = b.where(b.greaterOrEqual(mass, b.mul(wanted, scale)), next, found);
  }
  return found;
}
