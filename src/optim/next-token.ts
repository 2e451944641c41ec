import type { LossRow } from '../tree-batch.ts';

/**
 * Next-token loss on a trunk: tokens first .. last are targets, each predicted by the token before it,
 *
 *     weight * sum_t -log p_theta(x_t | x_<t)
 *
 * Under RLP only thought tokens get gradient and nothing holds the predictor that they share in place; a small weight here does.
 * The extension is ours; mixing the pretraining loss into RL is that of InstructGPT (PPO-ptx: Ouyang et al., arXiv 2203.02155,
 * eq. 2).
 *
 * Degenerate: the first token of a sequence is no target; first > last makes no rows.
 * @param weight of each target, say coefficient / targets in the step
 */
export function nextTokenRows(tokens: ArrayLike<number>, first: number, last: number, weight: number): LossRow[] {
  const from = Math.max(1, first);
  return Array.from({ length: Math.max(0, last - from + 1) }, (_, i) => ({
    token: from + i - 1,
    target: tokens[from + i],
    nllWeight: weight,
  }));
}
