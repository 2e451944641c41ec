/** Appends the same batch to the file named by the argument, printing the count behind each, until it is killed. */
import { writeSync } from 'node:fs';
import { RolloutWriter } from '../../src/arrow.ts';
import { goldenBatches, goldenMetadata } from './records.ts';

const writer = await RolloutWriter.open(process.argv[2], goldenMetadata);
for (;;) {
  await writer.append(goldenBatches[0]);
  writeSync(1, `${writer.batches}\n`);
}
