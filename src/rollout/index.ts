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
  type RolloutCounts,
  type RolloutDocument,
  RolloutEngine,
  type RolloutOptions,
} from './engine.ts';
export { RolloutBuffers } from './rollout-buffers.ts';
export { type RolloutGraphs, RolloutModel } from './rollout-model.ts';
export { type Sampling, truncates } from './sampling.ts';
