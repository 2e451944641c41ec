import type { FinishReason } from '../records.ts';

/**
 * What becomes of a thought that did not close by itself (cut off at the token limit, or ended by an end-of-text token). In
 * every case it is closed by force, scored, and flagged by its finish reason.
 * - close: it is paid like the others
 * - drop: it takes no part in the comparison and gets no gradient
 * - penalize: its reward is lowered
 *
 * Ours: the paper does not say. Where dropping leaves one thought of a group there is nothing to compare it with, and its advantage is 0;
 * where it leaves none the group has no loss.
 */
export type UnclosedThoughts = 'close' | 'drop' | 'penalize';

/** What happens to a thought's reward: `penalty` in nats is taken off, or the thought is left out. */
export function unclosedRule(
  finishReason: FinishReason,
  kind: UnclosedThoughts,
  penalty: number,
): { penalty: number; excluded: boolean } {
  const unclosed = finishReason !== 'closed';
  return { penalty: unclosed && kind === 'penalize' ? penalty : 0, excluded: unclosed && kind === 'drop' };
}
