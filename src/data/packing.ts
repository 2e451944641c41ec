import { internal } from '../errors.ts';

/** How documents are packed into blocks. */
export interface PackOptions {
  /** Tokens of a block, at least 2. */
  length: number;
  /** Ends each document that does not end with it already; undefined: documents follow each other directly. */
  eosId: number | undefined;
}

/** A document's tokens with the end-of-text token behind them, unless it is there already or there is none. */
export function withEnd(tokens: Int32Array, eosId: number | undefined): Int32Array {
  if (eosId === undefined || tokens.length === 0 || tokens[tokens.length - 1] === eosId) return tokens;
  const ended = new Int32Array(tokens.length + 1);
  ended.set(tokens);
  ended[tokens.length] = eosId;
  return ended;
}

/**
 * Joins documents and cuts them into blocks of `length` tokens for next-token training.
 *
 * A block's inputs are its tokens but the last, its targets its tokens but the first. The last token of a block is
 * repeated as the first of the next, so every token of the text but the very first is a target exactly once. The last
 * block may be shorter (2 tokens or more); the batch pads it and gives padding no loss.
 */
export function packDocuments(documents: Iterable<ArrayLike<number>>, { length, eosId }: PackOptions): Int32Array[] {
  if (!Number.isInteger(length) || length < 2) throw internal(`blocks of ${length} tokens`);
  const blocks: Int32Array[] = [];
  let block = new Int32Array(length);
  let filled = 0;
  const add = (token: number) => {
    if (filled === length) {
      blocks.push(block);
      const overlap = block[length - 1];
      block = new Int32Array(length);
      block[0] = overlap;
      filled = 1;
    }
    block[filled++] = token;
  };
  for (const tokens of documents) {
    for (let i = 0; i < tokens.length; i++) add(tokens[i]);
    if (eosId !== undefined && tokens.length > 0 && tokens[tokens.length - 1] !== eosId) add(eosId);
  }
  if (filled >= 2) blocks.push(block.slice(0, filled));
  return blocks;
}
