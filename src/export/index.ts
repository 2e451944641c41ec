export { writeAdapter } from './adapter-write.ts';
export {
  ARTIFACTS,
  type ArtifactName,
  buildArtifact,
  type GraphOptions,
  locateIn,
  trainingRolloutGraphs,
} from './artifacts.ts';
export type { ComputeDType } from './autocast.ts';
export { type Checkpoint, checkFinite, loadWeights, openCheckpoint, type Weight } from './checkpoint.ts';
export {
  type CheckpointToWrite,
  fillCheckpointDirectory,
  type StoredDType,
  storedDTypes,
  writeCheckpointDirectory,
} from './checkpoint-write.ts';
export {
  type ExportOptions,
  type ExportReport,
  exportCheckpoint,
  writeArtifacts,
} from './export-checkpoint.ts';
export type { TokenCut } from './fixed-truncation.ts';
export { headChunkRows } from './loss-head.ts';
export { readSafetensorsHeader, readTensor, readTensorBytes, type TensorLocation } from './safetensors.ts';
export { writeSafetensors } from './safetensors-write.ts';
