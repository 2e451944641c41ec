import { UserError } from '../errors.ts';
import type { ChatSegment, ChatTemplate } from './chat-template.ts';
import { placeOf } from './row.ts';
import type { SftRow } from './sft-row.ts';
import type { ThinkTokens, Tokenizer } from './tokenizer.ts';

/** A sequence to train on. */
export interface SftSample {
  tokens: Int32Array;
  /** Indices of the tokens that are targets of the loss, ascending, from 1 on. */
  targets: number[];
}

/** How examples become sequences. */
export interface SftOptions {
  tokenizer: Tokenizer;
  /** Undefined: the model has none. */
  chatTemplate: ChatTemplate | undefined;
  /** `prompt` and `response` go through the template as a message each; otherwise they are joined as they are. */
  promptsAreChat: boolean;
  /** Which tokens are targets: those of responses, or all. */
  lossOn: 'response' | 'all';
  /** What follows a thought is a target, too. */
  lossOnTarget: boolean;
  think: ThinkTokens;
  /** The delimiters as text. */
  thinkOpen: string;
  thinkClose: string;
  /** Tokens before the prefix of a thought. */
  prompt: Int32Array;
  /** Keep the first tokens of longer sequences. */
  maxTokens: number;
}

interface Piece {
  tokens: ArrayLike<number>;
  trained: boolean;
}

/** Turns examples into sequences one by one, and keeps count of what it does to them. */
export class SftTokenizer {
  readonly #options: SftOptions;
  #example = '';
  /** Examples without a token to train on, be it because they were cut. */
  skipped = 0;
  /** Sequences that were cut to `maxTokens`. */
  truncated = 0;

  constructor(options: SftOptions) {
    this.#options = options;
  }

  /**
   * The sequences of an example: one, but for a conversation whose template renders earlier turns otherwise (see
   * ChatTemplate); undefined if none has a target.
   */
  take = (row: SftRow): SftSample[] | undefined => {
    const samples = this.#sequences(row).flatMap((pieces) => this.#sample(pieces) ?? []);
    if (samples.length > 0) return samples;
    if (this.skipped++ === 0) this.#example = placeOf(row.source);
    return undefined;
  };

  /** The error for when no example has a target. */
  noneOfUse = (): UserError =>
    new UserError(
      `the data has nothing to train on: none of its ${this.skipped} examples has a token of a response within ` +
        `${this.#options.maxTokens} tokens (--block-length, and the model's positions); the first is ${this.#example}`,
    );

  #sample(pieces: readonly Piece[]): SftSample | undefined {
    const { lossOn, maxTokens } = this.#options;
    const tokens: number[] = [];
    const targets: number[] = [];
    for (const piece of pieces) {
      for (const token of Array.from(piece.tokens)) {
        // Nothing predicts the first token of a sequence.
        if ((piece.trained || lossOn === 'all') && tokens.length > 0) targets.push(tokens.length);
        tokens.push(token);
      }
    }
    const kept = targets.filter((index) => index < maxTokens);
    if (kept.length === 0) return undefined;
    if (tokens.length > maxTokens) this.truncated++;
    return { tokens: Int32Array.from(tokens.slice(0, maxTokens)), targets: kept };
  }

  #sequences(row: SftRow): Piece[][] {
    const { tokenizer, promptsAreChat } = this.#options;
    if (row.kind === 'unclosed') return [];
    if (row.kind === 'thought') return [this.#thought(row)];
    if (row.kind === 'chat') return this.#chat(row.messages, placeOf(row.source), row.firstTrained);
    const { prompt, response } = row;
    if (promptsAreChat) {
      const messages = [
        { role: 'user', content: prompt },
        { role: 'assistant', content: response },
      ];
      return this.#chat(messages, placeOf(row.source), 0);
    }
    const end = tokenizer.eosId === undefined ? [] : [tokenizer.eosId];
    return [
      [
        { tokens: tokenizer.encode(prompt), trained: false },
        { tokens: [...tokenizer.encode(response), ...end], trained: true },
      ],
    ];
  }

  #chat(messages: Parameters<ChatTemplate['segments']>[0], place: string, firstTrained: number): Piece[][] {
    const { chatTemplate, tokenizer } = this.#options;
    if (chatTemplate === undefined) {
      throw new UserError(
        `${place}: a conversation needs a chat template, and the model has none (chat_template.jinja, or "chat_template" in ` +
          'tokenizer_config.json); give one with --chat-template FILE',
      );
    }
    // Piece by piece, as in use: the prompt is tokens before the first token of the response is sampled.
    const encode = ({ text, trained }: ChatSegment): Piece => ({ tokens: tokenizer.encode(text), trained });
    return chatTemplate.segments(messages, place, firstTrained).map((segments) => segments.map(encode));
  }

  /** `prompt prefix open thought close target`: the opening delimiter is given, as in a rollout. */
  #thought({ prefix, thought, target }: { prefix: string; thought: string; target: string }): Piece[] {
    const { tokenizer, think, thinkOpen, thinkClose, prompt, lossOnTarget } = this.#options;
    let inner = thought.startsWith(thinkOpen) ? thought.slice(thinkOpen.length) : thought;
    if (inner.endsWith(thinkClose)) inner = inner.slice(0, -thinkClose.length); // rollouts have sampled it
    return [
      { tokens: [...prompt, ...tokenizer.encode(prefix), ...think.open], trained: false },
      { tokens: [...tokenizer.encode(inner), ...think.close], trained: true },
      { tokens: tokenizer.encode(target), trained: lossOnTarget },
    ];
  }
}
