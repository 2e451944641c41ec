import { readdirSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it, test } from 'vitest';
import { openModel } from '../../src/model-directory.ts';
import { RolloutEngine, type Sampling } from '../../src/rollout/index.ts';
import { chiSquareDeviate, samplingDistribution } from '../fixtures/distribution.ts';
import { floats, goldenPath, integers, readGolden, readGoldenJson } from '../golden/golden.ts';
import { allThoughts, collect, OPTIONS } from './fixture.ts';

/** Log-probs of ours in float32 against those of PyTorch in float32: golden/README.md has the noise of the latter. */
const TOLERANCE = 1e-4;

async function openEngine(directory: string): Promise<RolloutEngine> {
  const model = await openModel(directory);
  return RolloutEngine.create(model.rolloutGraphs, { intraOpThreads: 1, externalDataFolder: model.directory });
}

function expectClose(found: readonly number[], expected: ArrayLike<number>): void {
  expect(found.length).toBe(expected.length);
  for (const [i, value] of found.entries()) expect(Math.abs(value - expected[i])).toBeLessThan(TOLERANCE);
}

describe.each(readdirSync(goldenPath('checkpoints')))("greedy decoding of %s is transformers' greedy", (name) => {
  const { greedy_prompt_tokens: columns } = readGoldenJson<{ greedy_prompt_tokens: number }>(`logits/${name}`);
  const tensors = readGolden(`logits/${name}`);
  const rowOf = (tensor: string, row: number) => {
    const values = integers(tensors, tensor);
    return Array.from(values.subarray((row * values.length) / 2, ((row + 1) * values.length) / 2), Number);
  };

  it.each([0, 1])('prompt %i', async (row) => {
    using engine = await openEngine(goldenPath('checkpoints', name));
    const mask = rowOf('attention_mask', row);
    const prompt = rowOf('input_ids', row).filter((_, i) => i < columns && mask[i] === 1);
    const greedy = rowOf('greedy_ids', row);
    const unused = Array.from({ length: 60 }, (_, id) => id).find((id) => !greedy.includes(id)) ?? 0;
    // The last token of the prompt stands where the opening delimiter does.
    const open = prompt.at(-1) ?? 0;
    const document = { id: 'golden', tokens: [...prompt.slice(0, -1), 0], positions: [prompt.length - 1] };
    const options = { ...OPTIONS, open, close: unused, endOfText: [], maxThoughtTokens: greedy.length, temperature: 0 };
    for (const thought of allThoughts(await collect(engine, [document], options))) {
      expect(thought.tokens).toEqual(greedy);
      expect(thought.finishReason).toBe('length');
      const { length } = greedy;
      expectClose(thought.logProbs, floats(tensors, 'greedy_log_probs').subarray(row * length, (row + 1) * length));
    }
  });
});

describe('models/tiny-qwen3, as transformers computes it', () => {
  const { thoughts } = readGoldenJson<{
    thoughts: {
      tokens: number[];
      position: number;
      thought: number[];
      finish_reason: string;
      log_probs: number[];
      target_log_prob: number;
    }[];
  }>('tiny-qwen3/tiny-qwen3');
  const vocabulary = 264;
  const [think, endThink, zero] = [257, 258, 48];
  const options = { ...OPTIONS, open: think, close: endThink, endOfText: [256] };
  /** After the opening delimiter, and after each digit behind it. */
  const logits = Array.from({ length: 11 }, (_, row) =>
    floats(readGolden('tiny-qwen3/tiny-qwen3'), 'logits').subarray(row * vocabulary, (row + 1) * vocabulary),
  );

  let engine: RolloutEngine;
  beforeAll(async () => {
    engine = await openEngine('models/tiny-qwen3');
  });
  afterAll(() => engine.dispose());

  test('greedy thoughts and the score of the true answer after each', async () => {
    const documents = thoughts.map(({ tokens, position }, i) => ({ id: `line ${i}`, tokens, positions: [position] }));
    const change = { maxThoughtTokens: 16, temperature: 0, groupSize: 1, documentsPerBatch: 5 };
    const found = allThoughts(await collect(engine, documents, { ...options, ...change }));
    for (const [i, expected] of thoughts.entries()) {
      expect(found[i].tokens).toEqual(expected.thought);
      expect(found[i].finishReason).toBe(expected.finish_reason);
      expectClose(found[i].logProbs, expected.log_probs);
      expectClose(found[i].reasonedLogProbs, [expected.target_log_prob]);
    }
  });

  /** Probability of each pair of a digit and the token behind it, [10 * vocabulary], and of all else. */
  function pairDistribution(sampling: Sampling): number[] {
    const [first, ...second] = logits.map((row) => samplingDistribution(row, sampling));
    const pairs = second.flatMap((row, digit) => row.map((p) => first[zero + digit] * p));
    return [...pairs, Math.max(0, 1 - pairs.reduce((a, b) => a + b, 0))];
  }

  test.each<[name: string, sampling: Sampling]>([
    ['temperature 1', { temperature: 1 }],
    ['temperature 0.5', { temperature: 0.5 }],
    ['temperature 2', { temperature: 2 }],
    ['top-k', { temperature: 1.5, topK: 4 }],
    ['top-p', { temperature: 1.5, topP: 0.6 }],
    ['min-p', { temperature: 2, minP: 0.05 }],
    ['all of them', { temperature: 1.5, topK: 8, topP: 0.9, minP: 0.1 }],
  ])('%s: two tokens in a row are distributed as the softmax says', async (_, sampling) => {
    const [{ tokens, position }] = thoughts;
    const document = { id: 'line', tokens, positions: [position] };
    const change = { groupSize: 3000, rowsPerDocument: 500, maxThoughtTokens: 2 };
    const found = allThoughts(await collect(engine, [document], { ...options, ...sampling, ...change }));
    const cells = found.map(({ tokens: [a, b] }) => {
      const digit = a - zero;
      return digit >= 0 && digit < 10 && b !== undefined ? digit * vocabulary + b : 10 * vocabulary;
    });
    expect(Math.abs(chiSquareDeviate(cells, pairDistribution(sampling)))).toBeLessThan(3.5);
    // The test has the power to tell another temperature, or no cut.
    const { temperature, ...cut } = sampling;
    const other = Object.keys(cut).length > 0 ? { temperature } : { temperature: temperature * 1.25 };
    expect(chiSquareDeviate(cells, pairDistribution(other))).toBeGreaterThan(5);
  });
});
