import { afterAll, beforeAll, expect, test } from 'vitest';
import { UserError } from '../../src/errors.ts';
import {
  RolloutBuffers,
  type RolloutDocument,
  RolloutEngine,
  RolloutModel,
  type RolloutOptions,
  type Thought,
} from '../../src/rollout/index.ts';
import { constantWeights, randomWeights, rolloutGraphs, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { allThoughts, CLOSE, collect, OPTIONS, randomDocuments } from './fixture.ts';

const graphs = rolloutGraphs(TINY_MODEL, randomWeights(TINY_MODEL));
let engine: RolloutEngine;
/** Of a model whose every token is as likely as the others, so that the noise says what is sampled. */
let uniform: RolloutEngine;
beforeAll(async () => {
  engine = await RolloutEngine.create(graphs, { intraOpThreads: 1 });
  uniform = await RolloutEngine.create(rolloutGraphs(TINY_MODEL, constantWeights(TINY_MODEL, 0)));
});
afterAll(() => {
  engine.dispose();
  uniform.dispose();
});

/** Counts of the engine for one call. */
async function counted(documents: readonly RolloutDocument[], change: Partial<RolloutOptions>, of = engine) {
  const before = of.counts;
  const rollouts = await collect(of, documents, { ...OPTIONS, ...change });
  const after = of.counts;
  return {
    rollouts,
    fed: rollouts.flatMap(({ thoughts }) =>
      thoughts.map(({ tokens, targets, finishReason }) => {
        const forced = finishReason === 'closed' ? 0 : [change.close ?? OPTIONS.close].flat().length;
        return 1 + tokens.length + forced + targets.length - 1;
      }),
    ),
    prefilled: after.prefilled - before.prefilled,
    steps: after.steps - before.steps,
    rows: after.rows - before.rows,
    slots: after.slots - before.slots,
    keys: after.keys - before.keys,
  };
}

const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);

test('every token is fed once and every trunk is prefilled once, however many thoughts follow it', async () => {
  const documents = randomDocuments(TINY_MODEL.vocabSize, [20, 90, 33], (length) => [1, 5, length - 1]);
  const { fed, rows, prefilled } = await counted(documents, { groupSize: 4 });
  expect(fed.length).toBe(3 * 3 * 4);
  expect(rows).toBe(sum(fed));
  expect(prefilled).toBe(19 + 89 + 32);
});

test('a row that ends leaves its slot to the next: no slot idles while rows wait', async () => {
  const documents = randomDocuments(TINY_MODEL.vocabSize, [30], () => [3, 9, 20]);
  const { fed, steps } = await counted(documents, { groupSize: 4, rowsPerDocument: 3, maxThoughtTokens: 40 });
  // List scheduling of 12 rows on 3 slots, each row taken by the slot that is free first.
  const slots = [0, 0, 0];
  for (const length of fed) {
    const first = slots.indexOf(Math.min(...slots));
    slots[first] += length;
  }
  expect(steps).toBe(Math.max(...slots));
});

test('a document that ends leaves its place to the next', async () => {
  const documents = randomDocuments(TINY_MODEL.vocabSize, [30, 12, 55, 40, 60, 21, 8, 35], (length) => [length - 1]);
  const { fed, steps } = await counted(documents, { groupSize: 2, documentsPerBatch: 3, maxThoughtTokens: 40 });
  const lengths = documents.map((_, i) => Math.max(fed[2 * i], fed[2 * i + 1]));
  const places = [0, 0, 0];
  for (const length of lengths) {
    const first = places.indexOf(Math.min(...places));
    places[first] += length;
  }
  expect(steps).toBe(Math.max(...places));
});

test('documents come in the order given, each once, from any kind of source', async () => {
  const documents = randomDocuments(TINY_MODEL.vocabSize, [9, 200, 12, 30, 7, 300, 8, 64, 65, 66], (length) => [
    length - 1,
    1,
  ]);
  async function* stream() {
    for (const document of documents) {
      await new Promise((resolve) => setImmediate(resolve));
      yield document;
    }
  }
  for (const documentsPerBatch of [1, 4, 100]) {
    const rollouts = await collect(engine, stream(), { ...OPTIONS, documentsPerBatch });
    expect(rollouts.map(({ document }) => document)).toEqual(documents);
    for (const { document, thoughts } of rollouts) {
      expect(thoughts.map(({ position, rollout }) => [position, rollout])).toEqual(
        [document.tokens.length - 1, 1].flatMap((position) => [0, 1, 2].map((rollout) => [position, rollout])),
      );
    }
  }
  expect(await collect(engine, [], OPTIONS)).toEqual([]);
});

