/** How a thought ended: its closing tag, the token limit, or the end-of-sequence token. */
export type FinishReason = 'closed' | 'length' | 'eos';

/** Every FinishReason. */
export const FINISH_REASONS: readonly FinishReason[] = ['closed', 'length', 'eos'];

/** `baselineVersion` of a rollout that was scored without a baseline. */
export const NO_BASELINE = -1;

/** One thought and what it was paid: one row of a rollout file (docs/arrow-schema.md). Log-probs are in nats. */
export interface RolloutRecord {
  /** Training step, 0 for rollouts outside of training. */
  step: number;
  documentId: string;
  /** Index in the document's tokens of the first target token: the thought sees the tokens before it. */
  position: number;
  /** Index in the group, from 0. */
  rollout: number;
  /** The end of the prefix as text, for a reader's eye. */
  context: string;
  /** Text of `thoughtTokens`. */
  thought: string;
  /** The sampled tokens; the tags around the thought are not among them unless the model wrote them. */
  thoughtTokens: Int32Array;
  /** Per thought token, under the policy that wrote it, at temperature 1. */
  thoughtLogProbs: Float32Array;
  /** Per thought token, under the distribution it was sampled from (temperature and filters applied; 0 when greedy). */
  samplingLogProbs: Float32Array;
  /** Text of `targetTokens`. */
  target: string;
  /** The observed tokens that the thought is to predict (the horizon h). */
  targetTokens: Int32Array;
  /** log p_theta(target token | prefix, thought), teacher forced, one per target token. */
  reasonedLogProbs: Float32Array;
  /** log p_phi(target token | prefix), one per target token; empty when there is no baseline. */
  baselineLogProbs: Float32Array;
  reward: number;
  advantage: number;
  finishReason: FinishReason;
  /** Optimizer updates the policy had taken when it wrote the thought. */
  policyVersion: number;
  /** Updates the baseline had taken since it started; NO_BASELINE (-1) when there is none. */
  baselineVersion: number;
}
