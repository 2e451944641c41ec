import { Random } from '../../src/random.ts';
import type { DocumentRollouts, RolloutDocument, RolloutEngine, RolloutOptions } from '../../src/rollout/index.ts';

/** Delimiters and end of text of the tiny models; any ids will do. */
export const OPEN = 1;
export const CLOSE = 2;
export const END_OF_TEXT = 3;

export const OPTIONS: RolloutOptions = {
  open: OPEN,
  close: CLOSE,
  endOfText: [END_OF_TEXT],
  maxThoughtTokens: 12,
  groupSize: 3,
  horizon: 1,
  temperature: 1,
  seed: 7,
  step: 0,
  documentsPerBatch: 2,
  rowsPerDocument: 4,
};

/** Documents of random tokens: one per list of positions, `lengths[i]` tokens long. */
export function randomDocuments(
  vocabSize: number,
  lengths: readonly number[],
  positions: (length: number, index: number) => readonly number[],
): RolloutDocument[] {
  return lengths.map((length, i) => {
    const random = new Random(i, 'document');
    const tokens = Array.from({ length }, () => random.integer(vocabSize));
    return { id: `document-${i}`, tokens, positions: positions(length, i) };
  });
}

export async function collect(
  engine: RolloutEngine,
  documents: Iterable<RolloutDocument> | AsyncIterable<RolloutDocument>,
  options: RolloutOptions,
): Promise<DocumentRollouts[]> {
  const all: DocumentRollouts[] = [];
  for await (const rollouts of engine.generate(documents, options)) all.push(rollouts);
  return all;
}

export const allThoughts = (rollouts: readonly DocumentRollouts[]) => rollouts.flatMap(({ thoughts }) => thoughts);