test('a result does not wait for documents after it', async () => {
  const documents = randomDocuments(TINY_MODEL.vocabSize, [10, 10, 10, 10], () => [5]);
  let pulled = 0;
  function* source() {
    for (const document of documents) {
      pulled++;
      yield document;
    }
  }
  const rollouts = engine.generate(source(), { ...OPTIONS, documentsPerBatch: 1 });
  for (let i = 1; i <= 4; i++) {
    const { value } = await rollouts.next();
    expect(value?.document).toBe(documents[i - 1]);
    expect(pulled).toBeLessThanOrEqual(i + 1);
  }
  await rollouts.return(undefined);
});

test('the trunk cache does not grow with positions or group size; caches change with what they hold', async () => {
  using model = await RolloutModel.create(graphs, { intraOpThreads: 1 });
  const { numLayers, numKvHeads, headDim } = TINY_MODEL;
  const bytesPerToken = numLayers * 2 * numKvHeads * headDim * 4;
  for (const rowsPerDocument of [1, 16, 64]) {
    const shape = { documents: 2, rowsPerDocument, trunkCapacity: 128, branchCapacity: 32 };
    using buffers = new RolloutBuffers(model, shape, { temperature: 1 });
    for (const [trunkCapacity, branchCapacity] of [
      [128, 32],
      [128, 64],
      [64, 64],
      [192, 32],
    ]) {
      await buffers.reshape({ ...shape, trunkCapacity, branchCapacity }, [{ document: 1, rows: [0] }]);
      expect(buffers.cacheBytes).toEqual({
        trunk: 2 * trunkCapacity * bytesPerToken,
        branch: 2 * rowsPerDocument * branchCapacity * bytesPerToken,
      });
    }
  }
});

/** Keys that the tokens of some thoughts see: those before them in the document and in the branch. */
const keysSeen = (thoughts: readonly Thought[]) =>
  sum(thoughts.map(({ position, tokens }) => (tokens.length + 2) * (position + (tokens.length + 3) / 2)));

test('few slots are dead where thoughts are of very different lengths', async () => {
  // One thought of a group writes 150 tokens, the others 4.
  const documents = randomDocuments(TINY_MODEL.vocabSize, [40, 50, 60, 30, 45, 55], () => [20]);
  const noise: RolloutOptions['noise'] =
    ({ rollout }) =>
    (index) =>
      index === (rollout === 0 ? 149 : 3) ? (CLOSE + 0.5) / TINY_MODEL.vocabSize : 0.9;
  const options = { groupSize: 16, rowsPerDocument: 16, documentsPerBatch: 3, maxThoughtTokens: 200, noise };
  const { rollouts, rows, slots, keys } = await counted(documents, options, uniform);
  expect(rollouts.map(({ thoughts }) => thoughts.map(({ tokens }) => tokens.length))).toEqual(
    documents.map(() => [150, ...Array(15).fill(4)]),
  );
  // Without re-shaping 16 slots a document are kept for 152 steps: 11 times the rows.
  expect(slots).toBeLessThan(2 * rows);
  expect(keys).toBeLessThan(2.5 * keysSeen(allThoughts(rollouts)));
});

test.each([
  ['re-shaped', 'cpu'],
  ['of fixed shape', 'mock'],
] as const)('short documents after a long one do not attend over its capacity: caches %s', async (_, kind) => {
  using one = await RolloutEngine.create(graphs, { intraOpThreads: 1, device: { kind } });
  const lengths = [480, ...Array.from({ length: 40 }, (_, i) => 10 + (i % 30))];
  const documents = randomDocuments(TINY_MODEL.vocabSize, lengths, (length) => [length - 2]);
  const { slots, keys } = await counted(documents, { documentsPerBatch: 4 }, one);
  // 64 + 14 keys a slot, and 512 + 14 beside the long document.
  expect(keys / slots).toBeGreaterThan(64 + 14);
  expect(keys / slots).toBeLessThan(200);
});

test('documents of ascending lengths keep all places filled', async () => {
  const lengths = Array.from({ length: 24 }, (_, i) => 10 + 20 * i);
  const documents = randomDocuments(TINY_MODEL.vocabSize, lengths, (length) => [length - 2]);
  const options = { groupSize: 2, documentsPerBatch: 4, maxThoughtTokens: 9, noise: () => () => 0.9 };
  const { fed, steps } = await counted(documents, options, uniform);
  expect(fed).toEqual(Array(48).fill(11)); // delimiters and 9 tokens
  expect(steps).toBe((24 / 4) * 11);
});

