import { internal, UserError } from '../errors.ts';
import { NO_BASELINE } from '../records.ts';
import { checkFinite } from './finite.ts';

/**
 * Which weights phi score the text without a thought.
 * - `ema`: phi <- tau * phi + (1 - tau) * theta after every optimizer update (the paper: tau = 0.999). tau = 0 is an
 *   unlagged baseline, the policy itself.
 * - `frozen`: phi stays what theta was at the first batch.
 * - `none`: the reward is S_pred. With group-relative advantages the gradient is the same under all three.
 */
export type BaselineOptions = { kind: 'ema'; tau: number } | { kind: 'frozen' } | { kind: 'none' };

/** A document and where to score it: position t asks for tokens t .. t + horizon - 1 given the tokens before each. */
export interface BaselineRequest {
  document: string;
  tokens: ArrayLike<number>;
  positions: readonly number[];
  /** Scores by position that the weights phi have given already, in nats: nothing is run for this document then. */
  known?: readonly Float32Array[];
}

/** What the policy needs of whoever holds the weights. */
export interface NoThinkScorer {
  /** phi <- theta, exactly. */
  copyFromPolicy(): Promise<void>;
  /** log p_phi at temperature 1 in nats: by document, position, token of the horizon. One trunk pass per document. */
  score(requests: readonly BaselineRequest[], horizon: number): Promise<Float32Array[][]>;
}

/** State for a checkpoint; the weights phi are the checkpoint's own. */
export interface BaselineState {
  /** Whether phi exists; it is made at the first batch. */
  started: boolean;
  /** Updates phi has taken since. */
  version: number;
}

/** The life of the no-think baseline: when phi is made, how it follows theta, and its version in the records. */
export class Baseline {
  readonly options: BaselineOptions;
  readonly #scorer: NoThinkScorer | undefined;
  #state: BaselineState;

  /** `scorer` may be left out for `none`. Errors: UserError unless 0 <= tau < 1. */
  constructor(options: BaselineOptions, scorer?: NoThinkScorer, state?: BaselineState) {
    if (options.kind === 'ema' && !(options.tau >= 0 && options.tau < 1)) {
      throw new UserError(
        `baseline tau ${options.tau}: expected 0 <= tau < 1 (the paper: 0.999); use the frozen baseline for tau = 1`,
      );
    }
    if (options.kind !== 'none' && scorer === undefined) throw internal(`baseline '${options.kind}' without a scorer`);
    this.options = options;
    this.#scorer = options.kind === 'none' ? undefined : scorer;
    this.#state = { started: false, version: 0, ...state };
  }

  /** `baseline_version` of the records scored now. */
  get version(): number {
    return this.#scorer === undefined ? NO_BASELINE : this.#state.version;
  }

  /** tau for the optimizer's EMA: 1 keeps phi bit for bit as it is (1 * phi + 0 * theta). */
  get emaDecay(): number {
    return this.options.kind === 'ema' ? this.options.tau : 1;
  }

  get state(): BaselineState {
    return { ...this.#state };
  }

  /** phi <- theta if this is the first batch. Must come before the first optimizer update; `score` calls it. */
  async start(): Promise<void> {
    if (this.#scorer === undefined || this.#state.started) return;
    await this.#scorer.copyFromPolicy();
    this.#state.started = true;
  }

  /**
   * Baseline log-probs by document and position, each of `horizon` values; undefined for `none`.
   * Errors: Error naming document and position if one is not finite.
   */
  async score(requests: readonly BaselineRequest[], horizon: number): Promise<Float32Array[][] | undefined> {
    if (this.#scorer === undefined) return undefined;
    await this.start();
    const unknown = requests.filter(({ known }) => known === undefined);
    const scored = unknown.length > 0 ? await this.#scorer.score(unknown, horizon) : [];
    let next = 0;
    const scores = requests.map(({ known }) => (known === undefined ? scored[next++] : [...known]));
    for (const [d, { document, positions }] of requests.entries()) {
      for (const [p, position] of positions.entries()) {
        const logProbs = scores[d]?.[p];
        if (logProbs?.length !== horizon) {
          throw internal(`no-think scorer: ${logProbs?.length ?? 'no'} log-probs, expected ${horizon}`);
        }
        checkFinite(logProbs, 'baseline', `document ${document}, position ${position}`);
      }
    }
    return scores;
  }

  /** After an optimizer step; `applied` is false if it was skipped, which leaves phi alone, too. */
  afterUpdate(applied: boolean): void {
    if (this.#scorer === undefined) return;
    if (!this.#state.started) throw internal('the policy was updated before the baseline was made from it');
    if (applied && this.options.kind === 'ema') this.#state.version++;
  }
}
