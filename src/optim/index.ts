export { cptDocument } from './cpt.ts';
export {
  IMPORTANCE_SAMPLINGS,
  type ImportanceSampling,
  truncatedImportanceWeights,
} from './importance-sampling.ts';
export { LENGTH_NORMALIZATIONS, type LengthNormalization, tokenWeights } from './length-normalization.ts';
export { type MinibatchOptions, minibatches } from './minibatches.ts';
export { mapRows, rowLogProbs, withKl } from './reference.ts';
export { rlpDocument, type ScoredThought } from './rlp.ts';
export { learningRateAt, type Schedule, type ScheduleName } from './schedule.ts';
export {
  type HostTensor,
  type OptimizerResult,
  type OptimizerSettings,
  STATE_KINDS,
  type StateKind,
  type TrainingArtifacts,
  TrainingSession,
  type TrainingState,
} from './training-session.ts';
