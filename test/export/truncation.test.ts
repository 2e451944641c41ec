import { describe, expect, it, test } from 'vitest';
import { Random } from '../../src/random.ts';
import type { Sampling } from '../../src/rollout/index.ts';
import { chiSquareDeviate, samplingDistribution, softmax } from '../fixtures/distribution.ts';
import { floats, readGolden, readGoldenJson } from '../golden/golden.ts';
import { evenly, expectInverseCdf, LAST, middles, openSampler, randomLogits } from './sampler.ts';

interface GoldenSampling {
  cases: { temperature: number; top_k: number; top_p: number; min_p: number }[];
  vocabularies: number[];
}

const OPTIONS: readonly (readonly [name: string, sampling: Sampling])[] = [
  ['top-k', { temperature: 1, topK: 7 }],
  ['top-p', { temperature: 1, topP: 0.8 }],
  ['min-p', { temperature: 1, minP: 0.1 }],
  ['top-k and top-p', { temperature: 1.3, topK: 50, topP: 0.6 }],
  ['top-k and min-p', { temperature: 0.7, topK: 9, minP: 0.3 }],
  ['top-p and min-p', { temperature: 2, topP: 0.97, minP: 0.02 }],
  ['all of them', { temperature: 0.8, topK: 40, topP: 0.9, minP: 0.05 }],
];

describe('as cut by transformers', () => {
  const { cases, vocabularies } = readGoldenJson<GoldenSampling>('sampling/sampling');
  const tensors = readGolden('sampling/sampling');
  for (const vocabulary of vocabularies) {
    const sampler = openSampler(vocabulary);
    const logits = floats(tensors, `logits.${vocabulary}`);
    cases.forEach(({ temperature, top_k: topK, top_p: topP, min_p: minP }, i) => {
      const sampling = { temperature, topK, topP, minP };
      test.each([
        ['', () => sampler],
        [', a graph for these cuts alone', () => openSampler(vocabulary, { topK, topP, minP })],
      ])(`${vocabulary} tokens, ${JSON.stringify(sampling)}%s`, async (_, open) => {
        const logProbs = floats(tensors, `log_probs.${vocabulary}`).slice(i * vocabulary, (i + 1) * vocabulary);
        const probabilities = Array.from(logProbs, Math.exp);
        const { uniforms, tokens } = middles(probabilities);
        const draws = await (await open())(logits, uniforms, sampling);
        expect(draws.tokens).toEqual(tokens);
        expectInverseCdf(draws, uniforms, probabilities);
        samplingDistribution(logits, sampling).forEach((p, token) => {
          expect(Math.abs(p - probabilities[token])).toBeLessThan(1e-7); // the plain reference of the other tests is right
        });
      });
    });
  }
});

