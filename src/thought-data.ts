import {
  checkTokenizerFits,
  choosePositions,
  fileHash,
  heldOutSettings,
  loadTokenizer,
  needsPosition,
  type PositionStrategy,
  type ReadSettings,
  TextData,
  type ThinkTokens,
  type TokenizedDocument,
  type Tokenizer,
} from './data/index.ts';
import { UserError } from './errors.ts';
import type { OpenModel } from './model-directory.ts';
import { type instruction, promptText } from './prompt.ts';
import type { PositionScore } from './reward/index.ts';
import { BranchRow, type RolloutDocument, type RolloutOptions } from './rollout/index.ts';

/** Settings of rollout and train that say where and how to think. */
export interface ThoughtSettings extends ReadSettings {
  seed: number;
  groupSize: number;
  positions: number;
  positionStrategy: PositionStrategy;
  positionStride: number;
  /** Tokens of a document before its last position, at most; undefined: what the model's positions hold. */
  maxContextTokens?: number | undefined;
  maxThoughtTokens: number;
  horizon: number;
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  /** 'none', 'instruction', or the text itself. */
  prompt: string;
  thinkOpen: string;
  thinkClose: string;
  slots?: number;
  documentsPerBatch: number;
  /** An answer is sampled behind the thought, in place of scoring the horizon. */
  completion?: CompletionSettings;
  /** What `prompt: 'instruction'` says; default: to think, and to go on with the text. */
  instruct?: typeof instruction;
}

/** How answers are sampled. */
export interface CompletionSettings {
  /** Whether there is a thought before the answer. */
  thought: boolean;
  maxTokens: number;
  /** Texts that end an answer. */
  stop: readonly string[];
}

/** Tokenizer, delimiters and sampling settings of a model, and its data as documents to think about. */
export class ThoughtData {
  readonly tokenizer: Tokenizer;
  readonly #settings: ThoughtSettings;
  readonly #think: ThinkTokens;
  readonly #prompt: Int32Array;
  /** Tokens before the last position at which there is room to think, and that the settings allow. */
  readonly maxContextTokens: number;

  private constructor(tokenizer: Tokenizer, settings: ThoughtSettings, maxPositions: number) {
    this.tokenizer = tokenizer;
    this.#settings = settings;
    this.#think = tokenizer.thinkTokens(settings.thinkOpen, settings.thinkClose);
    const { maxContextTokens = Infinity, maxThoughtTokens, horizon, completion } = settings;
    this.#prompt = encodePrompt(tokenizer, settings);
    const room =
      maxPositions -
      this.#prompt.length -
      BranchRow.capacity(
        { ...this.#think, maxThoughtTokens, completion: completion && { ...completion, stop: this.stopsAnswer } },
        horizon,
      );
    this.maxContextTokens = Math.min(room, maxContextTokens);
    if (room < 1) {
      const prompt = this.#prompt.length === 0 ? '' : `, ${this.#prompt.length} tokens of --prompt`;
      const rest =
        completion === undefined ? `--horizon ${horizon}` : `--max-completion-tokens ${completion.maxTokens}`;
      const limits =
        completion?.thought === false
          ? `${rest}:${prompt === '' ? '' : ` with${prompt.slice(1)}`} this`
          : `--max-thought-tokens ${maxThoughtTokens}: with the delimiters${prompt} and ${rest} this`;
      throw new UserError(
        `${limits} leaves no room for text in the model's ${maxPositions} positions; choose a smaller one`,
      );
    }
  }

  static async open(model: OpenModel, settings: ThoughtSettings): Promise<ThoughtData> {
    const tokenizer = await loadTokenizer(model.directory);
    checkTokenizerFits(tokenizer, model.config.vocabSize);
    return new ThoughtData(tokenizer, settings, model.config.maxPositions);
  }

  /** Tokens around a thought. */
  get delimiters(): { open: readonly number[]; close: readonly number[] } {
    return this.#think;
  }

  /** What the user should know of the settings. */
  get notices(): string[] {
    const { thinkOpen, thinkClose, completion } = this.#settings;
    const notice = completion?.thought === false ? undefined : this.tokenizer.delimiterNotice(thinkOpen, thinkClose);
    return notice === undefined ? [] : [notice];
  }

  /** What to say of a document that was cut to what the model's positions hold. */
  truncationNotice(id: string): string {
    const { maxThoughtTokens, horizon, completion } = this.#settings;
    const prompt = this.#prompt.length === 0 ? '' : `${this.#prompt.length} tokens of --prompt and `;
    const rest = completion === undefined ? '' : ` and an answer of ${completion.maxTokens}`;
    return (
      `document ${id} is cut to its first ${this.maxContextTokens + horizon} tokens, and so are others that are longer: beside ` +
      `${prompt}a thought of ${maxThoughtTokens}${rest} the model's positions hold no more; a smaller --max-thought-tokens ` +
      'leaves more of them'
    );
  }

  /**
   * Documents with at least one position, drawn as they are needed; longer ones are cut to the context that the settings allow,
   * and to what the model's positions hold beside a thought.
   */
  documents(files: readonly string[]): Promise<TextData> {
    return this.#open(files, this.#settings);
  }

  /** Documents to measure on. */
  heldOut(files: readonly string[]): Promise<TextData> {
    return this.#open(files, heldOutSettings(this.#settings));
  }

  #open(files: readonly string[], settings: ReadSettings): Promise<TextData> {
    const { positionStrategy, horizon } = this.#settings;
    return TextData.open(files, this.tokenizer, settings, {
      maxContextTokens: this.maxContextTokens + horizon,
      requirement: needsPosition(positionStrategy, { horizon }),
    });
  }

