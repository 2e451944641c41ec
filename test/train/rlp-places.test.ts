import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { instruction } from '../../src/prompt.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { SmallRuns, type Trained } from './small-run.ts';

let runs: SmallRuns;
beforeAll(async () => {
  runs = await SmallRuns.create();
});
afterAll(() => runs[Symbol.dispose]());
afterEach(() => runs.clear());

describe('where the thoughts stand', () => {
  it.each(['entropy', 'surprise'] as const)(
    'positions by %s are those of the weights, whatever the batch',
    async (positionStrategy) => {
      const one = await runs.train({ steps: 1, positionStrategy, documentsPerBatch: 1 });
      const three = await runs.train({ steps: 1, positionStrategy, documentsPerBatch: 3 });
      const other = await runs.train({
        steps: 1,
        positionStrategy: positionStrategy === 'entropy' ? 'surprise' : 'entropy',
      });
      const positions = ({ thoughts }: Trained) =>
        thoughts.map(({ documentId, position }) => `${documentId}/${position}`);
      expect(positions(three)).toEqual(positions(one));
      expect(positions(other)).not.toEqual(positions(one));
    },
  );

  it('every n-th position', async () => {
    const { thoughts } = await runs.train({ steps: 1, positionStrategy: 'every', positionStride: 7 });
    for (const { position } of thoughts) expect(position % 7).toBe(1);
  });

  it('a prompt changes what is thought, not where, and is no part of the record; the baseline sees it when asked to', async () => {
    const plain = await runs.train({ steps: 1 });
    const prompted = await runs.train({ steps: 1, prompt: 'Think! ' });
    const both = await runs.train({ steps: 1, prompt: 'Think! ', baselinePrompt: true });
    const place = ({ documentId, position, context, targetTokens }: RolloutRecord) =>
      JSON.stringify({ documentId, position, context, targetTokens: [...targetTokens] });
    expect(prompted.thoughts.map(place)).toEqual(plain.thoughts.map(place));
    const scores = (name: 'reasonedLogProbs' | 'baselineLogProbs', { thoughts }: Trained) =>
      thoughts.map((row) => row[name][0]);
    expect(scores('reasonedLogProbs', prompted)).not.toEqual(scores('reasonedLogProbs', plain));
    expect(scores('baselineLogProbs', prompted)).toEqual(scores('baselineLogProbs', plain));
    expect(scores('baselineLogProbs', both)).not.toEqual(scores('baselineLogProbs', plain));
    expect(both.weights.equals(prompted.weights)).toBe(true); // the baseline cancels
  });

  it('the instruction names the delimiters, and the log-probs of training are those of the rollout', async () => {
    const { rows, weights } = await runs.train({ prompt: 'instruction', nextTokenCoefficient: 0.1 });
    const { weights: own } = await runs.train({
      prompt: instruction('<think>', '</think>'),
      nextTokenCoefficient: 0.1,
    });
    expect(own.equals(weights)).toBe(true);
    for (const row of rows) expect(row['sampling/sampling_logp_difference/max']).toBeLessThan(1e-4);
  });
});

it('warns by name, on the rows and once to the caller; a resumed run as the whole one', async () => {
  // So cold that no group has any spread.
  const config = runs.config({ temperature: 0.001, steps: 12, documentsPerStep: 1, checkpointEvery: 11 });
  const warnings: string[] = [];
  const onNotice = (message: string) => {
    if (message.startsWith('warning:')) warnings.push(message);
  };
  await train({ ...config, steps: 11 }, { onNotice });
  await train({ ...config, resume: true }, { onNotice });
  expect(warnings).toEqual([
    expect.stringMatching(/^warning: reward_variance_collapse at step 10: .* (9\d|100)% of the groups/),
  ]);
  const named = (await readMetrics(config.run)).map((row) => row.warnings);
  expect(named).toEqual([...Array(9).fill(undefined), ...Array(3).fill('reward_variance_collapse')]);
});
