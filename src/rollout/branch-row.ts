import { internal } from '../errors.ts';
import type { UniformStream } from '../random.ts';
import type { FinishReason } from '../records.ts';

/** What a completion adds to a thought: tokens sampled behind it until an end of text, a stop or a limit. */
export interface Answer {
  /** The closing delimiter where it had to be forced: fed between the thought and the answer, and not sampled. */
  forced: readonly number[];
  /** Sampled tokens, with the end of text or those that made the stop; none where the thought ended the text. */
  tokens: number[];
  /** log pi(token) in nats at temperature 1, one a token. */
  logProbs: number[];
  /** Log-probability under the distribution drawn from (0 when greedy), one a token. */
  samplingLogProbs: number[];
  finishReason: 'stop' | 'eos' | 'length';
}

/** One thought written before position `position` of a document, and what it did to the prediction of what comes there. */
export interface Thought {
  document: string;
  /** Index t into the document's tokens: the thought stands between x_<t and x_t. */
  position: number;
  /** Index within the group of thoughts at this position. */
  rollout: number;
  /** Sampled tokens, without the opening delimiter; the closing one is the last where it was sampled ('closed'). */
  tokens: number[];
  /** log pi(token) in nats at temperature 1, one a token. */
  logProbs: number[];
  /** Log-probability under the distribution drawn from (0 when greedy), one a token. */
  samplingLogProbs: number[];
  finishReason: FinishReason;
  /** In place of targets, in a completion. */
  answer?: Answer;
  /** x_t ... x_t+h-1. */
  targets: number[];
  /** log p(x_t+i | x_<t, thought, x_t ... x_t+i-1) in nats, one a target. */
  reasonedLogProbs: number[];
}

/** A token, or the several that a tokenizer without a special token for it writes it with. */
export type Delimiter = number | readonly number[];

/** The tokens around a thought, and when it ends. */
export interface ThoughtRules {
  open: Delimiter;
  /** Closes a thought where the last tokens sampled are these. */
  close: Delimiter;
  endOfText: readonly number[];
  maxThoughtTokens: number;
  /** An answer is sampled in place of scoring a target. */
  completion?: CompletionRules | undefined;
}

/** How an answer is sampled. */
export interface CompletionRules {
  /** False: no thought before it and no delimiter. The last token before the position then begins the branch. */
  thought: boolean;
  maxTokens: number;
  /** Whether the tokens of the answer so far end it, asked after each. */
  stop?: (tokens: readonly number[]) => boolean;
}

interface Feed {
  token: number;
  /** Token whose log-probability after `token` is wanted. */
  target?: number;
}

/** What one step of the model says after the token that was fed. */
export interface StepResult {
  sampledId: number;
  sampledLogProb: number;
  samplingLogProb: number;
  targetLogProb: number;
}

/**
 * A branch being written: the opening delimiter, sampled tokens until the thought ends, then the closing delimiter (by force
 * where it was not sampled) and the true continuation, whose log-probabilities are the score. Scoring rides on the
 * ordinary decoding steps: it costs one step a target token.
 *
 * In a completion an answer is sampled in place of the true continuation. A thought that ends the text ends the branch.
 */
export class BranchRow {
  readonly thought: Thought;
  /** Branch cache slot of the next token; the document position is `trunkLength + written`. */
  written = 0;
  readonly #rules: ThoughtRules;
  readonly #close: readonly number[];
  readonly #noise: UniformStream;
  #next: Feed;
  #queue: Feed[] = [];
  #stage: 'thought' | 'answer' | 'targets';
  #trunkLength: number;

  /** @param before the token before the position; fed where there is no thought */
  constructor(
    identity: Pick<Thought, 'document' | 'position' | 'rollout' | 'targets'>,
    rules: ThoughtRules,
    noise: UniformStream,
    before = 0,
  ) {
    this.thought = {
      ...identity,
      ...sampledNothing(),
      ...(rules.completion && { answer: { forced: [], ...sampledNothing(), finishReason: 'length' } }),
      reasonedLogProbs: [],
      finishReason: 'closed',
    };
    this.#rules = rules;
    this.#noise = noise;
    this.#close = tokensOf(rules.close);
    const thinks = rules.completion?.thought ?? true;
    this.#stage = thinks ? 'thought' : 'answer';
    this.#trunkLength = thinks ? identity.position : identity.position - 1;
    const [first, ...rest] = thinks ? tokensOf(rules.open) : [before];
    this.#next = { token: first };
    this.#queue = rest.map((token) => ({ token }));
  }

