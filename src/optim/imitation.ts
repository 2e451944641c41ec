import type { LossRow, TreeDocument } from '../tree-batch.ts';

/** A thought to imitate: what stands between a prefix and the text after it. */
export interface ImitatedThought {
  /** Index t of the token that it precedes. */
  position: number;
  /** From its first token to its closing delimiter; the opening one is given. */
  tokens: readonly number[];
  /** x_t ... x_t+h-1. */
  targets: readonly number[];
}

/**
 * Next-token loss on thoughts and on the text that follows them: -weight * sum log p over their tokens, as if the document had
 * been written with them. No gradient for the prefix and the opening delimiter.
 * @param weight of each token, say 1 / tokens of the step
 */
export function imitationDocument(
  tokens: ArrayLike<number>,
  thoughts: readonly ImitatedThought[],
  open: readonly number[],
  weight: number,
): TreeDocument {
  const longestPrefix = Math.max(...thoughts.map(({ position }) => position));
  return {
    trunk: Array.from(tokens).slice(0, longestPrefix),
    losses: [],
    branches: thoughts.map((thought) => {
      const written = [...thought.tokens, ...thought.targets];
      return {
        trunkLength: thought.position,
        tokens: [...open, ...written.slice(0, -1)],
        losses: written.map((target, u): LossRow => ({ token: open.length - 1 + u, target, nllWeight: weight })),
      };
    }),
  };
}