describe.each([1, 2, 101, 264, 4096])('a vocabulary of %i', (vocabulary) => {
  const sampler = openSampler(vocabulary);
  const logits = randomLogits(vocabulary, 4);

  it.each(OPTIONS)('%s: inverts the CDF of what is left', async (_, sampling) => {
    const probabilities = samplingDistribution(logits, sampling);
    const uniforms = [...evenly(500), ...middles(probabilities).uniforms.slice(0, 500)];
    const draws = await (await sampler)(logits, uniforms, sampling);
    expectInverseCdf(draws, uniforms, probabilities);
    const atOne = softmax(logits, 1).map(Math.log);
    draws.logProbs.forEach((value, i) => {
      expect(Math.abs(value - atOne[draws.tokens[i]])).toBeLessThan(1e-5);
    });
  });

  it.each(OPTIONS)('%s: uniforms at both ends take the first and the last token kept', async (_, sampling) => {
    const probabilities = samplingDistribution(logits, sampling);
    const { tokens } = await (await sampler)(logits, [0, LAST], sampling);
    const kept = probabilities.flatMap((p, token) => (p > 0 ? [token] : []));
    expect(tokens).toEqual([kept[0], kept.at(-1)]);
  });

  it.each([{ topK: 1 }, { topP: 1e-6 }, { minP: 1 }])('%j leaves the likeliest token', async (cut) => {
    const { tokens, samplingLogProbs } = await (await sampler)(logits, [0, 0.5, LAST], { temperature: 1, ...cut });
    const best = logits.indexOf(Math.max(...logits));
    expect(tokens).toEqual([best, best, best]);
    for (const value of samplingLogProbs) expect(value).toBeCloseTo(0, 6);
  });

  it('greedy takes no notice', async () => {
    const best = logits.indexOf(Math.max(...logits));
    for (const cut of [{ topK: 3 }, { topP: 0.5 }, { minP: 0.5 }, { topK: 2, topP: 0.9, minP: 0.1 }]) {
      const { tokens, samplingLogProbs } = await (await sampler)(logits, [0, LAST], { temperature: 0, ...cut });
      expect(tokens).toEqual([best, best]);
      expect(samplingLogProbs).toEqual([0, 0]);
    }
  });

  it.each([{ topK: 4096 }, { topK: 1e9 }, { topP: LAST }, { minP: 1e-30 }])('%j keeps all', async (cut) => {
    const uniforms = evenly(500);
    const draws = await (await sampler)(logits, uniforms, { temperature: 1, ...cut });
    expectInverseCdf(draws, uniforms, softmax(logits, 1));
  });

  it('equal tokens stay together', async () => {
    const flat = Array<number>(vocabulary).fill(1.5);
    for (const cut of [{ topK: 1 }, { topP: 0.3 }, { minP: 1 }]) {
      const { tokens, samplingLogProbs } = await (await sampler)(flat, [0, LAST], { temperature: 0.9, ...cut });
      expect(tokens).toEqual([0, vocabulary - 1]);
      for (const value of samplingLogProbs) expect(value).toBeCloseTo(-Math.log(vocabulary), 5);
    }
  });
});

test.each([
  ['top-k within a tie keeps all of it', { topK: 2 }, [1, 3, 5, 6]],
  ['top-k at the end of a tie', { topK: 4 }, [1, 3, 5, 6]],
  ['top-k behind a tie', { topK: 5 }, [0, 1, 3, 4, 5, 6]],
  ['top-p within a tie keeps all of it', { topP: 0.5 }, [1, 3, 5, 6]],
  ['top-p behind a tie', { topP: 0.85 }, [0, 1, 3, 4, 5, 6]],
  ['min-p at a tie keeps it', { minP: 0.5 }, [1, 3, 5, 6]],
  ['top-p of a tie that top-k cut keeps all of it', { topK: 2, topP: 0.99 }, [1, 3, 5, 6]],
])('%s', async (_, cut, kept) => {
  // Weights 1, 4, 0.5, 2, 1, 2, 2 of 12.5 and -infinity.
  const logits = [1, 4, 0.5, 2, 1, 2, 2, 0].map((weight) => Math.fround(Math.log(weight)));
  const sample = await openSampler(8);
  const { tokens } = await sample(logits, [...evenly(200), 0, LAST], { temperature: 1, ...cut });
  expect([...new Set(tokens)].sort((a, b) => a - b)).toEqual(kept);
});

test.each(OPTIONS)('%s: random uniforms, chi-square against what is left', async (_, sampling) => {
  const sample = await openSampler(264);
  const logits = randomLogits(264, 3);
  const random = new Random(6, 'uniforms');
  const uniforms = Array.from({ length: 10_000 }, () => random.float());
  const { tokens } = await sample(logits, uniforms, sampling);
  expect(Math.abs(chiSquareDeviate(tokens, samplingDistribution(logits, sampling)))).toBeLessThan(3.5);
  expect(chiSquareDeviate(tokens, softmax(logits, sampling.temperature))).toBeGreaterThan(5);
});

