import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { RolloutEngine, type RolloutOptions, type Thought } from '../../src/rollout/index.ts';
import { randomWeights, rolloutGraphs, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { allThoughts, CLOSE, collect, END_OF_TEXT, OPEN, OPTIONS, randomDocuments } from './fixture.ts';
import { argmax, Reference, temper } from './reference.ts';

const TOLERANCE = 1e-5;
const weights = randomWeights(TINY_MODEL);
let engine: RolloutEngine;
let reference: Reference;
beforeAll(async () => {
  engine = await RolloutEngine.create(rolloutGraphs(TINY_MODEL, weights), { intraOpThreads: 1 });
  reference = await Reference.create(TINY_MODEL, weights);
});
afterAll(() => {
  engine.dispose();
  reference[Symbol.dispose]();
});

const close = (actual: number, expected: number) => expect(Math.abs(actual - expected)).toBeLessThan(TOLERANCE);
/** Prompts, completed at their end; one of a single token. */
const prompts = randomDocuments(TINY_MODEL.vocabSize, [1, 7, 40, 130], (length) => [length]);
const optionsOf = (thought: boolean, more: Partial<RolloutOptions> = {}): RolloutOptions => ({
  ...OPTIONS,
  ...{ documentsPerBatch: 4, rowsPerDocument: 9, groupSize: 9, maxThoughtTokens: 6 },
  completion: { thought, maxTokens: 5, stop: (tokens) => tokens.at(-1) === 9 },
  ...more,
});

/** Compares what was sampled with flat passes; returns how answers ended. */
async function check(thoughts: readonly Thought[], options: RolloutOptions): Promise<Set<string | undefined>> {
  const thinks = options.completion?.thought;
  for (const thought of thoughts) {
    const { answer, tokens, position } = thought;
    if (answer === undefined) throw new Error('no answer');
    const prompt = prompts.find(({ id }) => id === thought.document)?.tokens ?? [];
    const before = [...Array.from(prompt).slice(0, position), ...(thinks ? [OPEN] : [])];
    expect(answer.forced).toEqual(thinks && thought.finishReason === 'length' ? [CLOSE] : []);
    const table = await reference.logProbs([...before, ...tokens, ...answer.forced, ...answer.tokens]);
    const part = (start: number, sampled: Pick<Thought, 'tokens' | 'logProbs' | 'samplingLogProbs'>) =>
      sampled.tokens.forEach((token, i) => {
        const row = table[start - 1 + i];
        close(sampled.logProbs[i], row[token]);
        if (options.temperature === 0) expect(token).toBe(argmax(row));
        else close(sampled.samplingLogProbs[i], temper(row, options.temperature)[token]);
      });
    part(before.length, thought);
    part(before.length + tokens.length + answer.forced.length, answer);
    const last = answer.tokens.at(-1);
    if (thinks && thought.finishReason === 'eos') expect(answer).toMatchObject({ tokens: [], finishReason: 'eos' });
    else if (answer.finishReason === 'length') expect(answer.tokens).toHaveLength(5);
    else expect(last).toBe(answer.finishReason === 'eos' ? END_OF_TEXT : 9);
  }
  return new Set(thoughts.map(({ answer }) => answer?.finishReason));
}

describe.each([true, false])('completions, with a thought: %s', (thought) => {
  test.each([1, 0.7, 0])('have the log-probs of a flat pass at temperature %d', async (temperature) => {
    const options = optionsOf(thought, { temperature });
    const rollouts = await collect(engine, prompts, options);
    expect(rollouts.map(({ document }) => document)).toEqual(prompts);
    const reasons = await check(allThoughts(rollouts), options);
    if (temperature === 1) expect(reasons).toEqual(new Set(['length', 'eos', 'stop']));
  });

  test('do not depend on what else is in the batch', async () => {
    const tokensOf = async (more: Partial<RolloutOptions>) =>
      allThoughts(await collect(engine, prompts, optionsOf(thought, more))).map(({ tokens, answer }) => [
        tokens,
        answer?.tokens,
      ]);
    const expected = await tokensOf({});
    expect(await tokensOf({ documentsPerBatch: 1, rowsPerDocument: 2 })).toEqual(expected);
    expect(await tokensOf({ documentsPerBatch: 3, rowsPerDocument: 5, prefillChunk: 16 })).toEqual(expected);
    expect(await tokensOf({ seed: 8 })).not.toEqual(expected);
    expect(await tokensOf({ step: 1 })).not.toEqual(expected);
  });
});

test('an answer may follow at several positions of a text, up to its end', async () => {
  const [document] = randomDocuments(TINY_MODEL.vocabSize, [12], () => [1, 6, 12]);
  const [{ thoughts }] = await collect(engine, [document], optionsOf(true));
  expect(new Set(thoughts.map(({ position }) => position))).toEqual(new Set([1, 6, 12]));
  for (const { targets, reasonedLogProbs } of thoughts) expect([targets, reasonedLogProbs]).toEqual([[], []]);
});

test.each<[Partial<RolloutOptions>, number, string]>([
  [{}, 503, 'document document-0: 503 tokens before position 503 and up to 12 of a thought and its answer make 515'],
  [{ completion: { thought: true, maxTokens: 0 } }, 7, 'rollout option completion.maxTokens is 0: expected an integer'],
])('%j with a prompt of %i tokens is refused', async (more, length, message) => {
  const documents = randomDocuments(TINY_MODEL.vocabSize, [length], () => [length]);
  await expect(collect(engine, documents, optionsOf(true, more))).rejects.toThrow(message);
});
