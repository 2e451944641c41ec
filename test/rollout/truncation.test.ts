import { afterAll, beforeAll, expect, test } from 'vitest';
import { RolloutEngine, type RolloutOptions, type Sampling, type Thought } from '../../src/rollout/index.ts';
import { chiSquareDeviate, samplingDistribution } from '../fixtures/distribution.ts';
import { randomWeights, rolloutGraphs, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { allThoughts, collect, OPEN, OPTIONS, randomDocuments } from './fixture.ts';
import { Reference } from './reference.ts';

const WEIGHTS = randomWeights(TINY_MODEL, 3, 1.5);
const [DOCUMENT] = randomDocuments(TINY_MODEL.vocabSize, [20], () => [10]);
const CUTS: readonly Sampling[] = [
  { temperature: 1, topK: 5 },
  { temperature: 1.2, topP: 0.7 },
  { temperature: 1, minP: 0.2 },
  { temperature: 1.5, topK: 20, topP: 0.9, minP: 0.1 },
];

let engine: RolloutEngine;
let reference: Reference;
beforeAll(async () => {
  engine = await RolloutEngine.create(rolloutGraphs(TINY_MODEL, WEIGHTS));
  reference = await Reference.create(TINY_MODEL, WEIGHTS);
});
afterAll(() => {
  engine.dispose();
  reference[Symbol.dispose]();
});

const thoughtsOf = async (change: Partial<RolloutOptions>): Promise<Thought[]> =>
  allThoughts(await collect(engine, [DOCUMENT], { ...OPTIONS, ...change }));

test.each(CUTS)('first tokens follow the distribution of %j', async (sampling) => {
  const thoughts = await thoughtsOf({ ...sampling, groupSize: 3000, rowsPerDocument: 500, maxThoughtTokens: 1 });
  const table = await reference.logProbs([...Array.from(DOCUMENT.tokens).slice(0, 10), OPEN]);
  const tokens = thoughts.map((thought) => thought.tokens[0]);
  expect(Math.abs(chiSquareDeviate(tokens, samplingDistribution(table[10], sampling)))).toBeLessThan(3.5);
  const uncut = samplingDistribution(table[10], { temperature: sampling.temperature });
  expect(chiSquareDeviate(tokens, uncut)).toBeGreaterThan(5);
});

test.each(CUTS)('the same rows for any batching under %j', async (sampling) => {
  const documents = randomDocuments(TINY_MODEL.vocabSize, [20, 70, 9, 33], (length) => [length - 1, 4]);
  const rowsOf = async (change: Partial<RolloutOptions>) =>
    allThoughts(await collect(engine, documents, { ...OPTIONS, ...sampling, maxThoughtTokens: 20, ...change }));
  const expected = await rowsOf({});
  for (const change of [
    { documentsPerBatch: 1, rowsPerDocument: 1 },
    { documentsPerBatch: 3, rowsPerDocument: 5, prefillChunk: 7 },
    { documentsPerBatch: 4, rowsPerDocument: Number.POSITIVE_INFINITY },
  ]) {
    const thoughts = await rowsOf(change);
    expect(thoughts.map(({ tokens }) => tokens)).toEqual(expected.map(({ tokens }) => tokens));
    for (const [i, { logProbs, samplingLogProbs, reasonedLogProbs }] of thoughts.entries()) {
      const differences = [
        ...logProbs.map((logProb, n) => logProb - expected[i].logProbs[n]),
        ...samplingLogProbs.map((logProb, n) => logProb - expected[i].samplingLogProbs[n]),
        reasonedLogProbs[0] - expected[i].reasonedLogProbs[0],
      ];
      expect(Math.max(...differences.map(Math.abs))).toBeLessThan(1e-5);
    }
  }
});

test.each(CUTS)('both log-probs of every token under %j', async (sampling) => {
  for (const thought of await thoughtsOf({ ...sampling, groupSize: 6 })) {
    const { written } = await reference.thought(DOCUMENT.tokens, thought, OPTIONS);
    thought.tokens.forEach((token, i) => {
      const drawn = Math.log(samplingDistribution(written[i], sampling)[token]);
      expect(Math.abs(thought.samplingLogProbs[i] - drawn)).toBeLessThan(1e-5);
      expect(Math.abs(thought.logProbs[i] - written[i][token])).toBeLessThan(1e-5);
    });
  }
});

test('a cut that leaves one token writes what greedy writes', async () => {
  const greedy = await thoughtsOf({ temperature: 0 });
  for (const cut of [{ topK: 1 }, { topP: 1e-6 }, { minP: 1 }]) {
    const thoughts = await thoughtsOf({ temperature: 1, ...cut });
    expect(thoughts.map(({ tokens }) => tokens)).toEqual(greedy.map(({ tokens }) => tokens));
  }
  expect(await thoughtsOf({ temperature: 0, topK: 3, topP: 0.5, minP: 0.2 })).toEqual(greedy);
});

test('what is off by its value is off', async () => {
  expect(await thoughtsOf({ topK: 0, topP: 1, minP: 0 })).toEqual(await thoughtsOf({}));
});

test.each([
  [{ topK: -1 }, 'rollout option topK is -1: expected an integer of at least 0 (0 keeps all tokens)'],
  [{ topK: 2.5 }, 'rollout option topK is 2.5'],
  [{ topP: 0 }, 'rollout option topP is 0: expected a number above 0 and at most 1 (1 keeps all tokens)'],
  [{ topP: Number.NaN }, 'rollout option topP is NaN'],
  [{ minP: 1.1 }, 'rollout option minP is 1.1: expected a number from 0 to 1 (0 keeps all tokens)'],
])('%j is refused', async (change, message) => {
  await expect(thoughtsOf(change)).rejects.toThrow(message);
});

test('a graph without truncation writes the same thoughts, and refuses to cut', async () => {
  using plain = await RolloutEngine.create(rolloutGraphs(TINY_MODEL, WEIGHTS, { truncation: false }));
  const thoughts = async (from: RolloutEngine) => allThoughts(await collect(from, [DOCUMENT], OPTIONS));
  expect(await thoughts(plain)).toEqual(await thoughts(engine));
  await expect(collect(plain, [DOCUMENT], { ...OPTIONS, topP: 0.9 })).rejects.toThrow('built with truncation: false');
});
