import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { likeliestTokens, logProbsOf, sampleTokens } from '../../src/export/sampling.ts';
import { Random } from '../../src/random.ts';
import { float32 } from './decoder-graphs.ts';
import { openGraph } from './run-graph.ts';

const OFF = { topK: 0, topP: 1, minP: 0 };

/** Draws for one row of logits at many uniforms. */
async function openSampler(vocabulary: number) {
  const b = new GraphBuilder('sampling');
  const row = b.input('logits', 'float32', [1, vocabulary]);
  const uniforms = b.input('uniforms', 'float32', ['N']);
  const inputs = {
    temperature: b.input('temperature', 'float32', []),
    topK: b.input('top_k', 'int64', []),
    topP: b.input('top_p', 'float32', []),
    minP: b.input('min_p', 'float32', []),
  };
  const logits = b.expand(row, ['N', vocabulary]);
  const likeliest = likeliestTokens(b, logits);
  const { tokens, logProbs } = sampleTokens(b, logits, likeliest, uniforms, inputs);
  b.output('tokens', tokens);
  b.output('log_probs', logProbs);
  b.output('at_one', logProbsOf(b, logits, likeliest)(tokens));
  const session = await openGraph(b.graph);
  return async (row: readonly number[], us: readonly number[], t: number, truncation: Partial<typeof OFF> = {}) => {
    const { topK, topP, minP } = { ...OFF, ...truncation };
    return session.run({
      logits: float32([1, vocabulary], row),
      uniforms: float32([us.length], us),
      temperature: float32([], [t]),
      top_k: { dtype: 'int64', dims: [], data: [topK] },
      top_p: float32([], [topP]),
      min_p: float32([], [minP]),
    });
  };
}

/** Logits as float32 has them, some far below the others. */
function randomLogits(vocabulary: number, spread: number): number[] {
  const random = new Random(0, `logits ${vocabulary}`);
  return Array.from({ length: vocabulary }, () => Math.fround(spread * (random.float() + random.float() - 1)));
}

function softmax(logits: readonly number[], temperature: number): number[] {
  const most = Math.max(...logits);
  const weights = logits.map((x) => Math.exp((x - most) / temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((x) => x / total);
}

const LAST = 1 - 2 ** -24; // the largest float32 below 1

// A prime, whose only block is the whole; a few blocks; 64 blocks of 64.
describe.each([1, 2, 101, 264, 4096])('a vocabulary of %i', (vocabulary) => {
  const sampler = openSampler(vocabulary);

  it.each([1, 0.7, 3])('inverts the CDF of the softmax at temperature %d', async (temperature) => {
    const sample = await sampler;
    const logits = randomLogits(vocabulary, 4);
    const probabilities = softmax(logits, temperature);
    let sum = 0;
    const cumulative = probabilities.map((p) => {
      sum += p;
      return sum;
    });
    const count = vocabulary > 1000 ? 1000 : 5000;
    // Evenly spaced: a token of probability p is drawn for a share of p to within 1 / count. No chance is left to the test.
    const uniforms = Array.from({ length: count }, (_, i) => Math.fround((i + 0.5) / count));
    const { tokens, log_probs: logProbs } = await sample(logits, uniforms, temperature);
    const tolerance = 2e-6; // of float32 sums
    uniforms.forEach((u, i) => {
      const token = tokens[i];
      expect(cumulative[token]).toBeGreaterThan(u - tolerance);
      expect(cumulative[token] - probabilities[token]).toBeLessThan(u + tolerance);
      expect(Math.abs(logProbs[i] - Math.log(probabilities[token]))).toBeLessThan(1e-5);
    });
  });

  it('takes the most likely token at temperature 0, the first of equals, with log-prob 0', async () => {
    const sample = await sampler;
    const logits = randomLogits(vocabulary, 4);
    const best = Math.floor(vocabulary / 3);
    logits[best] = 9;
    logits[vocabulary - 1] = 9;
    const { tokens, log_probs: logProbs } = await sample(logits, [0, 0.5, LAST], 0);
    expect(tokens).toEqual([best, best, best]);
    expect(logProbs).toEqual([0, 0, 0]);
  });

  it('never takes a token of probability 0', async () => {
    const sample = await sampler;
    // Mass on few tokens, none on the first or the last of the vocabulary, nor in most blocks.
    const likely = [Math.floor(vocabulary / 2), Math.floor((vocabulary * 3) / 4)];
    const random = new Random(0, 'uniforms');
    const uniforms = [0, 2 ** -24, LAST, ...Array.from({ length: 500 }, () => random.float())];
    for (const nothing of [-1000, Number.NEGATIVE_INFINITY]) {
      const logits = Array<number>(vocabulary).fill(nothing);
      for (const token of likely) logits[token] = 1;
      const { tokens, log_probs: logProbs } = await sample(logits, uniforms.map(Math.fround), 1);
      expect(new Set(tokens)).toEqual(new Set(likely));
      const expected = -Math.log(new Set(likely).size);
      for (const value of logProbs) expect(value).toBeCloseTo(expected, 6);
    }
  });

  it('takes the first token at uniform 0, and the last just below 1', async () => {
    const sample = await sampler;
    const { tokens } = await sample(Array<number>(vocabulary).fill(0), [0, LAST], 1);
    expect(tokens).toEqual([0, vocabulary - 1]);
  });
});
