import { createHash } from 'node:crypto';
import { UserError } from '../errors.ts';
import { BadRows } from './bad-rows.ts';
import { Corpus, type CorpusOptions, type Item, type OpenedBefore } from './corpus.ts';
import { STDIN } from './data-files.ts';
import { IdSet } from './id-set.ts';

/** Rows that are drawn by weight. */
export interface WeightedCorpus<T extends Item> {
  corpus: Corpus<T>;
  /** Above 0, relative to those of the others. */
  weight: number;
  /** As it was given, for messages. */
  name: string;
}

/**
 * Opens files as corpora: with weights each of `patterns` is one, without they are one together.
 * @throws UserError for what cannot be read; for standard input if it would have to be read a second time
 */
export async function openCorpora<T extends Item>(
  patterns: readonly string[],
  { dataWeights, resume }: { dataWeights?: readonly number[] | undefined; resume?: boolean | undefined },
  options: CorpusOptions<T>,
): Promise<WeightedCorpus<T>[]> {
  if (resume && patterns.includes(STDIN)) {
    throw new UserError(
      `--resume: the data came from standard input (${STDIN}), which cannot be read again. Save it in a file, and start ` +
        'again with that as --data',
    );
  }
  const before: OpenedBefore = { files: [], ids: new IdSet() };
  const corpora: WeightedCorpus<T>[] = [];
  for (const [i, group] of (dataWeights ? patterns.map((pattern) => [pattern]) : [patterns]).entries()) {
    const corpus = await Corpus.open(group, options, before);
    corpora.push({ corpus, weight: dataWeights?.[i] ?? 1, name: group.join(', ') });
  }
  return corpora;
}

/** SHA-256 of corpora, their weights, and whatever else decides what is drawn; `textHash`: whatever the files are called. */
export function dataHashOf(
  corpora: readonly WeightedCorpus<Item>[],
  more: readonly string[],
  kind: 'hash' | 'textHash' = 'hash',
): string {
  const parts = corpora.map(({ corpus, weight }) => [corpus[kind], weight]);
  return createHash('sha256')
    .update(JSON.stringify([parts, more]))
    .digest('hex');
}

/** The bad rows of all corpora together. */
export const badRowsOf = (corpora: readonly WeightedCorpus<Item>[]): BadRows =>
  BadRows.of(corpora.map(({ corpus }) => corpus.badRows));
