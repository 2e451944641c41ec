import { internal } from '../errors.ts';

/**
 * How the tokens of a step's thoughts are weighted.
 * - thought: 1/(|c| N), each thought the same however long (RLP, arXiv 2510.01265; GRPO, arXiv 2402.03300)
 * - token: 1/sum|c|, each token the same, so that longer thoughts weigh more (DAPO, arXiv 2503.14476, eq. 8)
 * - limit: 1/(L N) with the token limit L: the sum of a thought's token losses by a constant (Dr. GRPO, arXiv 2503.20783)
 *
 * Thoughts of one length are weighted alike by `thought` and `token`; all three agree where each has the limit's length.
 */
export type LengthNormalization = 'thought' | 'token' | 'limit';

/**
 * Weight of each token of a thought, one number a thought, over all N thoughts of a step. Under `thought` and `token` the
 * weights of all tokens of the step add up to 1; under `limit` to the share of the limit that thoughts use.
 * @param lengths tokens of each thought, at least 1
 * @param limit most tokens that a thought may have
 */
export function tokenWeights(lengths: readonly number[], kind: LengthNormalization, limit: number): number[] {
  const shortest = lengths.reduce((a, b) => Math.min(a, b), Number.POSITIVE_INFINITY);
  if (shortest < 1) throw internal(`a thought of ${shortest} tokens`);
  if (kind === 'thought') return lengths.map((length) => 1 / (length * lengths.length));
  const total = kind === 'token' ? lengths.reduce((a, b) => a + b, 0) : limit * lengths.length;
  return lengths.map(() => 1 / total);
}
