import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DECLARED } from './declared.ts';
import { type Family, type RawDocument, rawDocuments, type Split } from './families.ts';

/** Files of one JSON object a line. */
export interface DataFiles {
  /** Raw documents. */
  train: string;
  /** The same and more, for an arm that reads more. */
  trainLong: string;
  /** The raw documents, split into the text before the answer, and the answer. */
  answers: string;
  /** Other questions, with right thoughts and with answers. */
  postTraining: string;
  /** Questions to choose learning rates on. */
  validation: string;
  /** None of them is among the validation questions, or twice. */
  heldOut: string;
  /** Held-out documents to think about at every position, of families that say what their characters are. */
  everyPosition: string;
}

/** A family's documents, by what they are for. */
export interface DataSizes {
  train: number;
  trainLong: number;
  postTraining: number;
  /** Of validation and held-out questions each. */
  heldOut: number;
  everyPosition: number;
}

/** The text of a study, and what a plan needs to know of it. Tokens are bytes. */
export interface Data {
  files: DataFiles;
  /** Of a raw document, on average. */
  documentTokens: number;
  /** Before the answer, on average. */
  questionTokens: number;
}

/** Writes the text of the families, the same whenever it is written. */
export async function writeData(folder: string, families: readonly Family[], sizes: DataSizes): Promise<Data> {
  const { textSeeds } = DECLARED;
  const trainingText = (seed: number, count: number) =>
    mixed(families, (family) => take(rawDocuments(seed, family, 'train'), count));
  const trainLong = trainingText(textSeeds.train, Math.max(sizes.train, sizes.trainLong));
  const train = trainLong.slice(0, sizes.train * families.length);
  const postTraining = trainingText(textSeeds.postTraining, sizes.postTraining);
  const taken = new Set<string>();
  const questions = (seed: number) =>
    families.flatMap((family) => take(distinct(seed, family, 'held-out', taken), sizes.heldOut));
  const heldOut = questions(textSeeds.heldOut);
  const validation = questions(textSeeds.validation);
  const everyPosition = families.flatMap(({ name, kinds }) =>
    kinds === undefined ? [] : heldOut.filter(({ id }) => familyOf(id) === name).slice(0, sizes.everyPosition),
  );

  await mkdir(folder, { recursive: true });
  const write = async (name: string, rows: readonly object[]) => {
    const file = join(folder, `${name}.jsonl`);
    await writeFile(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    return file;
  };
  const average = (length: (document: RawDocument) => number) =>
    train.reduce((sum, document) => sum + length(document), 0) / train.length;
  return {
    files: {
      train: await write('train', train),
      trainLong: await write(
        'train-long',
        trainLong.map(({ id, text }) => ({ id, text })),
      ),
      answers: await write(
        'answers',
        train.map(({ id, prompt, answer }) => ({ id, prompt, response: answer })),
      ),
      postTraining: await write('post-training', postTraining),
      validation: await write('validation', validation),
      heldOut: await write('held-out', heldOut),
      everyPosition: await write('every-position', everyPosition),
    },
    documentTokens: average(({ text }) => text.length),
    questionTokens: average(({ prompt }) => prompt.length),
  };
}

/** The family of a document, by its name. */
export const familyOf = (id: string): string => id.split('-')[0];

/** The families' documents in turn: whatever part of the text is read first has as many of each. */
function mixed(families: readonly Family[], documentsOf: (family: Family) => RawDocument[]): RawDocument[] {
  const columns = families.map(documentsOf);
  return columns[0].flatMap((_, row) => columns.map((column) => column[row]));
}

/** Documents whose question is not among those `taken`, which gets it. */
function* distinct(seed: number, family: Family, split: Split, taken: Set<string>): Generator<RawDocument, never> {
  const documents = rawDocuments(seed, family, split);
  for (;;) {
    const document = documents.next().value;
    if (taken.has(document.prompt)) continue;
    taken.add(document.prompt);
    yield document;
  }
}

const take = <T>(items: Generator<T, never>, count: number): T[] =>
  Array.from({ length: count }, () => items.next().value);
