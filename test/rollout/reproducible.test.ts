import { afterAll, beforeAll, expect, test } from 'vitest';
import { thoughtStream, type UniformStream } from '../../src/random.ts';
import { type DocumentRollouts, RolloutEngine, type RolloutOptions, type Thought } from '../../src/rollout/index.ts';
import { constantWeights, randomWeights, rolloutGraphs, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { allThoughts, collect, OPTIONS, randomDocuments } from './fixture.ts';
import { Reference, temper } from './reference.ts';

const TOLERANCE = 1e-5;
const weights = randomWeights(TINY_MODEL);
const graphs = rolloutGraphs(TINY_MODEL, weights);
const documents = randomDocuments(TINY_MODEL.vocabSize, [30, 9, 150, 64, 65, 12, 200, 40], (length) => [
  length - 2,
  Math.ceil(length / 3),
]);
const options: RolloutOptions = { ...OPTIONS, horizon: 2, temperature: 0.8, seed: 11, step: 3 };
const streamOf = (thought: Thought): UniformStream => thoughtStream({ ...options, ...thought });

let engine: RolloutEngine;
let reference: Reference;
let expected: Thought[];
beforeAll(async () => {
  engine = await RolloutEngine.create(graphs, { intraOpThreads: 1 });
  reference = await Reference.create(TINY_MODEL, weights);
  expected = allThoughts(await collect(engine, documents, options));
});
afterAll(() => {
  engine.dispose();
  reference[Symbol.dispose]();
});

/** Distance of a uniform from the nearest step of the CDF from which a thought's token was drawn. */
async function distanceFromBoundary(thought: Thought, index: number, uniform: number): Promise<number> {
  const document = documents.find(({ id }) => id === thought.document);
  const { written } = await reference.thought(document?.tokens ?? [], thought, options);
  let sum = 0;
  const boundaries = temper(written[index], options.temperature).map((logProb) => {
    sum += Math.exp(logProb);
    return sum;
  });
  return Math.min(...boundaries.map((boundary) => Math.abs(boundary - uniform)));
}

/** The same tokens, and log-probs up to rounding; tokens may part only where rounding decides. Returns how many thoughts did. */
async function expectSame(actual: readonly Thought[], others = expected): Promise<number> {
  expect(actual.length).toBe(others.length);
  let parted = 0;
  for (const [i, thought] of actual.entries()) {
    const other = others[i];
    expect([thought.document, thought.position, thought.rollout]).toEqual([
      other.document,
      other.position,
      other.rollout,
    ]);
    const length = thought.tokens.findIndex((token, n) => token !== other.tokens[n]);
    const same = length < 0 ? thought.tokens.length : length;
    const near = (name: 'logProbs' | 'samplingLogProbs' | 'reasonedLogProbs', n: number) =>
      expect(Math.abs(thought[name][n] - other[name][n])).toBeLessThan(TOLERANCE);
    for (let n = 0; n < same; n++) {
      near('logProbs', n);
      near('samplingLogProbs', n);
    }
    if (length >= 0) {
      parted++;
      expect(await distanceFromBoundary(thought, length, streamOf(thought)(length))).toBeLessThan(TOLERANCE);
      continue;
    }
    expect(thought.tokens.length).toBe(other.tokens.length);
    expect(thought.finishReason).toBe(other.finishReason);
    near('reasonedLogProbs', 0);
    near('reasonedLogProbs', 1);
  }
  return parted;
}

test('once more: the very same rows', async () => {
  expect(allThoughts(await collect(engine, documents, options))).toEqual(expected);
});

test.each<[string, Partial<RolloutOptions>]>([
  ['one document at a time', { documentsPerBatch: 1 }],
  ['three documents', { documentsPerBatch: 3 }],
  ['all documents', { documentsPerBatch: 8 }],
  ['one row', { rowsPerDocument: 1 }],
  ['five rows', { rowsPerDocument: 5, documentsPerBatch: 3 }],
  ['no row waits', { rowsPerDocument: Number.POSITIVE_INFINITY }],
  ['prefill token by token', { prefillChunk: 1 }],
  ['prefill in sevens', { prefillChunk: 7 }],
])('the same rows: %s', async (_, change) => {
  expect(await expectSame(allThoughts(await collect(engine, documents, { ...options, ...change })))).toBe(0);
});

test('the same rows where caches are re-shaped and where they are not', async () => {
  // Closed by one token in 48: some thoughts are short, some have 150 tokens.
  const change = { ...options, groupSize: 6, maxThoughtTokens: 150, documentsPerBatch: 3, rowsPerDocument: 12 };
  using fixed = await RolloutEngine.create(graphs, { intraOpThreads: 1, device: { kind: 'mock' } });
  const others = allThoughts(await collect(fixed, documents, change));
  const before = engine.counts;
  expect(await expectSame(allThoughts(await collect(engine, documents, change)), others)).toBe(0);
  expect(engine.counts.rows - before.rows).toBe(fixed.counts.rows);
  expect(engine.counts.keys - before.keys).toBeLessThan(0.6 * fixed.counts.keys);
  expect(Math.max(...others.map(({ tokens }) => tokens.length))).toBeGreaterThan(100);
});

test('the same rows whatever the order of documents, and across an interruption', async () => {
  const order = [5, 2, 7, 0, 1, 6, 3, 4];
  const shuffled: DocumentRollouts[] = [
    ...(await collect(
      engine,
      order.slice(0, 3).map((i) => documents[i]),
      options,
    )),
    ...(await collect(
      engine,
      order.slice(3).map((i) => documents[i]),
      options,
    )),
  ];
  expect(shuffled.map(({ document }) => document)).toEqual(order.map((i) => documents[i]));
  const back = documents.map((_, i) => shuffled[order.indexOf(i)]);
  expect(await expectSame(allThoughts(back))).toBe(0);
});

test('the same rows on two threads and without graph optimization', async () => {
  using two = await RolloutEngine.create(graphs, { intraOpThreads: 2 });
  expect(await expectSame(allThoughts(await collect(two, documents, options)))).toBe(0);
  using plain = await RolloutEngine.create(graphs, { intraOpThreads: 1, optimizationLevel: 'disable' });
  expect(await expectSame(allThoughts(await collect(plain, documents, options)))).toBe(0);
});

test('more thoughts of a group leave the others as they are', async () => {
  const more = allThoughts(await collect(engine, documents, { ...options, groupSize: 5 }));
  expect(await expectSame(more.filter(({ rollout }) => rollout < 3))).toBe(0);
});

test('another seed, step or rollout gives other thoughts', async () => {
  const tokens = (thoughts: readonly Thought[]) => thoughts.map((thought) => thought.tokens.join(' '));
  for (const change of [{ seed: 12 }, { step: 4 }]) {
    const other = tokens(allThoughts(await collect(engine, documents, { ...options, ...change })));
    const equal = tokens(expected).filter((text, i) => text === other[i]);
    expect(equal.length).toBeLessThan(expected.length / 4);
  }
  const texts = tokens(expected);
  expect(new Set(texts).size).toBeGreaterThan(texts.length * 0.9);
});

test('a prompt before the text leaves the random numbers as they are', async () => {
  // Every token is as likely as the others, so that the uniform alone says which is sampled.
  using uniform = await RolloutEngine.create(rolloutGraphs(TINY_MODEL, constantWeights(TINY_MODEL, 0)));
  const prompted = documents.map((document) => ({
    ...document,
    tokens: [7, 8, 9, ...Array.from(document.tokens)],
    positions: document.positions.map((position) => position + 3),
    promptTokens: 3,
  }));
  const thoughts = allThoughts(await collect(uniform, prompted, options));
  for (const thought of thoughts) {
    const stream = thoughtStream({ ...options, ...thought, position: thought.position - 3 });
    expect(thought.tokens).toEqual(thought.tokens.map((_, i) => Math.floor(stream(i) * TINY_MODEL.vocabSize)));
  }
  const unprompted = allThoughts(await collect(uniform, documents, options));
  expect(thoughts.map(({ tokens }) => tokens)).toEqual(unprompted.map(({ tokens }) => tokens));
  const within = collect(uniform, [{ ...prompted[0], positions: [2] }], options);
  await expect(within).rejects.toThrow('position 2 is outside 3 .. 31');
});

test('where a uniform lies on a step of the CDF, rounding chooses between the two tokens beside it', async () => {
  const [thought] = expected;
  const { written } = await reference.thought(documents[0].tokens, thought, options);
  const probabilities = temper(written[0], options.temperature).map(Math.exp);
  for (let token = 0; token + 1 < probabilities.length; token += 5) {
    const boundary = probabilities.slice(0, token + 1).reduce((a, b) => a + b, 0);
    for (const [shift, possible] of [
      [0, [token, token + 1]],
      [-TOLERANCE, [token]],
      [TOLERANCE, [token + 1]],
    ] as const) {
      const rollouts = await collect(engine, documents.slice(0, 1), {
        ...options,
        groupSize: 1,
        maxThoughtTokens: 1,
        noise: () => () => boundary + shift,
      });
      expect(possible).toContain(rollouts[0].thoughts[0].tokens[0]);
    }
  }
});
