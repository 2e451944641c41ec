import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Tokenizer as HubTokenizer } from '@huggingface/tokenizers';
import { messageOf, UserError } from '../errors.ts';
import { errnoOf, fileError } from '../file-error.ts';
import { bytesOfToken } from './byte-level.ts';

/** Tokens of a text, and where they stand in it. */
export interface AlignedTokens {
  ids: Int32Array;
  /** UTF-8 byte, in the text as the tokenizer normalizes it (Qwen3: NFC), at which each token starts; not decreasing. */
  byteStarts: Int32Array;
  /** The tokenizer's normalization; the identity for many. */
  normalize: (text: string) => string;
}

/** Tokens that open and close a thought; one each where the vocabulary has one. */
export interface ThinkTokens {
  open: readonly number[];
  close: readonly number[];
}

/**
 * Tokenizer of a model directory: its tokenizer.json, with the names of special tokens from tokenizer_config.json.
 *
 * No token is added at either end of a text. A special token that is spelled out in a text becomes that token, as in
 * transformers.
 */
export class Tokenizer {
  readonly #tokenizer: HubTokenizer;
  /** File the tokenizer came from, for messages. */
  readonly path: string;
  /** Largest token id + 1; a model may have more embedding rows. */
  readonly vocabSize: number;
  /** Ids of the tokens matched as a whole (tokenizer.json's added_tokens), by text. */
  readonly specialTokens: ReadonlyMap<string, number>;
  /** End of a document; undefined if the tokenizer names none. */
  readonly eosId: number | undefined;
  /** Tokens that end a generated text: that one, and those of generation_config.json. */
  readonly endOfText: readonly number[];
  /** Undefined if the tokenizer names none. */
  readonly padId: number | undefined;

