import type { GraphBuilder } from './builder.ts';
import type { Value } from './ir.ts';

/**
 * Draws one token a row by inverting the CDF of softmax(logits / temperature) at a given uniform; the most likely token
 * when the temperature is 0.
 *
 * The vocabulary is cut into blocks: the block is found on block sums, the token inside it. So only cheap reductions
 * touch the whole vocabulary, and cumulative sums stay short (CUDA's CumSum is quadratic in its axis).
 * @param logits float32 [N, V]
 * @param uniforms float32 [N] in [0, 1)
 * @param temperature float32 []
 * @returns tokens int64 [N]; logProbs float32 [N] under the distribution drawn from (0 for greedy)
 */
export function sampleTokens(
  b: GraphBuilder,
  logits: Value,
  uniforms: Value,
  temperature: Value,
): { tokens: Value; logProbs: Value } {
  const [rows, vocabulary] = logits.shape;
  const block = blockSize(Number(vocabulary));
  const blocks = Number(vocabulary) / block;
  const greedy = b.equal(temperature, 0);
  const probabilities = b.softmax(b.div(logits, b.where(greedy, b.scalar('float32', 1), temperature))); // (N, V)

  const blockMass = b.reduceSum(b.reshape(probabilities, [rows, blocks, block]), [-1], false); // (N, blocks)
  const cumulative = b.cumsum(blockMass, 1);
  const total = b.slice(cumulative, 1, blocks - 1, blocks); // (N, 1)
  const threshold = b.mul(b.unsqueeze(uniforms, [1]), total); // (N, 1): a rounded total moves no mass to nowhere
  const chosen = firstAbove(b, cumulative, blockMass, threshold); // (N, 1)

  const rowOffset = b.mul(b.unsqueeze(b.range(rows), [1]), blocks); // (N, 1)
  const inside = b.gather(b.reshape(probabilities, ['N*blocks', block]), b.squeeze(b.add(rowOffset, chosen), [1])); // (N, block)
  const before = b.sub(b.gatherElements(cumulative, chosen, 1), b.gatherElements(blockMass, chosen, 1));
  const offset = firstAbove(b, b.add(b.cumsum(inside, 1), before), inside, threshold);
  const drawn = b.add(b.mul(chosen, block), offset); // (N, 1)

  const tokens = b.where(greedy, b.argmax(logits, 1), drawn);
  const logProbs = b.where(greedy, b.scalar('float32', 0), b.log(b.gatherElements(probabilities, tokens, 1)));
  return { tokens: b.squeeze(tokens, [1]), logProbs: b.squeeze(logProbs, [1]) };
}

/**
 * Index [N, 1] of the first entry with mass whose cumulative mass exceeds the threshold; where rounding leaves none, the
 * last entry with mass. An entry of probability zero is never chosen.
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
