import {
  checkTokenizerFits,
  choosePositions,
  loadTokenizer,
  needsPosition,
  type PositionStrategy,
  readDocuments,
  type ThinkTokens,
  type TokenizedData,
  type TokenizedDocument,
  type Tokenizer,
  tokenizeDocuments,
} from './data/index.ts';
import { UserError } from './errors.ts';
import type { OpenModel } from './model-directory.ts';
import { BranchRow, type RolloutDocument, type RolloutOptions } from './rollout/index.ts';

/** Settings of rollout and train that say where and how to think. */
export interface ThoughtSettings {
  groupSize: number;
  positions: number;
  positionStrategy: PositionStrategy;
  maxThoughtTokens: number;
  horizon: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  thinkOpen: string;
  thinkClose: string;
  seed: number;
  limit?: number;
  slots?: number;
  documentsPerBatch: number;
}

/** Tokenizer, delimiters and sampling settings of a model, and its data as documents to think about. */
export class ThoughtData {
  readonly tokenizer: Tokenizer;
  readonly #settings: ThoughtSettings;
  readonly #think: ThinkTokens;
  readonly #maxContextTokens: number;

  private constructor(tokenizer: Tokenizer, settings: ThoughtSettings, maxPositions: number) {
    this.tokenizer = tokenizer;
    this.#settings = settings;
    this.#think = tokenizer.thinkTokens(settings.thinkOpen, settings.thinkClose);
    const { maxThoughtTokens, horizon } = settings;
    this.#maxContextTokens = maxPositions - BranchRow.capacity({ ...this.#think, maxThoughtTokens }, horizon);
    if (this.#maxContextTokens < 1) {
      throw new UserError(
        `--max-thought-tokens ${maxThoughtTokens}: with the delimiters and --horizon ${horizon} this leaves no room for text ` +
          `in the model's ${maxPositions} positions; choose a smaller one`,
      );
    }
  }

  static async open(model: OpenModel, settings: ThoughtSettings): Promise<ThoughtData> {
    const tokenizer = await loadTokenizer(model.directory);
    checkTokenizerFits(tokenizer, model.config.vocabSize);
    return new ThoughtData(tokenizer, settings, model.config.maxPositions);
  }

  /** Tokens of the opening delimiter. */
  get open(): readonly number[] {
    return this.#think.open;
  }

  /** Documents with at least one position; longer ones are cut to what the model's positions hold beside a thought. */
  read(files: readonly string[]): Promise<TokenizedData> {
    const { positionStrategy, horizon, limit } = this.#settings;
    return tokenizeDocuments(readDocuments(files, { limit }), this.tokenizer, {
      maxContextTokens: this.#maxContextTokens + horizon,
      requirement: needsPosition(positionStrategy, { horizon }),
    });
  }

  /** The positions at which to think in a step. */
  withPositions(document: TokenizedDocument, step: number): RolloutDocument {
    const { positionStrategy, positions: count, horizon, seed } = this.#settings;
    const positions = choosePositions(positionStrategy, document, { count, horizon, seed, step });
    return { id: document.id, tokens: document.tokens, positions };
  }

  rolloutOptions(step: number): RolloutOptions {
    const { groupSize, maxThoughtTokens, horizon, temperature, topK, topP, minP, seed, documentsPerBatch, slots } =
      this.#settings;
    return {
      ...this.#think,
      endOfText: this.tokenizer.eosId === undefined ? [] : [this.tokenizer.eosId],
      ...{ groupSize, maxThoughtTokens, horizon, temperature, topK, topP, minP, seed, step, documentsPerBatch },
      rowsPerDocument: slots ?? Number.POSITIVE_INFINITY,
    };
  }

  decode = (tokens: ArrayLike<number>): string => this.tokenizer.decode(tokens);
}
