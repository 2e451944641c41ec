import { tokenizerConfig, tokenizerJson } from '../../scripts/tiny-qwen3/make-tokenizer.ts';
import { BYTE_SYMBOLS } from '../../src/data/byte-level.ts';
import type { Document } from '../../src/data/document.ts';
import { Tokenizer } from '../../src/data/tokenizer.ts';

/** One byte is one token. */
export const byteTokenizer = (): Tokenizer => new Tokenizer('byte/tokenizer.json', tokenizerJson(), tokenizerConfig());

const symbols = (word: string | Uint8Array): string[] => Array.from(Buffer.from(word), (byte) => BYTE_SYMBOLS[byte]);

/** Byte-level BPE that merges the bytes of each of `words` from the left into one token (ids from 256), after NFC. */
export function mergingTokenizer(words: readonly (string | Uint8Array)[]): Tokenizer {
  const vocab = new Map(BYTE_SYMBOLS.map((symbol, byte): [string, number] => [symbol, byte]));
  const merges: [string, string][] = [];
  for (const word of words) {
    symbols(word).reduce((left, right) => {
      if (!vocab.has(left + right)) {
        merges.push([left, right]);
        vocab.set(left + right, vocab.size);
      }
      return left + right;
    });
  }
  const think = { special: false, normalized: false, single_word: false, lstrip: false, rstrip: false };
  return new Tokenizer('bpe/tokenizer.json', {
    ...tokenizerJson(),
    added_tokens: [{ id: vocab.size, content: '<think>', ...think }],
    normalizer: { type: 'NFC' },
    model: { type: 'BPE', vocab: Object.fromEntries(vocab), merges },
  });
}

export const documentOf = (text: string, rest: Partial<Document> = {}): Document => ({
  id: 'a',
  text,
  source: { file: 'a.jsonl', row: 1 },
  ...rest,
});

export async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}
