export { cptDocument } from './cpt.ts';
export { type ImitatedThought, imitationDocument } from './imitation.ts';
export { type ImportanceSampling, truncatedImportanceWeights, withImportanceWeights } from './importance-sampling.ts';
export { type LengthNormalization, tokenWeights } from './length-normalization.ts';
export { type LossScale, LossScaler } from './loss-scaler.ts';
export { type MinibatchOptions, minibatches } from './minibatches.ts';
export { nextTokenRows } from './next-token.ts';
export { mapRows, rowLogProbs, withKl } from './reference.ts';
export { rlpDocument, type ScoredThought, sampledLength } from './rlp.ts';
export { learningRateAt, type Schedule, type ScheduleName } from './schedule.ts';
export { sftDocuments, type TargetedSequence } from './sft.ts';
export {
  DEFAULT_OPTIMIZER_SETTINGS,
  type HostTensor,
  hostTensors,
  type OptimizerResult,
  type OptimizerSettings,
  STATE_KINDS,
  type StateKind,
  type TrainingArtifacts,
  TrainingSession,
  type TrainingState,
} from './training-session.ts';
