import { type Device, transfers } from '../runtime/index.ts';
import type { TreeBatch } from '../tree-batch.ts';
import type { ClipRange, TreeResult } from '../tree-model.ts';

/** Sum, count and range of a figure. */
class Tally {
  count = 0;
  #sum = 0;
  min = Number.POSITIVE_INFINITY;
  max = Number.NEGATIVE_INFINITY;

  add(value: number): void {
    this.count++;
    this.#sum += value;
    this.min = Math.min(this.min, value);
    this.max = Math.max(this.max, value);
  }
  get mean(): number {
    return this.#sum / this.count;
  }
}

/** What training and sampling disagree about: absolute differences of a token's log-prob, at temperature 1 in both. */
const differenceFigures = ({ mean, max }: Pick<Tally, 'mean' | 'max'>) => ({
  'sampling/sampling_logp_difference/mean': mean,
  'sampling/sampling_logp_difference/max': max,
});

/**
 * The same of a forward pass under the weights that sampled.
 * @param trainer log-prob of each sampled token by that pass, nats
 * @param sampler what the rollout recorded of it
 */
export function samplingDifference(trainer: ArrayLike<number>, sampler: readonly number[]): Record<string, number> {
  const difference = new Tally();
  for (const [u, logProb] of sampler.entries()) difference.add(Math.abs(trainer[u] - logProb));
  return differenceFigures(difference);
}

/**
 * Figures of a step over its loss rows, gathered from the micro-batches of its updates; names are TRL's. Policy figures are
 * means over thought tokens.
 */
export class LossMetrics {
  readonly #clip: ClipRange;
  #updates = 0;
  #loss = 0;
  readonly #entropy = { policy: new Tally(), text: new Tally() };
  readonly #nextToken = new Tally();
  readonly #kl = new Tally();
  readonly #ratio = new Tally();
  readonly #low = new Tally();
  readonly #high = new Tally();
  readonly #difference = new Tally();

  constructor(clip: ClipRange) {
    this.#clip = clip;
  }

  /** Micro-batches that follow belong to the next optimizer update. */
  startUpdate(): void {
    this.#updates++;
  }

  add(batch: TreeBatch, result: TreeResult): void {
    this.#loss += result.loss; // weights already divide by the whole update
    for (let n = 0; n < batch.dims.N; n++) {
      if (batch.policy_weights[n] === 0) {
        this.#entropy.text.add(result.entropy[n]);
        this.#nextToken.add(-result.logProbs[n]);
        continue;
      }
      const ratio = result.ratio[n];
      const advantage = batch.advantages[n];
      this.#entropy.policy.add(result.entropy[n]);
      this.#ratio.add(ratio);
      // Clipped: the surrogate took the constant branch, so the token gives no gradient.
      this.#low.add(Number(advantage < 0 && ratio < 1 - this.#clip.low));
      this.#high.add(Number(advantage > 0 && ratio > 1 + this.#clip.high));
      if (batch.kl_weights[n] !== 0) {
        const d = batch.reference_log_probs[n] - result.logProbs[n];
        this.#kl.add(Math.exp(d) - 1 - d);
      }
      // Later updates have weights that did not write the thoughts.
      if (this.#updates <= 1) this.#difference.add(Math.abs(result.logProbs[n] - batch.old_log_probs[n]));
    }
  }

  /** Mean over the updates so far; not finite if any of them was not. */
  get loss(): number {
    return this.#updates === 0 ? 0 : this.#loss / this.#updates;
  }

  /**
   * All of them. The sampling difference is taken to the batch's old log-probs: where these are not the sampler's (importance
   * weights), that of the objective goes before it.
   */
  figures(): Record<string, number> {
    const { policy, text } = this.#entropy;
    const figures = { loss: this.loss, updates: this.#updates };
    if (policy.count === 0) return { ...figures, ...(text.count > 0 && { entropy: text.mean }) };
    return {
      ...figures,
      entropy: policy.mean,
      ...(this.#nextToken.count > 0 && { next_token_loss: this.#nextToken.mean }),
      ...(this.#kl.count > 0 && { kl: this.#kl.mean }),
      ratio_mean: this.#ratio.mean,
      ratio_min: this.#ratio.min,
      ratio_max: this.#ratio.max,
      'clip_ratio/low_mean': this.#low.mean,
      'clip_ratio/high_mean': this.#high.mean,
      'clip_ratio/region_mean': this.#low.mean + this.#high.mean,
      ...differenceFigures(this.#difference),
    };
  }
}

/** Seconds spent by stage, and the tokens that were worked on in them. */
export class StageTimes {
  readonly #seconds = new Map<string, number>();
  readonly #tokens = new Map<string, number>();

  async time<T>(stage: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      this.#seconds.set(stage, (this.#seconds.get(stage) ?? 0) + (performance.now() - start) / 1000);
    }
  }

  /** Tokens of a stage, for its tokens a second; a stage without any has no such figure. */
  count(stage: string, tokens: number): void {
    if (tokens > 0) this.#tokens.set(stage, (this.#tokens.get(stage) ?? 0) + tokens);
  }

  figures(): Record<string, number> {
    const seconds = [...this.#seconds];
    const rates = seconds.flatMap(([stage, s]) => {
      const tokens = this.#tokens.get(stage);
      return tokens === undefined ? [] : [[`tokens_per_second/${stage}`, tokens / s] as const];
    });
    return Object.fromEntries([...seconds.map(([stage, s]) => [`time/${stage}`, s] as const), ...rates]);
  }
}

/** Bytes that cross between the host and a device from now until the result is called; none are told of the CPU. */
export function transferFigures(device: Device | undefined): () => Record<string, number> {
  if (device === undefined || device.kind === 'cpu') return () => ({});
  const before = transfers();
  return () => {
    const now = transfers();
    return {
      'transfers/to_device_bytes': now.toDevice - before.toDevice,
      'transfers/to_host_bytes': now.toHost - before.toHost,
    };
  };
}
