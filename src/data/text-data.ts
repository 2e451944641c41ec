import type { BadRows } from './bad-rows.ts';
import { DOCUMENT_COLUMNS, type Document, documentOf, wantedOf } from './document.ts';
import { fileHash } from './fingerprint.ts';
import { type DataCursor, DataLoader } from './loader.ts';
import { noPositions } from './positions.ts';
import { placeOf, type TextDocuments } from './row.ts';
import { DocumentTokenizer, type TokenizedDocument, type TokenizeOptions } from './tokenize.ts';
import type { Tokenizer } from './tokenizer.ts';
import { badRowsOf, dataHashOf, openCorpora, type WeightedCorpus } from './weighted-corpora.ts';

/** Settings that say which rows are read, and how; docs/data.md. */
export interface ReadSettings {
  /** Default 0. */
  seed?: number;
  textColumn?: string;
  idColumn?: string;
  positionsColumn?: string;
  /** What a document of a .txt is; default 'file'. */
  txtDocuments?: TextDocuments | undefined;
  /** Default 'error'. */
  onBadRows?: 'error' | 'skip';
  limit?: number | undefined;
  /** `limit` of held-out data; default: `limit`. */
  evalLimit?: number | undefined;
  /** Default 10,000. */
  shuffleBuffer?: number | undefined;
  dataWeights?: readonly number[] | undefined;
  /** 'column': positions are read, and a row without them is a bad row. */
  positionStrategy?: string | undefined;
}

export const DEFAULT_SHUFFLE_BUFFER = 10_000;

/** The settings for data to measure on, which is read once, in its order. */
export const heldOutSettings = <S extends ReadSettings>(settings: S): S => ({
  ...settings,
  ...{ dataWeights: undefined, limit: settings.evalLimit ?? settings.limit },
});

/**
 * The documents of some files as tokens, drawn as they are needed: once through in their order, or without an end in random
 * order.
 */
export class TextData {
  readonly #corpora: readonly WeightedCorpus<Document>[];
  readonly #tokenizer: Tokenizer;
  readonly #tokenizeOptions: TokenizeOptions;
  readonly #settings: ReadSettings;
  readonly #drawing: DocumentTokenizer;
  /** SHA-256 of the documents, their weights and the tokenizer: whether data is what it was before an interruption. */
  readonly hash: string;
  /** The same, whatever the files are called. */
  readonly textHash: string;
  /** Names of the files with documents that are named `FILE:ROW` after them. */
  readonly unnamed: readonly string[];
  /** SHA-256 of the tokenizer's file. */
  readonly tokenizerHash: string;
  readonly badRows: BadRows;
  /** What to tell the user of the files. */
  readonly notices: readonly string[];

  private constructor(
    corpora: readonly WeightedCorpus<Document>[],
    tokenizer: Tokenizer,
    tokenizeOptions: TokenizeOptions,
    settings: ReadSettings,
    tokenizerHash: string,
  ) {
    this.#corpora = corpora;
    this.#tokenizer = tokenizer;
    this.#tokenizeOptions = tokenizeOptions;
    this.#settings = settings;
    this.#drawing = new DocumentTokenizer(tokenizer, tokenizeOptions);
    this.tokenizerHash = tokenizerHash;
    this.hash = dataHashOf(corpora, [tokenizerHash]);
    this.textHash = dataHashOf(corpora, [tokenizerHash], 'textHash');
    this.unnamed = corpora.flatMap(({ corpus }) => corpus.unnamed);
    this.badRows = badRowsOf(corpora);
    this.notices = corpora.flatMap(({ corpus }) => corpus.notices);
  }

  /**
   * Goes through the files once, to check them. With weights each of `patterns` is a corpus, without they are one together.
   * @throws UserError for what cannot be read
   */
  static async open(
    patterns: readonly string[],
    tokenizer: Tokenizer,
    settings: ReadSettings,
    tokenizeOptions: TokenizeOptions = {},
  ): Promise<TextData> {
    const { limit, onBadRows = 'error', positionStrategy, txtDocuments } = settings;
    const named = {
      text: settings.textColumn ?? DOCUMENT_COLUMNS.text,
      id: settings.idColumn ?? DOCUMENT_COLUMNS.id,
      positions: positionStrategy === 'column' ? (settings.positionsColumn ?? DOCUMENT_COLUMNS.positions) : undefined,
    };
    const corpora = await openCorpora(patterns, settings, {
      ...{ onBadRows, limit, columns: { text: named.text, all: wantedOf(named), txtDocuments } },
      parse(row) {
        const document = documentOf(row, named);
        if (named.positions !== undefined && document.positions === undefined) {
          throw noPositions(placeOf(row), named.positions);
        }
        return document;
      },
    });
    return new TextData(corpora, tokenizer, tokenizeOptions, settings, await fileHash(tokenizer.path));
  }

  /** Documents that may be of use: those too short for it are found as they are drawn. */
  get size(): number {
    return this.#corpora.reduce((sum, { corpus }) => sum + corpus.size, 0);
  }

  /** Draws documents without an end, by the weights, in an order that depends on the seed. */
  loader(cursor?: DataCursor): DataLoader<Document, TokenizedDocument> {
    return this.#loader(this.#drawing, cursor);
  }

  /** A loader for a look at what `loader` will draw; it counts for nothing. */
  preview(): DataLoader<Document, TokenizedDocument> {
    return this.#loader(new DocumentTokenizer(this.#tokenizer, this.#tokenizeOptions));
  }

  #loader({ take: prepare, noneOfUse }: DocumentTokenizer, cursor?: DataCursor) {
    const { seed = 0, shuffleBuffer = DEFAULT_SHUFFLE_BUFFER } = this.#settings;
    return new DataLoader(this.#corpora, { seed, shuffleBuffer, prepare, noneOfUse, cursor });
  }

  /** What became of the documents that the loaders have drawn so far. */
  get drawn(): { skipped: number; truncated: number } {
    const { skipped, truncated } = this.#drawing;
    return { skipped, truncated };
  }

  /**
   * The documents once, in their order. `tokenizing` tells what was left out and cut up to then.
   * @param wanted only those of these ids; the others are not tokenized
   * @throws UserError after the last one, if there was none
   */
  documents(wanted?: (id: string) => boolean): {
    tokenizing: DocumentTokenizer;
    documents: AsyncGenerator<TokenizedDocument>;
  } {
    const tokenizing = new DocumentTokenizer(this.#tokenizer, this.#tokenizeOptions);
    return { tokenizing, documents: inOrder(this.#corpora, tokenizing, wanted) };
  }

  /** All documents in memory, for held-out ones. */
  async all(): Promise<TokenizedDocument[]> {
    const all: TokenizedDocument[] = [];
    for await (const document of this.documents().documents) all.push(document);
    return all;
  }
}

async function* inOrder(
  corpora: readonly WeightedCorpus<Document>[],
  tokenizing: DocumentTokenizer,
  wanted: (id: string) => boolean = () => true,
): AsyncGenerator<TokenizedDocument> {
  let none = true;
  for (const { corpus } of corpora) {
    for await (const { item } of corpus.read()) {
      if (!wanted(item.id)) continue;
      const document = tokenizing.take(item);
      if (document === undefined) continue;
      none = false;
      yield document;
    }
  }
  if (none && tokenizing.skipped > 0) throw tokenizing.noneOfUse();
}
