import type { BadRows } from './bad-rows.ts';
import { fileHash } from './fingerprint.ts';
import { type DataCursor, DataLoader } from './loader.ts';
import { SFT_COLUMNS, SftLayout } from './sft-columns.ts';
import { type SftRow, sftRowOf } from './sft-row.ts';
import { type SftOptions, type SftSample, SftTokenizer } from './sft-sample.ts';
import { DEFAULT_SHUFFLE_BUFFER, type ReadSettings } from './text-data.ts';
import { badRowsOf, dataHashOf, openCorpora, type WeightedCorpus } from './weighted-corpora.ts';

/** Settings that say which rows are read, and how; the names of columns as in SFT_COLUMNS unless they are given. */
export interface SftSettings extends ReadSettings {
  messagesColumn?: string;
  promptColumn?: string;
  responseColumn?: string;
  thoughtColumn?: string;
  prefixColumn?: string;
  targetColumn?: string;
  positionColumn?: string;
}

function layoutOf(settings: SftSettings): SftLayout {
  return new SftLayout({
    messages: settings.messagesColumn ?? SFT_COLUMNS.messages,
    prompt: settings.promptColumn ?? SFT_COLUMNS.prompt,
    response: settings.responseColumn ?? SFT_COLUMNS.response,
    thought: settings.thoughtColumn ?? SFT_COLUMNS.thought,
    prefix: settings.prefixColumn ?? SFT_COLUMNS.prefix,
    target: settings.targetColumn ?? SFT_COLUMNS.target,
    text: settings.textColumn ?? SFT_COLUMNS.text,
    position: settings.positionColumn ?? SFT_COLUMNS.position,
  });
}

/** The examples of some files as sequences, drawn as they are needed. */
export class SftData {
  readonly #corpora: readonly WeightedCorpus<SftRow>[];
  readonly #options: SftOptions;
  readonly #settings: SftSettings;
  readonly #counts: SftTokenizer;
  /** SHA-256 of the examples, their weights and the tokenizer. */
  readonly hash: string;
  readonly badRows: BadRows;
  /** What to tell the user of the files. */
  readonly notices: readonly string[];
  /** Examples with something to train on. */
  readonly size: number;

  private constructor(
    corpora: readonly WeightedCorpus<SftRow>[],
    options: SftOptions,
    settings: SftSettings,
    { counts, size, hash }: { counts: SftTokenizer; size: number; hash: string },
  ) {
    this.#corpora = corpora;
    this.#options = options;
    this.#settings = settings;
    this.#counts = counts;
    this.hash = hash;
    this.badRows = badRowsOf(corpora);
    this.notices = corpora.flatMap(({ corpus }) => corpus.notices);
    this.size = size;
  }

  /**
   * Goes through the files and makes each example a sequence once, to check and count them.
   * @throws UserError for what cannot be read, a conversation that the chat template refuses, data without a response
   */
  static async open(patterns: readonly string[], options: SftOptions, settings: SftSettings): Promise<SftData> {
    const { onBadRows = 'error', limit } = settings;
    const layout = layoutOf(settings);
    const corpora = await openCorpora(patterns, settings, {
      ...{ onBadRows, limit, columns: { text: layout.columns.text, all: layout.all } },
      parse: (row) => sftRowOf(row, layout),
    });
    const counts = new SftTokenizer(options);
    let size = 0;
    for (const { corpus } of corpora) {
      for await (const { item } of corpus.read()) if (counts.take(item) !== undefined) size++;
    }
    if (size === 0) throw counts.noneOfUse();
    const hash = dataHashOf(corpora, [await fileHash(options.tokenizer.path), options.chatTemplate?.source ?? '']);
    return new SftData(corpora, options, settings, { counts, size, hash });
  }

  /** Draws examples without an end, in an order that depends on the seed. */
  loader(cursor?: DataCursor): DataLoader<SftRow, SftSample[]> {
    const { take: prepare, noneOfUse } = new SftTokenizer(this.#options);
    const { seed = 0, shuffleBuffer = DEFAULT_SHUFFLE_BUFFER } = this.#settings;
    return new DataLoader(this.#corpora, { seed, shuffleBuffer, prepare, noneOfUse, cursor });
  }

  /** What becomes of the examples: left out, because there is nothing to train on, and sequences that are cut. */
  get drawn(): { skipped: number; truncated: number } {
    const { skipped, truncated } = this.#counts;
    return { skipped, truncated };
  }

  /** All sequences in memory, for held-out ones. */
  async all(): Promise<SftSample[]> {
    const tokenizer = new SftTokenizer(this.#options);
    const samples: SftSample[] = [];
    for (const { corpus } of this.#corpora) {
      for await (const { item } of corpus.read()) samples.push(...(tokenizer.take(item) ?? []));
    }
    return samples;
  }
}