  /** What positions are chosen by, where a forward pass has to tell. */
  get positionScore(): PositionScore | undefined {
    const { positionStrategy } = this.#settings;
    return positionStrategy === 'entropy' || positionStrategy === 'surprise' ? positionStrategy : undefined;
  }

  /**
   * A document behind the prompt, and the positions at which to think in a step.
   * @param scores of `positionScore`, [tokens of the document]; without them such positions are uniform ones, as an evaluation
   *   wants them, whose positions must not depend on the weights
   * @param allowed leaves out positions
   */
  withPositions(
    document: TokenizedDocument,
    step: number,
    scores?: ArrayLike<number>,
    allowed?: (position: number) => boolean,
  ): RolloutDocument {
    const { positionStrategy, positions: count, positionStride: stride, horizon, seed } = this.#settings;
    const strategy = this.positionScore !== undefined && scores === undefined ? 'uniform' : positionStrategy;
    const positions = choosePositions(strategy, document, { count, stride, horizon, seed, step, scores, allowed });
    return this.placedAt(document, positions);
  }

  /** A document behind the prompt, to think at `positions` of its own tokens. */
  placedAt({ id, tokens }: TokenizedDocument, positions: readonly number[]): RolloutDocument {
    const promptTokens = this.#prompt.length;
    if (promptTokens === 0) return { id, tokens, positions };
    return {
      id,
      tokens: Int32Array.from([...this.#prompt, ...tokens]),
      positions: positions.map((position) => position + promptTokens),
      promptTokens,
    };
  }

  /**
   * Documents with their positions, in their order, as they are asked for. Where a forward pass has to tell the positions, it
   * is run for `batchSize` documents at a time.
   */
  async *place(
    documents: Iterable<TokenizedDocument> | AsyncIterable<TokenizedDocument>,
    step: number,
    score: (documents: readonly ArrayLike<number>[], kind: PositionScore) => Promise<Float32Array[]>,
  ): AsyncGenerator<RolloutDocument> {
    const kind = this.positionScore;
    let batch: TokenizedDocument[] = [];
    const placed = async () => {
      const scores =
        kind &&
        (await score(
          batch.map(({ tokens }) => tokens),
          kind,
        ));
      const ready = batch.map((document, i) => this.withPositions(document, step, scores?.[i]));
      batch = [];
      return ready;
    };
    for await (const document of documents) {
      batch.push(document);
      if (batch.length === this.#settings.documentsPerBatch) yield* await placed();
    }
    yield* await placed();
  }

  rolloutOptions(step: number): RolloutOptions {
    const { groupSize, maxThoughtTokens, horizon, temperature, topK, topP, minP, seed, documentsPerBatch, slots } =
      this.#settings;
    const { completion } = this.#settings;
    return {
      ...(completion && { completion: { ...completion, stop: this.stopsAnswer } }),
      ...this.#think,
      endOfText: this.endOfText,
      ...{ groupSize, maxThoughtTokens, horizon, temperature, topK, topP, minP, seed, step, documentsPerBatch },
      rowsPerDocument: slots ?? Number.POSITIVE_INFINITY,
    };
  }

  /** Whether a stop ends within the last token: it is then in the text of as many tokens as it has bytes. */
  stopsAnswer = (tokens: readonly number[]): boolean =>
    (this.#settings.completion?.stop ?? []).some((text) =>
      this.decode(tokens.slice(-Buffer.byteLength(text))).includes(text),
    );

  /** The text of an answer, without an end of text and up to the first stop. */
  answerText(tokens: readonly number[]): string {
    return this.#beforeStop(this.decode(this.#withoutEnd(tokens)), (text) => text);
  }

  /**
   * The bytes of an answer, without an end of text and up to the first stop.
   * @throws UserError if the tokenizer is not byte-level
   */
  answerBytes(tokens: readonly number[]): Uint8Array {
    const bytes = Buffer.concat(this.bytesOf(this.#withoutEnd(tokens))).toString('latin1');
    return Buffer.from(
      this.#beforeStop(bytes, (text) => Buffer.from(text).toString('latin1')),
      'latin1',
    );
  }

  /**
   * Bytes of each token; of ids without a token, which a model may sample, a byte that no UTF-8 has.
   * @throws UserError if the tokenizer is not byte-level
   */
  bytesOf(tokens: ArrayLike<number>): Uint8Array[] {
    return Array.from(tokens, (token) => {
      if (this.tokenizer.tokenOf(token) === undefined) return Uint8Array.of(0xff);
      const bytes = this.tokenizer.bytesOf(token);
      if (bytes !== undefined) return bytes;
      throw new UserError(
        `${this.tokenizer.path}: token ${token} has no bytes; comparing texts byte by byte needs a byte-level tokenizer`,
      );
    });
  }

  #withoutEnd(tokens: readonly number[]): number[] {
    return tokens.filter((token) => !this.endOfText.includes(token));
  }

  #beforeStop(text: string, spelled: (stop: string) => string): string {
    const ends = (this.#settings.completion?.stop ?? []).map((stop) => text.indexOf(spelled(stop)));
    return text.slice(0, Math.min(text.length, ...ends.filter((end) => end >= 0)));
  }

  /** Tokens that end a text. */
  get endOfText(): readonly number[] {
    return this.tokenizer.endOfText;
  }

  decode = (tokens: ArrayLike<number>): string => this.tokenizer.decode(tokens);
}

/** UserError unless another model can read what was tokenized for `model`. */
export async function checkSameTokenizer(model: OpenModel, other: OpenModel): Promise<void> {
  const [expected, found] = await Promise.all([loadTokenizer(model.directory), loadTokenizer(other.directory)]);
  if ((await fileHash(expected.path)) !== (await fileHash(found.path))) {
    throw new UserError(`${found.path}: is not the tokenizer of ${model.directory}; the two models need the same one`);
  }
  checkTokenizerFits(found, other.config.vocabSize);
  if (other.config.maxPositions < model.config.maxPositions) {
    throw new UserError(
      `${other.directory}: has ${other.config.maxPositions} positions, fewer than the ${model.config.maxPositions} of ` +
        `${model.directory}, and could not read all that is written for it`,
    );
  }
}

/** Tokenizers may leave out what their vocabulary lacks, so the prompt is read back. */
function encodePrompt(tokenizer: Tokenizer, { prompt, thinkOpen, thinkClose, instruct }: ThoughtSettings): Int32Array {
  const text = promptText(prompt, thinkOpen, thinkClose, instruct);
  const ids = tokenizer.encode(text);
  const read = tokenizer.decode(ids);
  if (read.normalize() === text.normalize()) return ids;
  throw new UserError(
    `--prompt: the vocabulary of ${tokenizer.path} cannot spell it, and makes ${JSON.stringify(read)} of it; word it otherwise, or leave it out: --prompt none`,
  );
}
