import { UserError } from '../errors.ts';
import type { BadRows } from './bad-rows.ts';
import type { ChatMessage, ChatTemplate } from './chat-template.ts';
import { idOf, textOf } from './document.ts';
import { fileHash } from './fingerprint.ts';
import { type DataCursor, DataLoader } from './loader.ts';
import { placeOf, type Row } from './row.ts';
import { messagesOf } from './sft-row.ts';
import { DEFAULT_SHUFFLE_BUFFER, type ReadSettings } from './text-data.ts';
import type { Tokenizer } from './tokenizer.ts';
import { badRowsOf, dataHashOf, openCorpora, type WeightedCorpus } from './weighted-corpora.ts';

/** A question and its answer, as read. */
export interface PromptRow {
  id: string;
  source: { file: string; row: number };
  /** Text, or a conversation that the assistant is to go on with. */
  prompt: string | ChatMessage[];
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
    prompt: Array.isArray(row.values[columns.prompt]) ? messagesOf(row, columns.prompt) : textOf(row, columns.prompt),
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

/** How prompts become tokens. */
export interface PromptOptions {
  tokenizer: Tokenizer;
  /** Undefined: the model has none. */
  chatTemplate: ChatTemplate | undefined;
  /** Prompts that are texts go through the template as a user's message; otherwise they are taken as they are. */
  promptsAreChat: boolean;
  /** Longer prompts are left out. */
  maxTokens: number;
}

/** Turns rows into tokens one by one, and keeps count of the prompts that are too long. */
class PromptTokenizer {
  readonly #options: PromptOptions;
  #example = '';
  skipped = 0;

  constructor(options: PromptOptions) {
    this.#options = options;
  }

  take = ({ id, prompt, answer, source }: PromptRow): PromptSample | undefined => {
    const tokens = this.#options.tokenizer.encode(this.#textOf(prompt, placeOf(source)));
    if (tokens.length <= this.#options.maxTokens) return { id, tokens, answer };
    if (this.skipped++ === 0) this.#example = `the first, ${placeOf(source)}, has ${tokens.length}`;
    return undefined;
  };

  #textOf(prompt: PromptRow['prompt'], place: string): string {
    const { chatTemplate, promptsAreChat } = this.#options;
    if (typeof prompt === 'string' && !promptsAreChat) return prompt;
    const messages = typeof prompt === 'string' ? [{ role: 'user', content: prompt }] : prompt;
    if (chatTemplate !== undefined) return chatTemplate.prompt(messages, place);
    throw new UserError(
      `${place}: a conversation needs a chat template, and the model has none (chat_template.jinja, or "chat_template" in ` +
        'tokenizer_config.json); give one with --chat-template FILE',
    );
  }

  noneOfUse = (): UserError =>
    new UserError(
      `the data has no prompts to use: none of the ${this.skipped} has at most ${this.#options.maxTokens} tokens (${this.#example}), which ` +
        "is what the model's positions leave beside a thought and an answer; lower --max-thought-tokens or " +
        '--max-completion-tokens',
    );
}

/** Questions with answers, drawn as they are needed. Prompts that are too long are left out and counted. */
export class PromptData {
  readonly #corpora: readonly WeightedCorpus<PromptRow>[];
  readonly #options: PromptOptions;
  readonly #settings: PromptSettings;
  readonly #drawing: PromptTokenizer;
  /** SHA-256 of the rows, their weights and the tokenizer. */
  readonly hash: string;
  /** The same, whatever the files are called. */
  readonly textHash: string;
  /** Names of the files with prompts that are named `FILE:ROW` after them. */
  readonly unnamed: readonly string[];
  /** SHA-256 of the tokenizer's file. */
  readonly tokenizerHash: string;
  readonly badRows: BadRows;
  /** What to tell the user of the files. */
  readonly notices: readonly string[];

  private constructor(
    corpora: readonly WeightedCorpus<PromptRow>[],
    options: PromptOptions,
    settings: PromptSettings,
    tokenizerHash: string,
  ) {
    this.#corpora = corpora;
    this.#options = options;
    this.#settings = settings;
    this.#drawing = new PromptTokenizer(options);
    this.tokenizerHash = tokenizerHash;
    const more = [tokenizerHash, options.chatTemplate?.source ?? ''];
    this.hash = dataHashOf(corpora, more);
    this.textHash = dataHashOf(corpora, more, 'textHash');
    this.unnamed = corpora.flatMap(({ corpus }) => corpus.unnamed);
    this.badRows = badRowsOf(corpora);
    this.notices = corpora.flatMap(({ corpus }) => corpus.notices);
  }

  /**
   * Goes through the files once, to check them.
   * @throws UserError for what cannot be read
   */
  static async open(
    patterns: readonly string[],
    options: PromptOptions,
    settings: PromptSettings,
  ): Promise<PromptData> {
    const { onBadRows = 'error', limit, idColumn = 'id', promptColumn, answerColumn } = settings;
    const named = { prompt: promptColumn, answer: answerColumn, id: idColumn };
    const corpora = await openCorpora(patterns, settings, {
      ...{ onBadRows, limit, columns: { text: promptColumn, all: Object.values(named) } },
      parse: (row) => promptRowOf(row, named),
    });
    return new PromptData(corpora, options, settings, await fileHash(options.tokenizer.path));
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
    return this.#loader(new PromptTokenizer(this.#options));
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
   * The prompts once, in their order.
   * @param wanted only those of these ids; the others are not tokenized
   * @throws UserError after the last one, if all of them are too long
   */
  async *prompts(wanted: (id: string) => boolean = () => true): AsyncGenerator<PromptSample> {
    const tokenizing = new PromptTokenizer(this.#options);
    let none = true;
    for (const { corpus } of this.#corpora) {
      for await (const { item } of corpus.read()) {
        const sample = wanted(item.id) ? tokenizing.take(item) : undefined;
        if (sample === undefined) continue;
        none = false;
        yield sample;
      }
    }
    if (none && tokenizing.skipped > 0) throw tokenizing.noneOfUse();
  }

  /** All prompts in memory, for held-out ones. */
  async all(): Promise<PromptSample[]> {
    const samples: PromptSample[] = [];
    for await (const sample of this.prompts()) samples.push(sample);
    return samples;
  }
}
