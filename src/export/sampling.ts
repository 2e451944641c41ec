import type { GraphBuilder } from './builder.ts';
import { FixedTruncation, type TokenCut } from './fixed-truncation.ts';
import type { Value } from './ir.ts';
import { Truncation, type TruncationInputs } from './truncation.ts';

/** How tokens are drawn; scalars of a run. */
export interface SamplingInputs {
  /** float32 []: of the softmax; 0 takes the likeliest token. */
  temperature: Value;
  /** Left out: all tokens may be drawn. Scalars of a run, or cuts that every run has. */
  truncation?: TruncationInputs | TokenCut;
}

/**
 * Draws one token a row by inverting the CDF of softmax(logits / temperature), truncated, at a given uniform; the
 * likeliest token when the temperature is 0. A token of probability 0 is never drawn.
 *
 * The vocabulary is cut into blocks: a block is found on block sums, the token inside it. So cumulative sums stay short
 * (CUDA's CumSum is quadratic in its axis), and only operators with fast kernels on the CPU touch the whole vocabulary:
 * softmax, products, sums and maxima, but not ArgMax, Where or LogSoftmax, which cost ten times as much.
 * @param logits float32 [N, V]
 * @param likeliest int64 [N, 1], of likeliestTokens
 * @param uniforms float32 [N] in [0, 1)
 * @returns tokens int64 [N]; logProbs float32 [N] under the distribution drawn from (0 for greedy)
 */
export function sampleTokens(
  b: GraphBuilder,
  logits: Value,
  likeliest: Value,
  uniforms: Value,
  inputs: SamplingInputs,
): { tokens: Value; logProbs: Value } {
  const greedy = b.equal(inputs.temperature, 0);
  const blocks = new Blocks(b, logits);
  const scaled = b.div(logits, b.where(greedy, b.scalar('float32', 1), inputs.temperature));
  const probabilities = b.softmax(scaled); // (N, V)
  const masses = truncatedMasses(b, probabilities, likeliest, inputs.truncation, b.not(greedy));

  const blockMass = masses(probabilities, (table) => b.reduceSum(blocks.split(table), [2], false)); // (N, blocks)
  const cumulative = b.cumsum(blockMass, 1);
  const total = b.slice(cumulative, 1, blocks.count - 1, blocks.count); // (N, 1)
  const threshold = b.mul(b.unsqueeze(uniforms, [1]), total); // (N, 1): a rounded total moves no mass to nowhere
  const chosen = firstAbove(b, cumulative, blockMass, threshold); // (N, 1)

  const inside = masses(blocks.pick(probabilities, chosen)); // (N, block)
  const before = b.sub(b.gatherElements(cumulative, chosen, 1), b.gatherElements(blockMass, chosen, 1));
  const offset = firstAbove(b, b.add(b.cumsum(inside, 1), before), inside, threshold);

  const tokens = b.where(greedy, likeliest, blocks.index(chosen, offset)); // (N, 1)
  const logProbs = b.log(b.div(b.gatherElements(inside, offset, 1), total));
  return {
    tokens: b.squeeze(tokens, [1]),
    logProbs: b.squeeze(b.where(greedy, b.scalar('float32', 0), logProbs), [1]),
  };
}

type Masses = Truncation['masses'];

/** Truncation.masses, or the probabilities as they are. */
function truncatedMasses(
  b: GraphBuilder,
  probabilities: Value,
  likeliest: Value,
  inputs: TruncationInputs | TokenCut | undefined,
  enabled: Value,
): Masses {
  if (inputs === undefined) return (table, reduce = (masses) => masses) => reduce(table);
  const most = b.gatherElements(probabilities, likeliest, 1);
  const truncation = isFixed(inputs)
    ? new FixedTruncation(b, probabilities, most, inputs, enabled)
    : new Truncation(b, probabilities, most, inputs, enabled);
  return (table, reduce) => truncation.masses(table, reduce);
}

const isFixed = (inputs: TruncationInputs | TokenCut): inputs is TokenCut => typeof inputs.topK === 'number';

/** Index [N, 1] of the largest logit of each row, the first of equals. */
export function likeliestTokens(b: GraphBuilder, logits: Value): Value {
  const blocks = new Blocks(b, logits);
  const chosen = b.argmax(b.reduceMax(blocks.split(logits), [2], false), 1); // (N, 1)
  return blocks.index(chosen, b.argmax(blocks.pick(logits, chosen), 1));
}

/**
 * Log-probs float32 [N] at temperature 1 of given tokens int64 [N], as a function. They are taken relative to the likeliest
 * token's, which the softmax gives with the smallest error; NaN where a logit of the row is NaN.
 * @param logits float32 [N, V]
 * @param likeliest int64 [N, 1]
 */
export function logProbsOf(b: GraphBuilder, logits: Value, likeliest: Value): (tokens: Value) => Value {
  const of = (table: Value, tokens: Value) => b.gatherElements(table, tokens, 1); // (N, 1)
  const best = of(logits, likeliest);
  const bestLogProb = b.log(of(b.softmax(logits), likeliest));
  // Differences first: logits can be large where log-probs are close to 0.
  return (tokens) => b.squeeze(b.add(b.sub(of(logits, b.unsqueeze(tokens, [1])), best), bestLogProb), [1]);
}

/** A table [N, V] as [N, count, size]. */
class Blocks {
  readonly count: number;
  readonly #size: number;
  readonly #b: GraphBuilder;
  readonly #table: Value;

  constructor(b: GraphBuilder, table: Value) {
    const vocabulary = Number(table.shape[1]);
    this.#b = b;
    this.#table = table;
    this.#size = blockSize(vocabulary);
    this.count = vocabulary / this.#size;
  }

  /** [n, V] -> [n, count, size] */
  split(table: Value): Value {
    return this.#b.reshape(table, [table.shape[0], this.count, this.#size]);
  }

  /** Block chosen[n] of each row: [N, V], [N, 1] -> [N, size] */
  pick(table: Value, chosen: Value): Value {
    const b = this.#b;
    const firstBlock = b.mul(b.unsqueeze(b.range(this.#table.shape[0]), [1]), this.count); // (N, 1)
    return b.gather(b.reshape(table, ['N*blocks', this.#size]), b.squeeze(b.add(firstBlock, chosen), [1]));
  }

  index(block: Value, offset: Value): Value {
    return this.#b.add(this.#b.mul(block, this.#size), offset);
  }
}

/**
 * Index [N, 1] of the first entry with mass whose cumulative mass exceeds the threshold; where rounding leaves none, the
 * last entry with mass. An entry without mass is never chosen.
 */
function firstAbove(b: GraphBuilder, cumulative: Value, mass: Value, threshold: Value): Value {
  const hasMass = b.greater(mass, 0);
  const above = b.cast(b.and(b.greater(cumulative, threshold), hasMass), 'float32');
  const first = b.argmax(above, 1); // the first of equals
  const size = Number(mass.shape[1]);
  const order = b.constant(
    'float32',
    Array.from({ length: size }, (_, i) => i),
  );
  const last = b.argmax(b.where(hasMass, order, -1), 1);
  return b.where(b.greater(b.reduceMax(above, [1]), 0), first, last);
}

/** The divisor of the vocabulary nearest its square root on a logarithmic scale; the whole vocabulary where none is near. */
function blockSize(vocabulary: number): number {
  let best = vocabulary;
  const distance = (size: number) => Math.abs(Math.log(size / Math.sqrt(vocabulary)));
  for (let size = 16; size <= vocabulary; size++) {
    if (vocabulary % size === 0 && distance(size) < distance(best)) best = size;
  }
  return best;
}
