import type { MetricsRow } from '../run-folder.ts';

/** Something in a run's figures that has gone wrong before where it looks like this. */
export interface TrainingWarning {
  name: WarningName;
  /** What was seen, and what to do about it. */
  message: string;
}
export type WarningName =
  | 'thought_length_collapse'
  | 'entropy_collapse'
  | 'reward_variance_collapse'
  | 'predictor_drift';

/** Steps of a window, and of the start that it is compared with. */
export const WINDOW = 10;

/** What a run's settings say about its figures. */
export interface WatchedRun {
  objective: 'rlp' | 'rpt' | 'grpo' | 'cpt' | 'sft';
  maxThoughtTokens: number;
  /** A reward of the user's own, in whatever unit. */
  reward?: string | undefined;
}

interface Collapse {
  name: WarningName;
  /** Of metrics.jsonl. */
  figure: (run: WatchedRun) => string;
  /** Collapsed when the mean over the last WINDOW steps is below this share of that over the first WINDOW ... */
  share: number;
  /** ... or below this, whatever it was. */
  floor: (run: WatchedRun) => number;
  what: string;
  advice: string;
}

/** Thoughts and their rewards; objectives without thoughts have nothing here that could collapse. */
const COLLAPSES: readonly Collapse[] = [
  {
    name: 'thought_length_collapse',
    figure: ({ objective }) => (objective === 'rlp' ? 'completions/mean_length' : 'thoughts/mean_length'),
    share: 0.25,
    // A thought of one token is the closing delimiter. Where thoughts are meant to be short, so is the floor.
    floor: ({ maxThoughtTokens }) => Math.min(2, maxThoughtTokens / 4),
    what: 'thoughts are short',
    advice: 'the model gets by without thinking: lower --learning-rate, or hold the policy with --kl-coefficient',
  },
  {
    name: 'entropy_collapse',
    figure: () => 'entropy',
    share: 0.1,
    floor: () => 0.01,
    what: 'sampled tokens are nearly certain',
    advice: 'there is little left to choose from: lower --learning-rate, or raise --temperature or --kl-coefficient',
  },
  {
    name: 'reward_variance_collapse',
    figure: () => 'reward_std',
    share: 0.1,
    // The information gain of thoughts that say nothing. Of another unit nothing is known.
    floor: ({ objective, reward }) => (objective === 'rlp' && reward === undefined ? 1e-3 : 0),
    what: 'the thoughts of a group are paid nearly the same',
    advice: 'there is little left to learn from: take harder positions (--position-strategy entropy) or stop here',
  },
];

/** Mean share of groups without spread over a window, above which the variance counts as collapsed whatever it was. */
const ZERO_VARIANCE_SHARE = 0.9;
/** Rise of the no-think cross-entropy of held-out text since the first evaluation, nats a token. */
const DRIFT = 0.1;

/** The first and the last WINDOW values of a figure. */
class Windows {
  readonly #first: number[] = [];
  readonly #last: number[] = [];

  add(value: number): void {
    if (this.#first.length < WINDOW) this.#first.push(value);
    this.#last.push(value);
    if (this.#last.length > WINDOW) this.#last.shift();
  }
  /** Means of both; undefined before there are WINDOW values. */
  get means(): { first: number; last: number } | undefined {
    const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
    if (this.#last.length < WINDOW) return undefined;
    return { first: mean(this.#first), last: mean(this.#last) };
  }
}

/**
 * Watches the rows of metrics.jsonl, in their order. It is a function of the rows alone, so that a resumed run, which reads
 * the rows before it, warns as the uninterrupted one does. Figures that are not there, or not finite, are passed over.
 */
export class TrainingMonitor {
  readonly #rules: { rule: Collapse; figure: string; floor: number }[];
  readonly #windows = new Map<string, Windows>();
  #noThink: { first: number; last: number } | undefined;
  #active = new Set<WarningName>();
  readonly #told = new Set<WarningName>();

  constructor(run: WatchedRun) {
    const thinks = run.objective !== 'cpt' && run.objective !== 'sft';
    this.#rules = (thinks ? COLLAPSES : []).map((rule) => ({ rule, figure: rule.figure(run), floor: rule.floor(run) }));
  }

  /** Names of the warnings that hold after the last row, sorted. */
  get active(): WarningName[] {
    return [...this.#active].sort();
  }

  /** Takes a row; returns the warnings that hold with it for the first time in the run. */
  observe(row: Readonly<MetricsRow>): TrainingWarning[] {
    for (const figure of [...this.#rules.map((watched) => watched.figure), 'frac_reward_zero_std']) {
      const value = row[figure];
      if (typeof value !== 'number' || !Number.isFinite(value)) continue;
      const windows = this.#windows.get(figure) ?? new Windows();
      this.#windows.set(figure, windows);
      windows.add(value);
    }
    const noThink = row['eval/no_think_cross_entropy'];
    if (typeof noThink === 'number' && Number.isFinite(noThink)) {
      this.#noThink = { first: this.#noThink?.first ?? noThink, last: noThink };
    }
    const warnings = this.#holding();
    const fresh = warnings.filter(({ name }) => !this.#told.has(name));
    this.#active = new Set(warnings.map(({ name }) => name));
    for (const { name } of fresh) this.#told.add(name);
    return fresh.map(({ name, message }) => ({ name, message: `${name} at step ${row.step}: ${message}` }));
  }

  #holding(): TrainingWarning[] {
    const collapsed = this.#rules.flatMap(({ rule, figure, floor }): TrainingWarning[] => {
      const { name, share, what, advice } = rule;
      const means = this.#windows.get(figure)?.means;
      if (means === undefined) return [];
      const zero =
        name === 'reward_variance_collapse' ? this.#windows.get('frac_reward_zero_std')?.means?.last : undefined;
      const { first, last } = means;
      const seen =
        zero !== undefined && zero > ZERO_VARIANCE_SHARE
          ? `${percent(zero)} of the groups have no spread`
          : first > 0 && last < share * first
            ? `${figure} was ${short(first)} over the first ${WINDOW} steps and is ${short(last)} over the last`
            : last < floor
              ? `${figure} is ${short(last)} over the last ${WINDOW} steps`
              : undefined;
      return seen === undefined ? [] : [{ name, message: `${what}: ${seen}; ${advice}` }];
    });
    const drift = this.#noThink === undefined ? 0 : this.#noThink.last - this.#noThink.first;
    if (this.#noThink === undefined || drift <= DRIFT) return collapsed;
    const { first, last } = this.#noThink;
    const message =
      `the model predicts held-out text worse than at the start when it does not think: ${short(last)} against ` +
      `${short(first)} nats a token; part of the information gain is this loss. Hold the predictor with ` +
      '--next-token-coefficient or --kl-coefficient, or lower --learning-rate';
    return [...collapsed, { name: 'predictor_drift', message }];
  }
}

const short = (value: number): string => String(Number(value.toPrecision(3)));
const percent = (share: number): string => `${Math.round(100 * share)}%`;