  /**
   * @param tokenizer content of tokenizer.json
   * @param config content of tokenizer_config.json
   * @param ends further tokens that end a text
   * @throws UserError if they do not describe a tokenizer
   */
  constructor(
    path: string,
    tokenizer: Record<string, unknown>,
    config: Record<string, unknown> = {},
    ends: readonly number[] = [],
  ) {
    try {
      // Files may leave the list out, the library wants it.
      this.#tokenizer = new HubTokenizer({ ...tokenizer, added_tokens: tokenizer.added_tokens ?? [] }, config);
    } catch (cause) {
      throw new UserError(
        `${path}: not a tokenizer that can be used here (${messageOf(cause)}). ` +
          'Expected the tokenizer.json that transformers saves beside a model',
        { cause },
      );
    }
    this.path = path;
    const added: ReadonlyMap<number, { content: string }> = this.#tokenizer.get_added_tokens_decoder();
    this.specialTokens = new Map([...added].map(([id, { content }]) => [content, id]));
    let largest = -1;
    for (const id of this.#tokenizer.get_vocab().values()) largest = Math.max(largest, id);
    this.vocabSize = largest + 1;
    const named = (key: string): number | undefined => {
      const name = contentOf(config[key]);
      return name === undefined ? undefined : this.#tokenizer.token_to_id(name);
    };
    this.eosId = named('eos_token');
    this.padId = named('pad_token');
    this.endOfText = [...new Set([...(this.eosId === undefined ? [] : [this.eosId]), ...ends])];
  }

  /** Token ids of a text. Throws a UserError for a character that the vocabulary cannot express. */
  encode(text: string): Int32Array {
    return this.#encode(text).ids;
  }

  #encode(text: string): { ids: Int32Array; tokens: readonly string[] } {
    if (text === '') return { ids: new Int32Array(0), tokens: [] };
    const encoding: { ids: readonly number[]; tokens: readonly string[] } = this.#tokenizer.encode(text, {
      add_special_tokens: false,
    });
    const { ids, tokens } = encoding;
    // Where the vocabulary has no <unk>, the library gives undefined whatever its types say.
    const missing = ids.findIndex((id) => !Number.isInteger(id));
    if (missing >= 0) throw new UserError(`${this.path}: the vocabulary has no token for "${tokens[missing]}"`);
    return { ids: Int32Array.from(ids), tokens };
  }

  /**
   * Token ids and the byte at which each starts; a token may start inside a character.
   * @throws UserError if the tokenizer is not byte-level, or changes the text in ways that cannot be followed
   */
  encodeWithOffsets(text: string): AlignedTokens {
    const { ids, tokens } = this.#encode(text);
    const { normalizer } = this.#tokenizer;
    const normalize = (part: string) => (normalizer === null ? part : normalizer.normalize(part));
    const expected = Buffer.from(normalize(text));
    const byteStarts = new Int32Array(ids.length);
    let end = 0;
    const lost = tokens.findIndex((token, i) => {
      const bytes = this.specialTokens.has(token) ? Buffer.from(token) : bytesOfToken(token);
      byteStarts[i] = end;
      if (bytes === undefined || !expected.subarray(end, end + bytes.length).equals(bytes)) return true;
      end += bytes.length;
      return false;
    });
    if (lost >= 0 || end !== expected.length) {
      const where = lost >= 0 ? `token ${lost} ("${tokens[lost]}")` : 'the last token';
      throw new UserError(
        `${this.path}: from ${where} on, the tokens of a text do not spell it: "positions" need a byte-level ` +
          'tokenizer. Choose another --position-strategy than column',
      );
    }
    return { ids, byteStarts, normalize };
  }

  /** Text of token ids; special tokens are spelled out, ids without a token and broken characters become U+FFFD. */
  decode(ids: ArrayLike<number>): string {
    let text = '';
    let known: number[] = [];
    const flush = () => {
      if (known.length === 0) return;
      text += this.#tokenizer.decode(known, { skip_special_tokens: false, clean_up_tokenization_spaces: false });
      known = [];
    };
    for (let i = 0; i < ids.length; i++) {
      // A model may sample a padding row of its embedding, which no token belongs to.
      if (this.#tokenizer.id_to_token(ids[i]) !== undefined) known.push(ids[i]);
      else {
        flush();
        text += '\ufffd';
      }
    }
    flush();
    return text;
  }

  /** Bytes of a token; undefined where the vocabulary is not byte-level, or has no token of this id. */
  bytesOf(id: number): Uint8Array | undefined {
    const token = this.tokenOf(id);
    if (token === undefined) return undefined;
    return this.specialTokens.has(token) ? Buffer.from(token) : bytesOfToken(token);
  }

  /** Vocabulary entry of an id, as tokenizer.json writes it. */
  tokenOf(id: number): string | undefined {
    return this.#tokenizer.id_to_token(id);
  }

  /**
   * The tokens that open and close a thought: one each where they are tokens of the vocabulary, otherwise those that spell
   * them on their own.
   * @throws UserError if they are the same, or the vocabulary cannot spell them
   */
  thinkTokens(open = '<think>', close = '</think>'): ThinkTokens {
    if (open === close)
      throw new UserError(`--think-open and --think-close are both "${open}": a thought could not end`);
    return { open: this.#delimiter('--think-open', open), close: this.#delimiter('--think-close', close) };
  }

  /** What to say of delimiters that are no tokens of their own; undefined if both are. */
  delimiterNotice(open: string, close: string): string | undefined {
    const ids = this.thinkTokens(open, close);
    const spelled = [
      { flag: '--think-open', text: open, count: ids.open.length },
      { flag: '--think-close', text: close, count: ids.close.length },
    ].filter(({ count }) => count > 1);
    if (spelled.length === 0) return undefined;
    const list = spelled.map(({ flag, text, count }) => `${flag} "${text}" is spelled with ${count} tokens`);
    return (
      `${list.join(', ')}: the vocabulary of ${this.path} has no token for it. A delimiter of one token costs less and is found ` +
      `more easily by the model: choose others with --think-open and --think-close.${this.#delimiterHint}`
    );
  }

  #delimiter(flag: string, text: string): readonly number[] {
    const ids = this.#spelling(text);
    if (ids !== undefined) return ids;
    throw new UserError(
      `${flag} "${text}": the vocabulary of ${this.path} cannot spell it. Delimit thoughts by text that it can, with ` +
        `--think-open and --think-close.${this.#delimiterHint}`,
    );
  }

  get #delimiterHint(): string {
    const candidates = [...this.specialTokens.keys()].filter((token) => /think|thought|reason/i.test(token));
    return candidates.length > 0 ? ` It has special tokens such as ${candidates.slice(0, 6).join(' ')}` : '';
  }

  /** Tokens that decode to this very text; undefined if there are none (say, an unknown token for a character). */
  #spelling(text: string): readonly number[] | undefined {
    try {
      const ids = Array.from(this.encode(text));
      return this.decode(ids) === text ? ids : undefined;
    } catch (thrown) {
      if (thrown instanceof UserError) return undefined;
      throw thrown;
    }
  }
}

