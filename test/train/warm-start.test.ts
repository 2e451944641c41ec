import { join } from 'node:path';
import { expect, it } from 'vitest';
import { readRollouts } from '../../src/arrow.ts';
import { rolloutSchema, trainSchema } from '../../src/config.ts';
import { runRollout } from '../../src/rollout-run.ts';
import { train } from '../../src/train/train.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';

const TINY = 'models/tiny-qwen3';
const corpus = (name: string) => [join(TINY, 'corpus', `${name}.jsonl`)];

it('SFT on the shipped thoughts makes a model that does not think close its thoughts, and profit from them', async () => {
  using folder = temporaryFolder();
  const thinking = async (model: string) => {
    const out = folder.in(`${model.replaceAll('/', '-')}.arrow`);
    const { reward } = await runRollout(
      rolloutSchema.parse({
        ...{ model, data: corpus('held-out'), out, limit: 32, groupSize: 4, maxThoughtTokens: 10, temperature: 1 },
        ...{ positionStrategy: 'column', documentsPerBatch: 32, threads: 1 },
      }),
    );
    const reasons: string[] = [];
    for await (const batch of await readRollouts(out)) reasons.push(...batch.map(({ finishReason }) => finishReason));
    return { reward, closed: reasons.filter((reason) => reason === 'closed').length / reasons.length };
  };
  const trained = async (settings: object) => (await train(trainSchema.parse({ threads: 1, ...settings }))).checkpoint;

  // The tiny model thinks; text without thoughts takes that away.
  const base = await trained({
    ...{ objective: 'cpt', model: TINY, data: corpus('train'), run: folder.in('base'), steps: 40 },
    ...{ blockLength: 64, batchTokens: 512, learningRate: 2e-3, checkpointEvery: 0 },
  });
  const before = await thinking(base);
  expect(before.closed).toBeLessThan(0.25);
  expect(before.reward).toBeLessThan(0.2);

  const warm = await trained({
    ...{ objective: 'sft', model: base, data: corpus('thoughts'), run: folder.in('warm'), epochs: 3 },
    ...{ documentsPerStep: 16, learningRate: 1e-3, checkpointEvery: 0 },
  });
  const after = await thinking(warm);
  expect(after.closed).toBeGreaterThan(0.95);
  expect(after.reward).toBeGreaterThan(1);
});
