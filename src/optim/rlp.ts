import type { TreeDocument } from '../tree-batch.ts';

/** What RLP's loss needs to know of a thought. */
export interface ScoredThought {
  /** Index t of the token that the thought precedes: it sees x_<t. */
  position: number;
  /** Sampled tokens; the opening delimiter is not one of them, the closing one is where it was sampled. */
  tokens: readonly number[];
  /** log pi_old of each, nats, temperature 1. */
  logProbs: readonly number[];
  advantage: number;
  /** Weight of each of its tokens, see tokenWeights; default 1 / (|c| * thoughtsInStep). */
  tokenWeight?: number;
}

/**
 * RLP, arXiv 2510.01265: the loss of a thought is -(1/|c|) sum_u min(rho_u A, clip(rho_u) A), the loss of a step the mean
 * over its thoughts. Gradients flow through thought tokens only: not through the opening delimiter, which is given, nor
 * through a closing one that was forced, nor through the text.
 *
 * Degenerate: A = 0 for all thoughts of a group (equal rewards) gives no gradient.
 * @param open tokens of the opening delimiter
 * @param thoughtsInStep number of thoughts over which the step's loss is the mean, this document's and others'
 */
export function rlpDocument(
  tokens: ArrayLike<number>,
  thoughts: readonly ScoredThought[],
  open: number | readonly number[],
  thoughtsInStep: number,
): TreeDocument {
  const opening = [open].flat();
  const longestPrefix = Math.max(...thoughts.map(({ position }) => position));
  return {
    trunk: Array.from(tokens).slice(0, longestPrefix),
    losses: [],
    branches: thoughts.map((thought) => ({
      trunkLength: thought.position,
      tokens: [...opening, ...thought.tokens.slice(0, -1)], // the last opening token predicts thought token 0
      losses: thought.tokens.map((target, u) => ({
        token: opening.length - 1 + u,
        target,
        oldLogProb: thought.logProbs[u],
        advantage: thought.advantage,
        policyWeight: thought.tokenWeight ?? 1 / (thought.tokens.length * thoughtsInStep),
      })),
    })),
  };
}
