import { describe, expect, it, test } from 'vitest';
import { Random } from '../../src/random.ts';
import { chiSquareDeviate, softmax } from '../fixtures/distribution.ts';
import { evenly, expectInverseCdf, LAST, openSampler, randomLogits } from './sampler.ts';

// A prime, whose only block is the whole; a few blocks; 64 blocks of 64.
const KINDS = [1, 2, 101, 264, 4096].flatMap((vocabulary) =>
  [true, false].map((truncation) => [vocabulary, truncation] as const),
);
describe.each(KINDS)('a vocabulary of %i, truncation in the graph: %s', (vocabulary, truncation) => {
  const sampler = openSampler(vocabulary, truncation);

  it.each([1, 0.7, 3])('inverts the CDF of the softmax at temperature %d', async (temperature) => {
    const logits = randomLogits(vocabulary, 4);
    const uniforms = evenly(vocabulary > 1000 ? 1000 : 2000);
    const draws = await (await sampler)(logits, uniforms, { temperature });
    expectInverseCdf(draws, uniforms, softmax(logits, temperature));
    const atOne = softmax(logits, 1).map(Math.log);
    draws.logProbs.forEach((value, i) => {
      expect(Math.abs(value - atOne[draws.tokens[i]])).toBeLessThan(1e-5);
    });
  });

  it('takes the most likely token at temperature 0, the first of equals, with log-prob 0', async () => {
    const logits = randomLogits(vocabulary, 4);
    const best = Math.floor(vocabulary / 3);
    logits[best] = 9;
    logits[vocabulary - 1] = 9;
    const { tokens, samplingLogProbs, logProbs } = await (await sampler)(logits, [0, 0.5, LAST], { temperature: 0 });
    expect(tokens).toEqual([best, best, best]);
    expect(samplingLogProbs).toEqual([0, 0, 0]);
    for (const value of logProbs) expect(value).toBeCloseTo(Math.log(softmax(logits, 1)[best]), 5);
  });

  it('never takes a token of probability 0', async () => {
    // Mass on few tokens, none on the first or the last of the vocabulary, nor in most blocks.
    const likely = [Math.floor(vocabulary / 2), Math.floor((vocabulary * 3) / 4)];
    const random = new Random(0, 'uniforms');
    const uniforms = [0, 2 ** -24, LAST, ...Array.from({ length: 500 }, () => random.float())];
    for (const nothing of [-1000, Number.NEGATIVE_INFINITY]) {
      const logits = Array<number>(vocabulary).fill(nothing);
      for (const token of likely) logits[token] = 1;
      const { tokens, samplingLogProbs, logProbs } = await (await sampler)(logits, uniforms, { temperature: 1 });
      expect(new Set(tokens)).toEqual(new Set(likely));
      const expected = -Math.log(new Set(likely).size);
      for (const value of [...samplingLogProbs, ...logProbs]) expect(value).toBeCloseTo(expected, 6);
    }
  });

  it('takes the first token at uniform 0, and the last just below 1', async () => {
    const { tokens } = await (await sampler)(Array<number>(vocabulary).fill(0), [0, LAST], { temperature: 1 });
    expect(tokens).toEqual([0, vocabulary - 1]);
  });

  it('log-probs are NaN where one logit is', async () => {
    const logits = randomLogits(vocabulary, 4);
    logits[Math.floor(vocabulary / 2)] = Number.NaN;
    const { tokens, logProbs } = await (await sampler)(logits, [0.3, 0.6], { temperature: 1 });
    expect(logProbs).toEqual([Number.NaN, Number.NaN]);
    for (const token of tokens) expect(token).toBeLessThan(vocabulary);
  });
});

test.each([
  ['large', 300],
  ['small', -300],
])('logits around %s numbers are no trouble', async (_, offset) => {
  const sample = await openSampler(264);
  const logits = randomLogits(264, 4).map((x) => Math.fround(x + offset));
  const draws = await sample(logits, evenly(500), { temperature: 1 });
  expectInverseCdf(draws, evenly(500), softmax(logits, 1));
  const exact = softmax(logits, 1).map(Math.log);
  draws.logProbs.forEach((value, i) => {
    expect(Math.abs(value - exact[draws.tokens[i]])).toBeLessThan(1e-6);
  });
});

test.each([0.5, 1, 2])('random uniforms: chi-square against the softmax at temperature %d', async (temperature) => {
  const sample = await openSampler(264);
  const logits = randomLogits(264, 3);
  const random = new Random(5, 'uniforms');
  const uniforms = Array.from({ length: 20_000 }, () => random.float());
  const { tokens } = await sample(logits, uniforms, { temperature });
  expect(Math.abs(chiSquareDeviate(tokens, softmax(logits, temperature)))).toBeLessThan(3.5);
  expect(chiSquareDeviate(tokens, softmax(logits, temperature * 1.25))).toBeGreaterThan(5);
});
