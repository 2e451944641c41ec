import type { LossRow, TreeBranch, TreeDocument } from '../tree-batch.ts';

/** What RLP's loss needs to know of a thought. */
export interface ScoredThought {
  /** Index t of the token that the thought precedes: it sees x_<t. */
  position: number;
  /** Sampled tokens; the opening delimiter is not one of them, the closing one is where it was sampled. */
  tokens: readonly number[];
  /** log pi_old of each, nats, temperature 1. */
  logProbs: readonly number[];
  /** What was sampled behind it, in a completion; `forced` tokens stand between the two. */
  answer?: { forced: readonly number[]; tokens: readonly number[]; logProbs: readonly number[] };
  advantage: number;
  /** Weight of each of its tokens, see tokenWeights; default 1 / (|c| * thoughtsInStep). */
  tokenWeight?: number;
}

/** Sampled tokens of a thought and its answer. */
export const sampledLength = ({ tokens, answer }: Pick<ScoredThought, 'tokens' | 'answer'>): number =>
  tokens.length + (answer?.tokens.length ?? 0);

/**
 * RLP, arXiv 2510.01265: the loss of a thought is -(1/|c|) sum_u min(rho_u A, clip(rho_u) A), the loss of a step the mean
 * over its thoughts. Gradients flow through sampled tokens only: not through the opening delimiter, which is given, nor
 * through a closing one that was forced, nor through the text. The loss of GRPO (arXiv 2402.03300) and RPT (arXiv 2506.08007) is
 * the same; their c has an answer behind the thought.
 *
 * Degenerate: A = 0 for all thoughts of a group (equal rewards) gives no gradient.
 * @param open tokens of the opening delimiter; none: there is no thought, and the token before the position predicts the
 *   answer
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
    branches: thoughts.map((thought) => {
      const { position } = thought;
      const begin = opening.length > 0 ? opening : [tokens[position - 1]];
      return policyBranch(thought, begin, opening.length > 0 ? position : position - 1, thoughtsInStep);
    }),
  };
}

function policyBranch(
  thought: ScoredThought,
  begin: readonly number[],
  trunkLength: number,
  thoughtsInStep: number,
): TreeBranch {
  const fed = [...begin];
  const losses: LossRow[] = [];
  const { advantage, tokenWeight: policyWeight = 1 / (sampledLength(thought) * thoughtsInStep) } = thought;
  const sampled = ({ tokens, logProbs }: Pick<ScoredThought, 'tokens' | 'logProbs'>) =>
    tokens.forEach((target, u) => {
      losses.push({ token: fed.length - 1, target, oldLogProb: logProbs[u], advantage, policyWeight });
      fed.push(target);
    });
  sampled(thought);
  if (thought.answer !== undefined) {
    fed.push(...thought.answer.forced);
    sampled(thought.answer);
  }
  return { trunkLength, tokens: fed.slice(0, -1), losses }; // nothing comes after the last token
}
