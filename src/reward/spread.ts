/** Spread below this counts as none, as in TRL. */
export const ZERO_STD = 1e-8;

/**
 * Sample standard deviation (divides by n - 1) of the rewards of a group. Exactly 0 where all are equal, and for fewer
 * than two; a large common part costs no digits.
 */
export function standardDeviation(values: ArrayLike<number>): number {
  const size = values.length;
  if (size < 2) return 0;
  const relative = Float64Array.from(values, (value) => value - values[0]);
  const mean = relative.reduce((sum, value) => sum + value, 0) / size;
  return Math.sqrt(relative.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (size - 1));
}
