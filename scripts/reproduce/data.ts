import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Family, type RawDocument, rawDocuments, type Split } from './families.ts';
import type { Scale, TrainingData } from './plan.ts';

/** Files of one JSON object a line, and what the plan needs to know of them. */
export interface Data extends TrainingData {
  /** Questions to choose learning rates on. */
  validation: string;
  heldOut: string;
  /** Tokens of a raw document. */
  meanTokens: number;
}

/** Writes the text of the families, the same whenever it is written. */
export async function writeData(
  folder: string,
  families: readonly Family[],
  { documents, heldOut }: Scale,
): Promise<Data> {
  await mkdir(folder, { recursive: true });
  const write = async (name: string, rows: readonly object[]) => {
    const file = join(folder, `${name}.jsonl`);
    await writeFile(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return file;
  };
  const make = (seed: number, count: number, split: Split) =>
    families.flatMap((family) => rawDocuments(seed, family, count, split));
  const train = make(1, documents, 'train');
  const answersOnly = ({ id, prompt, answer }: RawDocument) => ({ id, prompt, response: answer });
  return {
    train: await write('train', train),
    answers: await write('answers', train.map(answersOnly)),
    postTraining: await write('post-training', make(4, documents, 'train')),
    validation: await write('validation', make(2, heldOut, 'held-out')),
    heldOut: await write('held-out', make(3, heldOut, 'held-out')),
    meanTokens: train.reduce((sum, { text }) => sum + text.length, 0) / train.length, // a token is a byte
  };
}
