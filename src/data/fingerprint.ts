import { createHash } from 'node:crypto';
import type { TokenizedDocument } from './tokenize.ts';

/** SHA-256 of the documents' ids, tokens and listed positions: whether data is what it was before an interruption. */
export function fingerprint(documents: Iterable<TokenizedDocument>): string {
  const hash = createHash('sha256');
  for (const { id, tokens, listedPositions } of documents) {
    hash.update(`${JSON.stringify([id, tokens.length, listedPositions])}\n`);
    hash.update(new Uint8Array(tokens.buffer, tokens.byteOffset, tokens.byteLength));
  }
  return hash.digest('hex');
}
