import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { trainSchema } from '../../src/config.ts';
import { readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { argumentsOf, contentOf, refused, type Workplace, workplace } from '../bad-input/refused.ts';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  const rows = Array.from(
    { length: 9 },
    (_, i) => `${JSON.stringify({ id: i, text: `${(i + 10) ** 7} is a number` })}\n`,
  );
  writeFileSync(folder.in('data.jsonl'), rows.join(''));
});
afterAll(() => folder[Symbol.dispose]());

it('float16, rlp: the scale of the loss is part of a checkpoint, and a resume is the same to the byte', async () => {
  const config = trainSchema.parse({
    ...{ model: folder.in('model'), data: [folder.in('data.jsonl')], run: folder.in('run'), dtype: 'float16' },
    ...{ steps: 4, checkpointEvery: 2, learningRate: 1e-2, emaDecay: 0.9, threads: 1 },
    ...{ documentsPerStep: 2, groupSize: 3, maxThoughtTokens: 5, temperature: 1 },
  });
  await train(config);
  const last = 'checkpoints/step-000004';
  const state = JSON.parse(readFileSync(join(folder.in('run', last), 'checkpoint', 'state.json'), 'utf8'));
  expect(state.lossScale).toEqual({ scale: 65536, goodSteps: 4 });
  for (const row of (await readMetrics(folder.in('run'))).filter((figures) => 'loss' in figures)) {
    expect(row).toMatchObject({ loss_scale: 65536, skipped_updates: 0 });
    expect(row.loss).toEqual(expect.any(Number));
  }
  renameSync(folder.in('run'), folder.in('whole'));
  await train({ ...config, steps: 2 });
  await train({ ...config, resume: true });
  expect(contentOf(folder.in('run', last))).toEqual(contentOf(folder.in('whole', last)));
});

it('refuses bfloat16 on the CPU', async () => {
  expect(await refused(folder, argumentsOf('train rlp', folder, { dtype: 'bfloat16' }))).toBe(
    '--dtype bfloat16: needs --device cuda: ONNX Runtime has no matrix products in bfloat16 on the CPU',
  );
});
