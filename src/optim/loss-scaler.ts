/** What a loss scaler has come to; part of a checkpoint. */
export interface LossScale {
  /** Factor of the loss. */
  scale: number;
  /** Steps without an overflow since the scale last changed. */
  goodSteps: number;
}

/** The defaults of torch.amp.GradScaler. */
const INITIAL = 2 ** 16;
const GROWTH = 2;
const BACKOFF = 0.5;
const GROWTH_INTERVAL = 2000;
/** A finite gradient that overflows float16 unscaled: no scale would help. */
const LEAST = 1;

/**
 * Dynamic loss scaling (Micikevicius et al., arXiv 1710.03740), as torch.amp.GradScaler has it: gradients in float16 vanish
 * below 6e-8, so the loss is multiplied by a factor that is halved when they overflow and doubled after 2,000 steps
 * without.
 */
export class LossScaler {
  #state: LossScale = { scale: INITIAL, goodSteps: 0 };

  get scale(): number {
    return this.#state.scale;
  }

  get state(): LossScale {
    return this.#state;
  }
  set state(state: LossScale) {
    this.#state = { ...state };
  }

  /**
   * Takes note of a step.
   * @returns false for an overflow that a smaller scale cannot mend
   */
  update(finite: boolean): boolean {
    const { scale, goodSteps } = this.#state;
    if (!finite) {
      this.#state = { scale: Math.max(LEAST, scale * BACKOFF), goodSteps: 0 };
      return scale > LEAST;
    }
    const grown = goodSteps + 1 === GROWTH_INTERVAL;
    this.#state = grown ? { scale: scale * GROWTH, goodSteps: 0 } : { scale, goodSteps: goodSteps + 1 };
    return true;
  }
}
