/** A mean over seeds with its 95% confidence interval. */
export interface Estimate {
  mean: number;
  /** Half the width of the interval; NaN for a single value. */
  halfWidth: number;
}

/** 97.5% quantiles of Student's t with 1, 2 ... 30 degrees of freedom. */
const T_QUANTILES = [
  ...[12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228],
  ...[2.201, 2.179, 2.16, 2.145, 2.131, 2.12, 2.11, 2.101, 2.093, 2.086],
  ...[2.08, 2.074, 2.069, 2.064, 2.06, 2.056, 2.052, 2.048, 2.045, 2.042],
];
/** The same of the normal distribution, for more than 30. */
const NORMAL_QUANTILE = 1.96;

export const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Mean and t interval of independent values. */
export function estimate(values: readonly number[]): Estimate {
  const n = values.length;
  if (n < 2) return { mean: mean(values), halfWidth: Number.NaN };
  const center = mean(values);
  const variance = values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (n - 1);
  return { mean: center, halfWidth: (T_QUANTILES[n - 2] ?? NORMAL_QUANTILE) * Math.sqrt(variance / n) };
}

/** True if all of a's interval is above all of b's. */
export const isAbove = (a: Estimate, b: Estimate): boolean => a.mean - a.halfWidth > b.mean + b.halfWidth;

/** Items by a key, in the order in which they come. */
export function groupBy<T, K>(items: Iterable<T>, key: (item: T) => K): Map<K, T[]> {
  const groups = new Map<K, T[]>();
  for (const item of items) {
    const group = groups.get(key(item));
    if (group === undefined) groups.set(key(item), [item]);
    else group.push(item);
  }
  return groups;
}
