/** Writes test/arrow/rollouts.arrow: `npx tsx test/arrow/generate.ts`. */
import { rm } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { RolloutWriter } from '../../src/arrow.ts';
import { goldenBatches, goldenMetadata } from './records.ts';

const path = fileURLToPath(new URL('rollouts.arrow', import.meta.url));
await rm(path, { force: true });
const writer = await RolloutWriter.open(path, goldenMetadata);
for (const rows of goldenBatches) await writer.append(rows);
await writer.finish();
