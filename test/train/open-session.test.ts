import { rmSync, writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type TrainConfig, trainSchema } from '../../src/config.ts';
import { loadTokenizer } from '../../src/data/index.ts';
import { UserError } from '../../src/errors.ts';
import { cptDocument } from '../../src/optim/index.ts';
import { loadTrainingCheckpoint, saveTrainingCheckpoint } from '../../src/train/checkpoint.ts';
import { openTrainingSession } from '../../src/train/open-session.ts';
import { train } from '../../src/train/train.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { type Workplace, workplace } from '../bad-input/refused.ts';

const TEXT = 'sixteen tokens of text, and then some more';
const BLOCK = 16;
const LORA = { rank: 2, alpha: 4, targetModules: ['q_proj', 'down_proj'] };

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  writeFileSync(folder.in('one.txt'), TEXT);
});
afterAll(() => folder[Symbol.dispose]());
afterEach(() => rmSync(folder.in('run'), { recursive: true, force: true }));

/** A step of CPT on the first block of the text. */
const configOf = (more: Partial<TrainConfig> = {}) =>
  trainSchema.parse({
    ...{ model: folder.in('model'), data: [folder.in('one.txt')], run: folder.in('run'), objective: 'cpt' },
    ...{ steps: 1, blockLength: BLOCK, batchTokens: BLOCK, learningRate: 1e-2, schedule: 'constant', threads: 1 },
    ...more,
  });

describe.each([
  ['all weights', {}, {}],
  ['all weights, all decayed', { weightDecayOn: 'all' }, { weightDecayOn: 'all', weightDecay: 0.5 }],
  ['adapters', { lora: LORA }, { loraRank: 2, loraAlpha: 4, loraTargetModules: LORA.targetModules }],
] as const)('of %s', (_, more, flags) => {
  it('takes the step that train takes, to the bit', async () => {
    const config = configOf(flags);
    const { checkpoint } = await train(config);
    const expected = (await loadTrainingCheckpoint(checkpoint)).training;

    const options = { intraOpThreads: 1, ema: false, seed: config.seed, ...more };
    using session = await openTrainingSession(folder.in('model'), options);
    const tokens = (await loadTokenizer(folder.in('model'))).encode(TEXT).slice(0, BLOCK);
    await session.runTrainStep(buildTreeBatch([cptDocument(tokens, BLOCK - 1)]));
    await session.runOptimizerStep(config);
    expect(session.state()).toEqual(expected);
  });
});

it('has the options of the graphs', async () => {
  using plain = await openTrainingSession(folder.in('model'));
  expect(plain.ema.size).toBeGreaterThan(0);
  expect(plain.lossScale).toBe(1);
  using session = await openTrainingSession(folder.in('model'), { ema: false, dtype: 'float16', recompute: true });
  expect(() => session.ema).toThrow('there is no EMA: the optimizer graph was built to keep none');
  expect(session.lossScale).toBe(65_536);
});

describe('a checkpoint of adapters', () => {
  let saved: string;
  beforeAll(async () => {
    saved = folder.in('adapters');
    using session = await openTrainingSession(folder.in('model'), { lora: LORA, seed: 3 });
    const batch = buildTreeBatch([cptDocument([1, 2, 3, 4, 5], 4)]);
    await session.runTrainStep(batch);
    await session.runOptimizerStep();
    const source = folder.in('model');
    await saveTrainingCheckpoint({ out: saved, source, dtype: 'float32', session, lora: LORA, state: null });
  });

  it('says which, and goes on on the model that they were trained on', async () => {
    expect((await loadTrainingCheckpoint(saved)).lora).toEqual(LORA);
    using session = await openTrainingSession(folder.in('model'), { checkpoint: saved });
    expect(session.step).toBe(1);
    expect(session.state()).toEqual((await loadTrainingCheckpoint(saved)).training);
    expect(session.getParametersSize()).toBeLessThan(session.getParametersSize(false));
  });

  it('is refused where it does not belong, with what to do', async () => {
    const refusedAs = async (work: Promise<unknown>, message: string) => {
      await expect(work).rejects.toThrow(UserError);
      await expect(work).rejects.toThrow(message);
    };
    await refusedAs(
      openTrainingSession(saved),
      `checkpoint ${saved}: has the state of adapters (rank 2, alpha 4, down_proj q_proj), and its weights have them merged in; ` +
        'open the model that they were trained on, with this folder as `checkpoint`',
    );
    const other = { ...LORA, rank: 3 };
    await refusedAs(
      openTrainingSession(folder.in('model'), { lora: other, checkpoint: saved }),
      `checkpoint ${saved}: has the state of adapters (rank 2, alpha 4, down_proj q_proj), expected adapters (rank 3, alpha 4, ` +
        'down_proj q_proj); open it for what it has',
    );
    const { checkpoint } = await train(configOf());
    await refusedAs(
      openTrainingSession(folder.in('model'), { lora: LORA, checkpoint }),
      `checkpoint ${checkpoint}: has the state of all weights, expected adapters (rank 2, alpha 4, down_proj q_proj)`,
    );
  });

  it('has merged weights, on which new adapters may be trained', async () => {
    using session = await openTrainingSession(saved, { lora: { ...LORA, rank: 3 } });
    expect(session.step).toBe(0);
  });
});