test.each<[string, Partial<RolloutDocument>, string]>([
  ['before the first token', { positions: [0] }, 'document d: position 0 is outside 1 .. 8 (10 tokens, horizon 2)'],
  ['too late for the horizon', { positions: [9] }, 'position 9 is outside 1 .. 8'],
  ['not an index', { positions: [1.5] }, 'position 1.5 is outside'],
  ['twice', { positions: [4, 4] }, 'a position is given twice among 4, 4'],
  ['none', { positions: [] }, 'document d: no position to think before'],
])('a position %s is the user’s to mend', async (_, change, message) => {
  const document = { id: 'd', tokens: Array.from({ length: 10 }, () => 5), positions: [1], ...change };
  const run = collect(engine, [document], { ...OPTIONS, horizon: 2 });
  await expect(run).rejects.toThrow(UserError);
  await expect(run).rejects.toThrow(message);
});

test('token ids beyond the vocabulary and documents beyond the positions are named', async () => {
  const tokens = Array.from({ length: 600 }, () => 5);
  const refusal = (document: Partial<RolloutDocument>, change = {}) =>
    collect(engine, [{ id: 'd', tokens, positions: [1], ...document }], { ...OPTIONS, ...change }).then(
      () => 'nothing thrown',
      (error) => (error instanceof UserError ? error.message : `not a UserError: ${error}`),
    );
  const foreign = "the model's ids go from 0 to 47: was it tokenized for another model?";
  expect(await refusal({ tokens: [5, 48, 5] })).toBe(`document d: token 1 is 48, ${foreign}`);
  expect(await refusal({ tokens: [5, 5, -1] })).toBe(`document d: token 2 is -1, ${foreign}`);
  // 512 positions; the opening delimiter, 12 tokens, the closing delimiter.
  expect(await refusal({ positions: [3, 498] })).toBe('nothing thrown');
  expect(await refusal({ positions: [3, 499] })).toBe(
    'document d: 499 tokens before position 499 and up to 14 of a thought and its targets make 513, the model has 512 ' +
      'positions: choose earlier positions, shorten the document from the front, or lower maxThoughtTokens or horizon',
  );
  expect(await refusal({ positions: [480] }, { horizon: 20 })).toContain('make 513');
  expect(await refusal({}, { close: 48 })).toBe('rollout option close is 48: expected a token id from 0 to 47');
  expect(await refusal({}, { endOfText: [3, 99] })).toContain('endOfText is 99');
});

test.each([
  [{ groupSize: 0 }, 'rollout option groupSize is 0: expected an integer of at least 1'],
  [{ rowsPerDocument: 1.5 }, 'rowsPerDocument is 1.5'],
  [{ documentsPerBatch: Number.POSITIVE_INFINITY }, 'documentsPerBatch is Infinity'],
  [{ maxThoughtTokens: 0 }, 'maxThoughtTokens is 0'],
  [{ prefillChunk: 0 }, 'prefillChunk is 0'],
  [{ temperature: -1 }, 'temperature is -1: expected a number of at least 0 (0 is greedy)'],
  [{ temperature: Number.NaN }, 'temperature is NaN'],
])('options %o are refused', async (change, message) => {
  const run = collect(engine, [], { ...OPTIONS, ...change });
  await expect(run).rejects.toThrow(UserError);
  await expect(run).rejects.toThrow(message);
});

test('the event loop turns at least once for every step of the model', async () => {
  let turns = 0;
  let turning = true;
  const turn = () => {
    turns++;
    if (turning) setImmediate(turn);
  };
  setImmediate(turn);
  const documents = randomDocuments(TINY_MODEL.vocabSize, [400, 400], () => [390]);
  const { steps } = await counted(documents, { close: CLOSE, maxThoughtTokens: 30 });
  turning = false;
  expect(steps).toBeGreaterThan(10);
  expect(turns).toBeGreaterThan(steps);
});

test('an aborted signal stops between two steps with its reason', async () => {
  const abort = new AbortController();
  const documents = randomDocuments(TINY_MODEL.vocabSize, [30, 30], () => [20]);
  const before = engine.counts.steps;
  const noise = () => (index: number) => {
    if (index === 3) abort.abort(new Error('enough'));
    return 0.5;
  };
  const options = { ...OPTIONS, groupSize: 1, close: CLOSE, endOfText: [], maxThoughtTokens: 30 };
  await expect(collect(engine, documents, { ...options, noise, signal: abort.signal })).rejects.toThrow('enough');
  expect(engine.counts.steps - before).toBe(4);
});
