/** A mean over seeds with its 95% confidence interval. */
export interface Estimate {
  mean: number;
  /** Half the width of the interval; NaN for a single value. */
  halfWidth: number;
  values: readonly number[];
}

/** 97.5% quantiles of Student's t with 1, 2 ... degrees of freedom. */
const T_QUANTILES = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];

/** Mean and t interval of independent values, at most ten. */
export function estimate(values: readonly number[]): Estimate {
  const n = values.length;
  const mean = values.reduce((a, b) => a + b, 0) / n;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (n - 1);
  return { mean, halfWidth: n > 1 ? T_QUANTILES[n - 2] * Math.sqrt(variance / n) : Number.NaN, values };
}

/** True if all of a's interval is above all of b's. */
export const isAbove = (a: Estimate, b: Estimate): boolean => a.mean - a.halfWidth > b.mean + b.halfWidth;

/** a against b, by their intervals. */
export const verdict = (a: Estimate, b: Estimate): 'above' | 'below' | 'overlap' =>
  isAbove(a, b) ? 'above' : isAbove(b, a) ? 'below' : 'overlap';
