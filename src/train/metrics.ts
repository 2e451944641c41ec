import type { TreeBatch } from '../tree-batch.ts';
import type { ClipRange, TreeResult } from '../tree-model.ts';

/**
 * Figures of a step over its loss rows, gathered from the micro-batches; names are TRL's. Policy figures are means over the
 * thought tokens of the step.
 */
export class LossMetrics {
  readonly #clip: ClipRange;
  #loss = 0;
  #rows = 0;
  #entropy = 0;
  #policyRows = 0;
  #ratio = 0;
  #low = 0;
  #high = 0;
  #difference = 0;
  #maxDifference = 0;

  constructor(clip: ClipRange) {
    this.#clip = clip;
  }

  add(batch: TreeBatch, result: TreeResult): void {
    this.#loss += result.loss; // weights already divide by the whole step
    for (let n = 0; n < batch.dims.N; n++) {
      this.#rows++;
      this.#entropy += result.entropy[n];
      if (batch.policy_weights[n] === 0) continue;
      this.#policyRows++;
      const ratio = result.ratio[n];
      const advantage = batch.advantages[n];
      this.#ratio += ratio;
      // Clipped: the surrogate took the constant branch, so the token gives no gradient.
      if (advantage < 0 && ratio < 1 - this.#clip.low) this.#low++;
      if (advantage > 0 && ratio > 1 + this.#clip.high) this.#high++;
      const difference = Math.abs(result.logProbs[n] - batch.old_log_probs[n]);
      this.#difference += difference;
      this.#maxDifference = Math.max(this.#maxDifference, difference);
    }
  }

  get loss(): number {
    return this.#loss;
  }

  figures(): Record<string, number> {
    const figures = { loss: this.#loss, entropy: this.#entropy / this.#rows };
    if (this.#policyRows === 0) return figures;
    const mean = (sum: number) => sum / this.#policyRows;
    return {
      ...figures,
      ratio_mean: mean(this.#ratio),
      'clip_ratio/low_mean': mean(this.#low),
      'clip_ratio/high_mean': mean(this.#high),
      'clip_ratio/region_mean': mean(this.#low + this.#high),
      'sampling/sampling_logp_difference/mean': mean(this.#difference),
      'sampling/sampling_logp_difference/max': this.#maxDifference,
    };
  }
}

/** Seconds spent by stage. */
export class StageTimes {
  readonly #seconds = new Map<string, number>();

  async time<T>(stage: string, work: () => Promise<T>): Promise<T> {
    const start = performance.now();
    try {
      return await work();
    } finally {
      this.#seconds.set(stage, (this.#seconds.get(stage) ?? 0) + (performance.now() - start) / 1000);
    }
  }

  figures(): Record<string, number> {
    return Object.fromEntries([...this.#seconds].map(([stage, seconds]) => [`time/${stage}`, seconds]));
  }
}
