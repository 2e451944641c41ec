import { expect, test } from 'vitest';
import { RunError, UserError } from '../../src/errors.ts';
import { RolloutEngine } from '../../src/rollout/index.ts';
import { type HostWeights, randomWeights, rolloutGraphs, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { collect, OPTIONS, randomDocuments } from './fixture.ts';

const weights = randomWeights(TINY_MODEL);
const graphs = rolloutGraphs(TINY_MODEL, weights);
/** Resident, without the heap of JavaScript. */
const megabytes = () => {
  const { rss, heapTotal } = process.memoryUsage();
  return (rss - heapTotal) / 2 ** 20;
};

// The engine refuses to go while caches of it are alive, so every `using engine` below also shows that none is left.

test('200 waves leave memory as it was', async () => {
  using engine = await RolloutEngine.create(graphs, { intraOpThreads: 1 });
  const documents = randomDocuments(TINY_MODEL.vocabSize, [500], () => [490]);
  const options = { ...OPTIONS, groupSize: 16, rowsPerDocument: 16, maxThoughtTokens: 8 };
  for (let i = 0; i < 40; i++) await collect(engine, documents, { ...options, seed: i });
  const before = megabytes();
  for (let i = 0; i < 200; i++) await collect(engine, documents, { ...options, seed: i });
  // The trunk caches alone take 130 kB a wave, the branch caches 100 kB: leaking either would cost 20 MB or more.
  expect(megabytes() - before).toBeLessThan(16);
});

test('stopping early frees the caches and closes the source', async () => {
  using engine = await RolloutEngine.create(graphs, { intraOpThreads: 1 });
  let closed = 0;
  function* source() {
    try {
      yield* randomDocuments(TINY_MODEL.vocabSize, [20, 30, 40, 50], () => [4]);
    } finally {
      closed++;
    }
  }
  for await (const { document } of engine.generate(source(), OPTIONS)) {
    expect(document.id).toBe('document-0');
    break;
  }
  expect(closed).toBe(1);
});

test('a source that fails fails the rollout, and frees the caches', async () => {
  using engine = await RolloutEngine.create(graphs, { intraOpThreads: 1 });
  async function* source() {
    yield* randomDocuments(TINY_MODEL.vocabSize, [20, 30], () => [4]);
    throw new UserError('the file changed while it was read');
  }
  await expect(collect(engine, source(), OPTIONS)).rejects.toThrow('the file changed while it was read');
});

test('log-probs that are not finite stop the rollout and name the row', async () => {
  const broken: HostWeights = new Map(
    [...weights].map(([name, { shape, data }]) => [
      name,
      { shape, data: name === 'model.norm.weight' ? new Float32Array(data.length).fill(Number.NaN) : data },
    ]),
  );
  using engine = await RolloutEngine.create(rolloutGraphs(TINY_MODEL, broken), { intraOpThreads: 1 });
  const run = collect(
    engine,
    randomDocuments(TINY_MODEL.vocabSize, [20], () => [4]),
    OPTIONS,
  );
  await expect(run).rejects.toThrow(RunError);
  await expect(run).rejects.toThrow(
    "the model's logits are not finite at token 0 of document document-0, position 4, rollout 0",
  );
});

test('a number that is not finite reaches only the rows that see it', async () => {
  // Token 40 has an embedding of NaN: only the second document contains it.
  const embedding = weights.get('model.embed_tokens.weight');
  if (embedding === undefined) throw new Error('no embedding');
  const data = embedding.data.slice();
  data[40 * TINY_MODEL.hiddenSize] = Number.NaN;
  const untied = { ...TINY_MODEL, tieWordEmbeddings: false };
  const all = randomWeights(untied);
  const broken: HostWeights = new Map([...all, ['model.embed_tokens.weight', { ...embedding, data }]]);
  using engine = await RolloutEngine.create(rolloutGraphs(untied, broken), { intraOpThreads: 1 });
  const documents = [5, 40].map((token) => ({ id: `of ${token}`, tokens: [6, token, 7, 8], positions: [2] }));
  const options = { ...OPTIONS, maxThoughtTokens: 1 };
  await expect(collect(engine, documents, options)).rejects.toThrow('document of 40, position 2, rollout 0');
});

test('graphs that are not ours are refused', async () => {
  const swapped = RolloutEngine.create({ ...graphs, prefill: graphs.step, step: graphs.prefill });
  await expect(swapped).rejects.toThrow(UserError);
  await expect(RolloutEngine.create({ ...graphs, step: graphs.prefill })).rejects.toThrow(
    'the step graph has no input row_slots: it was not written by this version of rlp-ort; export the model again',
  );
});
