/**
 * Which thoughts are compared with each other.
 * - position: those at one position of one document (RLP, arXiv 2510.01265). The no-think score is the same for all of them
 *   and cancels.
 * - document: those at all positions of a document; step: all of the step. Here the baseline does act: a position that is
 *   hard to predict lowers S_pred of all its thoughts, and the no-think score takes that out of the comparison. Ours.
 *
 * With one position a document `document` is `position`; with one document a step `step` is `document`.
 */
export type AdvantageGroup = 'position' | 'document' | 'step';

/** A group of thoughts at one position, as far as pooling looks at it. */
export interface PoolMember {
  document: unknown;
}

/**
 * Indices of the groups whose thoughts are compared together, in the order in which they are met.
 * @param members one per group of thoughts at a position; documents are told apart by identity
 */
export function poolGroups(members: readonly PoolMember[], kind: AdvantageGroup): number[][] {
  const pools = new Map<unknown, number[]>();
  for (const [i, { document }] of members.entries()) {
    const key = kind === 'position' ? i : kind === 'document' ? document : 'step';
    const pool = pools.get(key);
    if (pool === undefined) pools.set(key, [i]);
    else pool.push(i);
  }
  return [...pools.values()];
}