const GENERATION = 'generation_config.json';

/** Name of a special token in tokenizer_config.json: a string or an added token's object. */
function contentOf(value: unknown): string | undefined {
  const content = typeof value === 'object' && value !== null && 'content' in value ? value.content : value;
  return typeof content === 'string' ? content : undefined;
}

async function readJsonObject(path: string): Promise<Record<string, unknown>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    throw fileError('cannot read', path, thrown);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new UserError(`${path}: not valid JSON (${messageOf(cause)}). Is the download complete?`, { cause });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new UserError(`${path}: expected a JSON object`);
  }
  return { ...value };
}

const isMissingFile = (thrown: unknown): boolean => thrown instanceof UserError && errnoOf(thrown.cause) === 'ENOENT';

/**
 * Tokenizer of a model directory.
 * @throws UserError if tokenizer.json is missing or cannot be used
 */
export async function loadTokenizer(directory: string): Promise<Tokenizer> {
  const path = join(directory, 'tokenizer.json');
  const tokenizer = await readJsonObject(path).catch((thrown: unknown) => {
    if (!isMissingFile(thrown)) throw thrown;
    throw new UserError(
      `${path}: no such file. Expected the tokenizer of the model there: copy tokenizer.json and ` +
        'tokenizer_config.json, or write them with AutoTokenizer.from_pretrained(...).save_pretrained(...)',
      { cause: thrown },
    );
  });
  const config = await readJsonObject(join(directory, 'tokenizer_config.json')).catch((thrown: unknown) => {
    if (isMissingFile(thrown)) return {};
    throw thrown;
  });
  return new Tokenizer(path, tokenizer, config, await readEndsOfText(join(directory, GENERATION)));
}

/** eos_token_id of generation_config.json, a token id or a list of them; none if there is no such file. */
async function readEndsOfText(path: string): Promise<readonly number[]> {
  const { eos_token_id: ids = null } = await readJsonObject(path).catch((thrown: unknown): Record<string, unknown> => {
    if (isMissingFile(thrown)) return {};
    throw thrown;
  });
  if (ids === null) return [];
  const isId = (id: unknown): id is number => Number.isInteger(id) && Number(id) >= 0;
  const list: readonly unknown[] = Array.isArray(ids) ? ids : [ids];
  if (!list.every(isId)) {
    throw new UserError(`${path}: eos_token_id is ${JSON.stringify(ids)}: expected a token id or a list of token ids`);
  }
  return list;
}

/**
 * Checks that every token has a row in the model's embedding. More rows than tokens are fine: models pad them.
 * @throws UserError otherwise
 */
export function checkTokenizerFits(tokenizer: Tokenizer, vocabSize: number): void {
  if (tokenizer.vocabSize > vocabSize) {
    const largest = tokenizer.vocabSize - 1;
    throw new UserError(
      `${tokenizer.path}: the tokenizer has ids up to ${largest} ("${tokenizer.tokenOf(largest)}"), but the model's ` +
        `embedding has only ${vocabSize} rows. Use the tokenizer that belongs to the model`,
    );
  }
  const foreign = tokenizer.endOfText.find((id) => id >= vocabSize);
  if (foreign !== undefined) {
    throw new UserError(
      `${join(dirname(tokenizer.path), GENERATION)}: eos_token_id ${foreign} is no token of the model, whose ids go from 0 to ` +
        `${vocabSize - 1}. Use the file that belongs to the model`,
    );
  }
}
