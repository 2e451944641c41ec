import { expect, test } from 'vitest';
import { loadWeights, openCheckpoint } from '../../src/export/checkpoint.ts';
import { RolloutEngine, type Thought } from '../../src/rollout/index.ts';
import { chiSquareDeviate } from '../fixtures/distribution.ts';
import { constantWeights, type HostWeights, randomWeights, rolloutGraphs, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { goldenPath } from '../golden/golden.ts';
import { allThoughts, CLOSE, collect, END_OF_TEXT, OPEN, OPTIONS, randomDocuments } from './fixture.ts';
import { argmax, Reference, temper } from './reference.ts';

const V = TINY_MODEL.vocabSize;
const [DOCUMENT] = randomDocuments(V, [20], () => [10]);

async function thoughtsOf(weights: HostWeights, change: Partial<typeof OPTIONS>): Promise<Thought[]> {
  using engine = await RolloutEngine.create(rolloutGraphs(TINY_MODEL, weights));
  return allThoughts(await collect(engine, [DOCUMENT], { ...OPTIONS, ...change }));
}

test('chi-square tells a wrong distribution from the right one', () => {
  const tokens = Array.from({ length: 3000 }, (_, i) => i % 3);
  expect(chiSquareDeviate(tokens, [1 / 3, 1 / 3, 1 / 3])).toBeLessThan(3);
  expect(chiSquareDeviate(tokens, [0.4, 0.3, 0.3])).toBeGreaterThan(4);
});

test('a model without weights finds every token equally likely', async () => {
  const thoughts = await thoughtsOf(constantWeights(TINY_MODEL, 0), {
    groupSize: 400,
    rowsPerDocument: 100,
    horizon: 2,
  });
  const uniform = -Math.log(V);
  for (const { logProbs, samplingLogProbs, reasonedLogProbs } of thoughts) {
    for (const value of [...logProbs, ...samplingLogProbs, ...reasonedLogProbs]) expect(value).toBeCloseTo(uniform, 5);
  }
  const probabilities = new Array<number>(V).fill(1 / V);
  const sampled = thoughts.flatMap(({ tokens }) => tokens);
  expect(Math.abs(chiSquareDeviate(sampled, probabilities))).toBeLessThan(3.5);
  expect(new Set(sampled).size).toBe(V);
  // A thought goes on with probability 46 / 48 a token: lengths are geometric, cut at 12.
  const stay = 1 - 2 / V;
  const lengths = thoughts.map(({ tokens }) => tokens.length - 1);
  const geometric = Array.from({ length: 12 }, (_, n) => (n < 11 ? stay ** n * (1 - stay) : stay ** 11));
  expect(Math.abs(chiSquareDeviate(lengths, geometric))).toBeLessThan(3.5);
});

test.each([1, 0.7, 2])('first tokens are distributed as the softmax at temperature %d', async (temperature) => {
  const weights = randomWeights(TINY_MODEL);
  using reference = await Reference.create(TINY_MODEL, weights);
  const thoughts = await thoughtsOf(weights, {
    temperature,
    groupSize: 6000,
    rowsPerDocument: 500,
    maxThoughtTokens: 1,
  });
  const table = await reference.logProbs([...Array.from(DOCUMENT.tokens).slice(0, 10), OPEN]);
  const probabilities = temper(table[10], temperature).map(Math.exp);
  const tokens = thoughts.map((thought) => thought.tokens[0]);
  expect(Math.abs(chiSquareDeviate(tokens, probabilities))).toBeLessThan(3.5);
  // The test has the power to tell temperatures apart.
  const wrong = temper(table[10], temperature * 1.25).map(Math.exp);
  expect(chiSquareDeviate(tokens, wrong)).toBeGreaterThan(5);
});

test('greedy thoughts follow the most likely token, and all of a group are one', async () => {
  const weights = randomWeights(TINY_MODEL, 5);
  using reference = await Reference.create(TINY_MODEL, weights);
  const thoughts = await thoughtsOf(weights, { temperature: 0 });
  const sequence = [...Array.from(DOCUMENT.tokens).slice(0, 10), OPEN];
  const chain: number[] = [];
  while (chain.length < OPTIONS.maxThoughtTokens && ![CLOSE, END_OF_TEXT].includes(chain.at(-1) ?? -1)) {
    const token = argmax((await reference.logProbs([...sequence, ...chain])).at(-1) ?? []);
    chain.push(token);
  }
  for (const { tokens } of thoughts) expect(tokens).toEqual(chain);
});

test.each(['tied-gqa', 'untied-mha', 'attention-bias'])(
  '%s: greedy and sampled thoughts of a golden checkpoint',
  async (name) => {
    const checkpoint = await openCheckpoint(goldenPath('checkpoints', name));
    const weights = await loadWeights(checkpoint);
    const { config } = checkpoint;
    using reference = await Reference.create(config, weights);
    using engine = await RolloutEngine.create(rolloutGraphs(config, weights), { intraOpThreads: 1 });
    const documents = randomDocuments(config.vocabSize, [14, 25], (length) => [3, length - 1]);
    for (const temperature of [0, 1]) {
      const rollouts = await collect(engine, documents, { ...OPTIONS, temperature, maxThoughtTokens: 8 });
      for (const { document, thoughts } of rollouts) {
        for (const thought of thoughts) {
          const { written, scored } = await reference.thought(document.tokens, thought, OPTIONS);
          thought.tokens.forEach((token, i) => {
            if (temperature === 0) expect(token).toBe(argmax(written[i]));
            expect(Math.abs(thought.logProbs[i] - written[i][token])).toBeLessThan(1e-5);
          });
          expect(Math.abs(thought.reasonedLogProbs[0] - scored[0][thought.targets[0]])).toBeLessThan(1e-5);
        }
      }
    }
  },
);