describe('top-p of more tokens than it sorts', () => {
  const vocabulary = 4096;
  const sampler = openSampler(vocabulary);

  it.each([0.5, 0.9, 0.999])('%d: peaked and flat rows in one batch', async (topP) => {
    const rows = [12, 0.3, 1, 40].map((spread, seed) => randomLogits(vocabulary, spread, seed));
    const uniforms = evenly(100);
    const rowOf = rows.flatMap((_, row) => uniforms.map(() => row));
    const sampling = { temperature: 1, topP };
    const repeated = rows.flatMap(() => uniforms);
    const draws = await (await sampler)(rows.flat(), repeated, sampling, rowOf);
    const counts = rows.map((logits, row) => {
      const probabilities = samplingDistribution(logits, sampling);
      const part = <T>(list: readonly T[]) => list.slice(row * uniforms.length, (row + 1) * uniforms.length);
      const own = { tokens: part(draws.tokens), samplingLogProbs: part(draws.samplingLogProbs) };
      expectInverseCdf(own, uniforms, probabilities);
      return probabilities.filter((p) => p > 0).length;
    });
    expect(Math.max(...counts)).toBeGreaterThan(256);
    expect(Math.min(...counts)).toBeLessThan(256);
  });

  it('keeps a tie beyond them whole', async () => {
    // 2,000 tokens of weight 2, 2,096 of weight 1: half of the mass ends among the first, 0.7 among the second.
    const logits = Array.from({ length: vocabulary }, (_, i) => (i < 2000 ? Math.fround(Math.log(2)) : 0));
    const uniforms = [0, 0.3, 0.6, LAST];
    for (const topP of [0.5, 0.7]) {
      const sampling = { temperature: 1, topP };
      const draws = await (await sampler)(logits, uniforms, sampling);
      expectInverseCdf(draws, uniforms, samplingDistribution(logits, sampling));
      expect(draws.tokens.at(-1)).toBe(topP === 0.5 ? 1999 : 4095);
    }
  });
});

test('the vocabulary of Qwen3, up to tokens at the edge of float32 sums', async () => {
  const vocabulary = 151_936;
  const sample = await openSampler(vocabulary);
  const rows = [14, 6].map((spread) => randomLogits(vocabulary, spread));
  const uniforms = evenly(8);
  for (const sampling of [
    { temperature: 0.7, topP: 0.95 },
    { temperature: 1, topK: 50, topP: 0.9, minP: 0.01 },
  ]) {
    const rowOf = rows.flatMap((_, row) => uniforms.map(() => row));
    const draws = await sample(rows.flat(), [...uniforms, ...uniforms], sampling, rowOf);
    rows.forEach((logits, row) => {
      const probabilities = samplingDistribution(logits, sampling);
      const part = <T>(list: readonly T[]) => list.slice(row * uniforms.length, (row + 1) * uniforms.length);
      const own = { tokens: part(draws.tokens), samplingLogProbs: part(draws.samplingLogProbs) };
      expectInverseCdf(own, uniforms, probabilities, 1e-4);
    });
  }
});

it.each([{ topK: 20 }, { topP: 0.9 }, { topP: 0.999 }, { minP: 0.1 }, { topK: 50, topP: 0.5, minP: 0.01 }])(
  'draws the same built for the CPU, for a device, and for these cuts alone: %o',
  async (options) => {
    const vocabulary = 1024;
    const logits = randomLogits(vocabulary, 1);
    const uniforms = evenly(500);
    const sampling = { temperature: 1, ...options };
    const drawn = await (await openSampler(vocabulary))(logits, uniforms, sampling);
    expect(await (await openSampler(vocabulary, true, false))(logits, uniforms, sampling)).toEqual(drawn);
    const fixed = await openSampler(vocabulary, { topK: 0, topP: 1, minP: 0, ...options });
    expect((await fixed(logits, uniforms, sampling)).tokens).toEqual(drawn.tokens);
    const greedy = await fixed(logits, uniforms, { temperature: 0 });
    expect(new Set(greedy.tokens)).toEqual(new Set([logits.indexOf(Math.max(...logits))]));
    expect(new Set(Array.from(drawn.tokens)).size).toBeGreaterThan(5);
  },
);
