import { UserError } from '../errors.ts';
import type { Document } from './document.ts';
import { placeOf, sameId } from './row.ts';
import type { Tokenizer } from './tokenizer.ts';

/** A document as tokens. */
export interface TokenizedDocument {
  id: string;
  tokens: Int32Array;
  /** The data's `positions` as token indices, ascending and distinct; undefined if the data gives none. */
  listedPositions?: readonly number[];
}

/** What a document needs to be of use, say a position to think at. */
export interface Requirement {
  holds(document: TokenizedDocument): boolean;
  /** Ends the sentence "none of the N documents ...". */
  text: string;
}

/** Which documents are used, and how much of each. */
export interface TokenizeOptions {
  /** Keep the first tokens of longer documents. */
  maxContextTokens?: number;
  /** Documents that do not meet it are left out and counted. */
  requirement?: Requirement;
}

/** The documents to use, and what became of the others. */
export interface TokenizedData {
  documents: TokenizedDocument[];
  /** Tokens of `documents`. */
  tokens: number;
  /** Documents left out because they do not meet the requirement. */
  skipped: number;
  /** Documents of `documents` that were cut to the window. */
  truncated: number;
}

/** One document as tokens. A listed position is the first token that starts at or after its character. */
export function tokenizeDocument({ id, text, positions }: Document, tokenizer: Tokenizer): TokenizedDocument {
  if (positions === undefined) return { id, tokens: tokenizer.encode(text) };
  const { ids, byteStarts, normalize } = tokenizer.encodeWithOffsets(text);
  const listed = new Set(byteOffsets(text, positions, normalize).map((byte) => firstAtOrAfter(byteStarts, byte)));
  listed.delete(ids.length); // within the last token: nothing starts after it
  return { id, tokens: ids, listedPositions: [...listed].sort((a, b) => a - b) };
}

/** UTF-8 offsets, in the normalized text, of code point offsets in `text`. */
function byteOffsets(text: string, positions: readonly number[], normalize: (text: string) => string): number[] {
  const characters = [...text];
  if (normalize(text) !== text) {
    return positions.map((position) => Buffer.byteLength(normalize(characters.slice(0, position).join(''))));
  }
  let byte = 0;
  const starts = characters.map((character) => {
    const start = byte;
    byte += Buffer.byteLength(character);
    return start;
  });
  return positions.map((position) => starts[position]);
}

/** Index of the first value >= `value` in an ascending array; its length if there is none. */
function firstAtOrAfter(ascending: Int32Array, value: number): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** The first `maxTokens` tokens and the positions among them. */
function cut(document: TokenizedDocument, maxTokens: number): TokenizedDocument {
  if (document.tokens.length <= maxTokens) return document;
  const { id, tokens, listedPositions } = document;
  return {
    id,
    tokens: tokens.slice(0, maxTokens),
    ...(listedPositions !== undefined && { listedPositions: listedPositions.filter((t) => t < maxTokens) }),
  };
}

/** Turns documents into tokens one by one, and keeps count of what it does to them. */
export class DocumentTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #options: TokenizeOptions;
  #example = '';
  /** Documents left out because they do not meet the requirement. */
  skipped = 0;
  /** Documents that were cut to the window. */
  truncated = 0;

  constructor(tokenizer: Tokenizer, options: TokenizeOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#options = options;
  }

  /** The tokens of a document, cut to the window; undefined if it does not meet the requirement. */
  take = (document: Document): TokenizedDocument | undefined => {
    const { maxContextTokens = Infinity, requirement } = this.#options;
    const whole = tokenizeDocument(document, this.#tokenizer);
    const kept = cut(whole, maxContextTokens);
    if (requirement !== undefined && !requirement.holds(kept)) {
      if (this.skipped++ === 0) this.#example = `the first, ${placeOf(document.source)}, has ${kept.tokens.length}`;
      return undefined;
    }
    if (kept !== whole) this.truncated++;
    return kept;
  };

  /** The error for when all documents were left out. */
  noneOfUse = (): UserError => {
    const { requirement } = this.#options;
    const reason =
      requirement === undefined ? '' : `: none of the ${this.skipped} ${requirement.text} (${this.#example})`;
    return new UserError(`the data has no documents to use${reason}`);
  };
}

/**
 * All documents as tokens, in memory.
 * @throws UserError if two documents have the same id, or if no document meets the requirement
 */
export async function tokenizeDocuments(
  source: AsyncIterable<Document> | Iterable<Document>,
  tokenizer: Tokenizer,
  options: TokenizeOptions = {},
): Promise<TokenizedData> {
  const data: TokenizedData = { documents: [], tokens: 0, skipped: 0, truncated: 0 };
  const tokenizing = new DocumentTokenizer(tokenizer, options);
  const places = new Map<string, string>();
  for await (const document of source) {
    const place = placeOf(document.source);
    const first = places.get(document.id);
    if (first !== undefined) throw sameId(document.id, place, first);
    places.set(document.id, place);
    const kept = tokenizing.take(document);
    if (kept === undefined) continue;
    data.tokens += kept.tokens.length;
    data.documents.push(kept);
  }
  if (data.documents.length === 0) throw tokenizing.noneOfUse();
  return { ...data, skipped: tokenizing.skipped, truncated: tokenizing.truncated };
}
