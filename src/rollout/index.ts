export {
  type Answer,
  BranchRow,
  type CompletionRules,
  type Delimiter,
  type Thought,
  type ThoughtRules,
} from './branch-row.ts';
export {
  type DocumentRollouts,
  RolloutEngine,
} from './engine.ts';
export type { RolloutDocument, RolloutOptions, StepProgress } from './options.ts';
export { RolloutBuffers } from './rollout-buffers.ts';
export { type RolloutGraphs, RolloutModel } from './rollout-model.ts';
export { type Cut, type Sampling, truncates, truncationFor } from './sampling.ts';
export type { RolloutCounts } from './wave.ts';
