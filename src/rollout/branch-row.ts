import type { UniformStream } from '../random.ts';
import type { FinishReason } from '../records.ts';

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
 */
export class BranchRow {
  readonly thought: Thought;
  /** Branch cache slot of the next token; the document position is `thought.position + written`. */
  written = 0;
  readonly #rules: ThoughtRules;
  readonly #close: readonly number[];
  readonly #noise: UniformStream;
  #next: Feed;
  #queue: Feed[] = [];
  #thinking = true;

  constructor(
    identity: Pick<Thought, 'document' | 'position' | 'rollout' | 'targets'>,
    rules: ThoughtRules,
    noise: UniformStream,
  ) {
    this.thought = {
      ...identity,
      tokens: [],
      logProbs: [],
      samplingLogProbs: [],
      reasonedLogProbs: [],
      finishReason: 'closed',
    };
    this.#rules = rules;
    this.#noise = noise;
    this.#close = tokensOf(rules.close);
    const [first, ...rest] = tokensOf(rules.open);
    this.#next = { token: first };
    this.#queue = rest.map((token) => ({ token }));
  }

  /** Slots of the branch cache that the longest thought needs, with `horizon` targets. */
  static capacity(rules: Pick<ThoughtRules, 'open' | 'close' | 'maxThoughtTokens'>, horizon: number): number {
    const delimiters = tokensOf(rules.open).length + tokensOf(rules.close).length;
    return delimiters + rules.maxThoughtTokens + (horizon - 1); // the last target is never fed
  }

  get token(): number {
    return this.#next.token;
  }
  /** Any token where none is wanted. */
  get target(): number {
    return this.#next.target ?? 0;
  }
  /** In [0, 1): decides the token sampled after this one; a function of the thought's identity alone. */
  get uniform(): number {
    return this.#samples ? this.#noise(this.thought.tokens.length) : 0;
  }

  /** Whether the next token is the model's choice: after the opening delimiter, before the closing one is complete. */
  get #samples(): boolean {
    return this.#thinking && this.#queue.length === 0;
  }

  /** Takes the model's answer to the token just fed. Returns whether the row is finished. */
  advance(result: StepResult): boolean {
    this.written++;
    if (this.#samples) this.#think(result);
    else if (this.#next.target !== undefined) this.thought.reasonedLogProbs.push(result.targetLogProb);
    const next = this.#queue.shift();
    if (next === undefined) return true;
    this.#next = next;
    return false;
  }

  #think({ sampledId, sampledLogProb, samplingLogProb }: StepResult): void {
    const { thought } = this;
    const { endOfText, maxThoughtTokens } = this.#rules;
    thought.tokens.push(sampledId);
    thought.logProbs.push(sampledLogProb);
    thought.samplingLogProbs.push(samplingLogProb);
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
    this.#thinking = false;
    thought.finishReason = reason;
    const closing = reason === 'closed' ? [sampledId] : [sampledId, ...this.#close];
    const last = closing.length - 1;
    [...closing, ...thought.targets.slice(0, -1)].forEach((token, i) => {
      this.#queue.push(i < last ? { token } : { token, target: thought.targets[i - last] });
    });
  }
}

const tokensOf = (delimiter: Delimiter): readonly number[] => [delimiter].flat();

const endsWith = (tokens: readonly number[], end: readonly number[]): boolean =>
  tokens.length >= end.length && end.every((token, i) => tokens[tokens.length - end.length + i] === token);
