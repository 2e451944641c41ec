/** Arithmetic mean; NaN of nothing. */
export const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Standard deviation with n - 1; NaN of fewer than two values. */
export function deviation(values: readonly number[]): number {
  const center = mean(values);
  return Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1));
}

/** Standard error of the mean over the questions; NaN of a single one. */
export const standardError = (values: readonly number[]): number => deviation(values) / Math.sqrt(values.length);

/**
 * The unbiased estimate of pass@k from n samples of which c are right (Chen et al., arXiv 2107.03374):
 * 1 - C(n - c, k) / C(n, k).
 */
export function passAtK(n: number, c: number, k: number): number {
  if (n - c < k) return 1;
  let miss = 1;
  for (let i = n - c + 1; i <= n; i++) miss *= 1 - k / i;
  return 1 - miss;
}

/** 1, 2, 4 ... below n, and n. */
export const passKs = (n: number): number[] => {
  const powers = Array.from({ length: Math.ceil(Math.log2(Math.max(1, n))) }, (_, i) => 2 ** i);
  return [...powers, n];
};

/**
 * Figures about something that is right or wrong, asked several times of each question.
 * @param scores [questions][samples], 0 or 1
 * @param name say `exact_match`
 * @param options.suffix follows the name of every metric, say `,strict-match`
 * @param options.passes pass@k, too
 * @returns the mean with its standard error over the questions; with several samples the standard deviation of that mean from one
 *   round of samples to the next, and pass@k. Of a single question there is no standard error: its metrics are left out
 */
export function accuracyMetrics(
  scores: readonly (readonly number[])[],
  name: string,
  { suffix = '', passes = true }: { suffix?: string; passes?: boolean } = {},
): Record<string, number> {
  const samples = scores[0].length;
  const metrics: Record<string, number> = {};
  const add = (metric: string, ofQuestions: readonly number[]) => {
    metrics[`${metric}${suffix}`] = mean(ofQuestions);
    if (ofQuestions.length > 1) metrics[`${metric}_stderr${suffix}`] = standardError(ofQuestions);
  };
  add(name, scores.map(mean));
  if (samples === 1) return metrics;
  const rounds = Array.from({ length: samples }, (_, i) => mean(scores.map((own) => own[i])));
  metrics[`${name}_run_std${suffix}`] = deviation(rounds);
  if (!passes) return metrics;
  for (const k of passKs(samples).slice(1)) {
    const right = scores.map((own) => own.reduce((a, b) => a + b, 0));
    add(
      `pass@${k}`,
      right.map((count) => passAtK(samples, count, k)),
    );
  }
  return metrics;
}
