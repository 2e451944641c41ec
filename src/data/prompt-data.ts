import { UserError } from '../errors.ts';
import type { BadRows } from './corpus.ts';
import { idOf, textOf } from './document.ts';
import { fileHash } from './fingerprint.ts';
import { type DataCursor, DataLoader } from './loader.ts';
import { placeOf, type Row } from './row.ts';
import { DEFAULT_SHUFFLE_BUFFER, type ReadSettings } from './text-data.ts';
import type { Tokenizer } from './tokenizer.ts';
import { badRowsOf, dataHashOf, openCorpora, type WeightedCorpus } from './weighted-corpora.ts';

/** A question and its answer, as read. */
export interface PromptRow {
  id: string;
  source: { file: string; row: number };
  prompt: string;
  answer: string;
}

/** A question as tokens. */
export interface PromptSample {
  id: string;
  tokens: Int32Array;
  answer: string;
}

/** Names of the columns that make a question with an answer. */
export interface PromptColumns {
  prompt: string;
  answer: string;
  id: string;
}

/** @throws UserError that names file, row and column, and what was expected and found */
export function promptRowOf(row: Row, columns: PromptColumns): PromptRow {
  return {
    id: idOf(row, columns.id),
    source: { file: row.file, row: row.row },
    prompt: textOf(row, columns.prompt),
    answer: answerOf(row, columns.answer),
  };
}

/** An answer may be given as a number. */
function answerOf(row: Row, column: string): string {
  const value = row.values[column];
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  return textOf(row, column);
}

export interface PromptSettings extends ReadSettings {
  promptColumn: string;
  answerColumn: string;
}

/** Turns rows into tokens one by one, and keeps count of the prompts that are too long. */
class PromptTokenizer {
  readonly #tokenizer: Tokenizer;
  readonly #maxTokens: number;
  #example = '';
  skipped = 0;

  constructor(tokenizer: Tokenizer, maxTokens: number) {
    this.#tokenizer = tokenizer;
    this.#maxTokens = maxTokens;
  }

  take = ({ id, prompt, answer, source }: PromptRow): PromptSample | undefined => {
    const tokens = this.#tokenizer.encode(prompt);
    if (tokens.length <= this.#maxTokens) return { id, tokens, answer };
    if (this.skipped++ === 0) this.#example = `the first, ${placeOf(source)}, has ${tokens.length}`;
    return undefined;
  };

  noneOfUse = (): UserError =>
    new UserError(
      `the data has no prompts to use: none of the ${this.skipped} has at most ${this.#maxTokens} tokens (${this.#example}), which ` +
        "is what the model's positions leave beside a thought and an answer; lower --max-thought-tokens or " +
        '--max-completion-tokens',
    );
}

/** Questions with answers, drawn as they are needed. Prompts that are too long are left out and counted. */
export class PromptData {
  readonly #corpora: readonly WeightedCorpus<PromptRow>[];
  readonly #tokenizer: Tokenizer;
  readonly #settings: PromptSettings;
  readonly #maxTokens: number;
  readonly #drawing: PromptTokenizer;
  /** SHA-256 of the rows, their weights and the tokenizer. */
  readonly hash: string;
  /** SHA-256 of the tokenizer's file. */
  readonly tokenizerHash: string;
  readonly badRows: BadRows;

  private constructor(
    corpora: readonly WeightedCorpus<PromptRow>[],
    tokenizer: Tokenizer,
    settings: PromptSettings,
    maxTokens: number,
    tokenizerHash: string,
  ) {
    this.#corpora = corpora;
    this.#tokenizer = tokenizer;
    this.#settings = settings;
    this.#maxTokens = maxTokens;
    this.#drawing = new PromptTokenizer(tokenizer, maxTokens);
    this.tokenizerHash = tokenizerHash;
    this.hash = dataHashOf(corpora, [tokenizerHash]);
    this.badRows = badRowsOf(corpora);
  }

  /**
   * Goes through the files once, to check them.
   * @param maxTokens of a prompt
   * @throws UserError for what cannot be read
   */
  static async open(
    patterns: readonly string[],
    tokenizer: Tokenizer,
    settings: PromptSettings,
    maxTokens: number,
  ): Promise<PromptData> {
    const { onBadRows = 'error', limit, idColumn = 'id', promptColumn, answerColumn } = settings;
    const named = { prompt: promptColumn, answer: answerColumn, id: idColumn };
    const corpora = await openCorpora(patterns, settings, {
      ...{ onBadRows, limit, columns: { text: promptColumn, all: Object.values(named) } },
      parse: (row) => promptRowOf(row, named),
    });
    return new PromptData(corpora, tokenizer, settings, maxTokens, await fileHash(tokenizer.path));
  }

  get size(): number {
    return this.#corpora.reduce((sum, { corpus }) => sum + corpus.size, 0);
  }

  /** Draws prompts without an end, in an order that depends on the seed. */
  loader(cursor?: DataCursor): DataLoader<PromptRow, PromptSample> {
    return this.#loader(this.#drawing, cursor);
  }

  /** A loader for a look at what `loader` will draw; it counts for nothing. */
  preview(): DataLoader<PromptRow, PromptSample> {
    return this.#loader(new PromptTokenizer(this.#tokenizer, this.#maxTokens));
  }

  #loader({ take: prepare, noneOfUse }: PromptTokenizer, cursor?: DataCursor) {
    const { seed = 0, shuffleBuffer = DEFAULT_SHUFFLE_BUFFER } = this.#settings;
    return new DataLoader(this.#corpora, { seed, shuffleBuffer, prepare, noneOfUse, cursor });
  }

  /** What became of the prompts that the loaders have drawn so far. */
  get drawn(): { skipped: number; truncated: number } {
    return { skipped: this.#drawing.skipped, truncated: 0 };
  }

  /**
   * All prompts in memory, for held-out ones.
   * @throws UserError if none is of use
   */
  async all(): Promise<PromptSample[]> {
    const tokenizing = new PromptTokenizer(this.#tokenizer, this.#maxTokens);
    const samples: PromptSample[] = [];
    for (const { corpus } of this.#corpora) {
      for await (const { item } of corpus.read()) {
        const sample = tokenizing.take(item);
        if (sample !== undefined) samples.push(sample);
      }
    }
    if (samples.length === 0) throw tokenizing.noneOfUse();
    return samples;
  }
}
