export { cptDocument } from './cpt.ts';
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
