import { createHash } from 'node:crypto';
import { BadRows } from './bad-rows.ts';
import { Corpus, type CorpusOptions, type Item, type OpenedBefore } from './corpus.ts';
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
 * @throws UserError for what cannot be read
 */
export async function openCorpora<T extends Item>(
  patterns: readonly string[],
  { dataWeights }: { dataWeights?: readonly number[] | undefined },
  options: CorpusOptions<T>,
): Promise<WeightedCorpus<T>[]> {
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
