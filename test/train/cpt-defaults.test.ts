import { writeFileSync } from 'node:fs';
import { expect, it } from 'vitest';
import { trainSchema } from '../../src/config.ts';
import { readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { SmallRuns } from './small-run.ts';

it('the default block of 8,192 tokens is what the model has positions for', async () => {
  using runs = await SmallRuns.create();
  const { folder } = runs;
  const long = folder.in('long.txt'); // the model has 512 positions
  writeFileSync(long, '0123456789 '.repeat(200));
  const files = { model: folder.in('model'), data: [long], run: folder.in('run') };
  const options = { objective: 'cpt', packing: 'none', documentsPerStep: 1, steps: 1, threads: 1 };
  const config = trainSchema.parse({ ...files, ...options });
  expect(config.blockLength).toBe(8192);
  expect(await train(config)).toMatchObject({ documents: 1, truncated: 1 });
  expect(await readMetrics(folder.in('run'))).toMatchObject([{ num_input_tokens: 512 }]);
});