  /**
   * A row that writes no thought: its score is that of the true continuation after the text alone. It samples nothing.
   * @param before the token before the position
   */
  static withoutThought(
    identity: Pick<Thought, 'document' | 'position' | 'rollout' | 'targets'>,
    rules: ThoughtRules,
    before: number,
  ): BranchRow {
    const row = new BranchRow(identity, { ...rules, completion: undefined }, () => 0);
    const { targets } = identity;
    row.#stage = 'targets';
    row.#trunkLength = identity.position - 1;
    const [first, ...rest] = [before, ...targets.slice(0, -1)].map((token, i) => ({ token, target: targets[i] }));
    row.#next = first;
    row.#queue = rest;
    return row;
  }

  /** Slots of the branch cache that the longest branch needs, with `horizon` targets, or in a completion its answer. */
  static capacity(
    rules: Pick<ThoughtRules, 'open' | 'close' | 'maxThoughtTokens' | 'completion'>,
    horizon: number,
  ): number {
    const { open, close, maxThoughtTokens, completion } = rules;
    const last = completion?.maxTokens ?? horizon; // the last token is never fed
    if (completion?.thought === false) return 1 + last - 1;
    return tokensOf(open).length + maxThoughtTokens + tokensOf(close).length + (last - 1);
  }

  /** Tokens of the document that the branch sees. */
  get trunkLength(): number {
    return this.#trunkLength;
  }
  get token(): number {
    return this.#next.token;
  }
  /** Any token where none is wanted. */
  get target(): number {
    return this.#next.target ?? 0;
  }
  /** Tokens sampled so far, of the thought and of the answer. */
  get sampled(): number {
    const { tokens, answer } = this.thought;
    return tokens.length + (answer?.tokens.length ?? 0);
  }
  /** In [0, 1): decides the token sampled after this one; a function of the thought's identity alone. */
  get uniform(): number {
    return this.#samples ? this.#noise(this.sampled) : 0;
  }

  /** Whether the next token is the model's choice: after the opening delimiter, before the targets. */
  get #samples(): boolean {
    return this.#stage !== 'targets' && this.#queue.length === 0;
  }

  /** Takes the model's answer to the token just fed. Returns whether the row is finished. */
  advance(result: StepResult): boolean {
    this.written++;
    if (this.#samples) this.#stage === 'thought' ? this.#think(result) : this.#answer(result);
    else if (this.#next.target !== undefined) this.thought.reasonedLogProbs.push(result.targetLogProb);
    const next = this.#queue.shift();
    if (next === undefined) return true;
    this.#next = next;
    return false;
  }

  #think(result: StepResult): void {
    const { thought } = this;
    const { endOfText, maxThoughtTokens } = this.#rules;
    const { sampledId } = result;
    take(thought, result);
    const reason: FinishReason | undefined = endsWith(thought.tokens, this.#close)
      ? 'closed'
      : endOfText.includes(sampledId)
        ? 'eos'
        : thought.tokens.length === maxThoughtTokens
          ? 'length'
          : undefined;
    if (reason === undefined) {
      this.#queue.push({ token: sampledId });
      return;
    }
    thought.finishReason = reason;
    const forced = reason === 'closed' ? [] : this.#close;
    const closing = [sampledId, ...forced];
    if (thought.answer !== undefined) {
      this.#stage = 'answer';
      if (reason === 'eos') {
        thought.answer.finishReason = 'eos';
        return;
      }
      thought.answer.forced = forced;
      this.#queue.push(...closing.map((token) => ({ token })));
      return;
    }
    this.#stage = 'targets';
    const last = closing.length - 1;
    [...closing, ...thought.targets.slice(0, -1)].forEach((token, i) => {
      this.#queue.push(i < last ? { token } : { token, target: thought.targets[i - last] });
    });
  }

  #answer(result: StepResult): void {
    const { answer } = this.thought;
    const { endOfText, completion } = this.#rules;
    if (answer === undefined || completion === undefined) throw internal('an answer outside of a completion');
    take(answer, result);
    if (endOfText.includes(result.sampledId)) answer.finishReason = 'eos';
    else if (completion.stop?.(answer.tokens)) answer.finishReason = 'stop';
    else if (answer.tokens.length < completion.maxTokens) this.#queue.push({ token: result.sampledId });
  }
}

interface Sampled {
  tokens: number[];
  logProbs: number[];
  samplingLogProbs: number[];
}

const sampledNothing = (): Sampled => ({ tokens: [], logProbs: [], samplingLogProbs: [] });

function take(sampled: Sampled, { sampledId, sampledLogProb, samplingLogProb }: StepResult): void {
  sampled.tokens.push(sampledId);
  sampled.logProbs.push(sampledLogProb);
  sampled.samplingLogProbs.push(samplingLogProb);
}

const tokensOf = (delimiter: Delimiter): readonly number[] => [delimiter].flat();

const endsWith = (tokens: readonly number[], end: readonly number[]): boolean =>
  tokens.length >= end.length && end.every((token, i) => tokens[tokens.length - end.length + i] === token);
