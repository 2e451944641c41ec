/**
 * rlp-ort as a library, in the order of the work: a checkpoint is exported or opened, thinks, is paid, is updated.
 * docs/library.md shows the calls; every export is documented where it is defined.
 *
 * Two conventions. What a caller can mend is thrown as a UserError, any other error is a failure of the machine or of this
 * package. Sessions, values, engines and training sessions hold native memory that garbage collection does not see: declare
 * them with `using`, or call `dispose()`.
 *
 * @module
 */

// Rollout files (docs/arrow-schema.md).
export {
  ROLLOUT_SCHEMA_VERSION,
  type RolloutFile,
  type RolloutFileMetadata,
  RolloutWriter,
  type RolloutWriterOptions,
  readRollouts,
  recoverRollouts,
} from './arrow.ts';
// Whole runs, as the command line does them, and what they leave (docs/metrics.md).
export {
  type EvalConfig,
  type ExportConfig,
  evalSchema,
  exportSchema,
  type RescoreConfig,
  type RolloutConfig,
  rescoreSchema,
  rolloutSchema,
  type TrainConfig,
  trainOptionsSchema,
  trainSchema,
} from './config.ts';
// Data: documents, tokens, positions to think at.
export {
  type BadRows,
  Corpus,
  type CorpusOptions,
  choosePositions,
  type DataCursor,
  DataLoader,
  type Document,
  type DocumentColumns,
  documentOf,
  type Item,
  type LoaderOptions,
  loadTokenizer,
  openCorpora,
  type PackedCursor,
  PackedStream,
  type PackOptions,
  type PositionOptions,
  type PositionStrategy,
  packDocuments,
  type ReadOptions,
  type ReadSettings,
  type Row,
  readDocuments,
  TextData,
  type ThinkTokens,
  type TokenizedData,
  type TokenizedDocument,
  type TokenizeOptions,
  Tokenizer,
  tokenizeDocument,
  tokenizeDocuments,
  type WantedColumns,
  type WeightedCorpus,
} from './data/index.ts';
// Errors, element types, noise.
export {
  bfloat16ToFloat32,
  bytesPerElement,
  type DType,
  float16ToFloat32,
  float32ToBfloat16,
  float32ToFloat16,
  type TypedArray,
  typedArrayFor,
} from './dtypes.ts';
export { RunError, UserError } from './errors.ts';
export { type EvalSummary, runEval } from './eval-run.ts';
// Checkpoints and their graphs.
export {
  ARTIFACTS,
  type ArtifactName,
  buildArtifact,
  type Checkpoint,
  type CheckpointToWrite,
  checkFinite,
  type ExportOptions,
  type ExportReport,
  exportCheckpoint,
  loadWeights,
  locateIn,
  openCheckpoint,
  readSafetensorsHeader,
  readTensor,
  type TensorLocation,
  trainingRolloutGraphs,
  type Weight,
  writeArtifacts,
  writeCheckpointDirectory,
  writeSafetensors,
} from './export/index.ts';
// Training: losses over prefix trees, AdamW, EMA, schedules, checkpoints that a run continues from.
export { initialAdapters, type LoraConfig, mergeAdapters } from './lora.ts';
export { microBatches, packMicroBatches, paddedTokens } from './micro-batches.ts';
export { type ModelConfig, parameterCount, parameterShapes } from './model-config.ts';
export { type OpenModel, openModel } from './model-directory.ts';
export {
  cptDocument,
  DEFAULT_OPTIMIZER_SETTINGS,
  type HostTensor,
  type ImportanceSampling,
  type LengthNormalization,
  learningRateAt,
  type MinibatchOptions,
  mapRows,
  minibatches,
  type OptimizerResult,
  type OptimizerSettings,
  rlpDocument,
  rowLogProbs,
  type Schedule,
  type ScheduleName,
  type ScoredThought,
  sftDocuments,
  type TrainingArtifacts,
  TrainingSession,
  type TrainingState,
  tokenWeights,
  truncatedImportanceWeights,
  withKl,
} from './optim/index.ts';
export type { Progress, RunHooks } from './progress.ts';
export { type Seed, type ThoughtId, thoughtStream, type UniformStream, uniformStream } from './random.ts';
export type { FinishReason } from './records.ts';
export { FINISH_REASONS, NO_BASELINE, type RolloutRecord } from './records.ts';
export { type RescoreSummary, runRescore } from './rescore.ts';
// Rewards and advantages.
export {
  type AdvantageGroup,
  type AdvantageOptions,
  type AdvantageScale,
  type AnswerEquality,
  type AnswerRules,
  answerReward,
  answersMatch,
  Baseline,
  type BaselineOptions,
  type BaselineRequest,
  type BaselineState,
  type CustomReward,
  extractAnswer,
  type GivenRewards,
  groupAdvantages,
  groupRelativeAdvantages,
  type HorizonReduction,
  informationGain,
  lastBoxed,
  loadRewardModule,
  type NoThinkScorer,
  noThinkLogProbs,
  type PositionScore,
  positionScores,
  prefixMatchReward,
  type RewardedGroup,
  type RewardFunction,
  type RewardInput,
  type RewardMetrics,
  type RewardModule,
  type RewardOptions,
  type RewardResult,
  type RewardSign,
  referenceAnswer,
  reward,
  type ScoreBatch,
  type ScoredThought as TargetScores,
  statedText,
  type UnclosedThoughts,
} from './reward/index.ts';
// Rollouts: thoughts before positions of documents.
export {
  type Answer,
  type CompletionRules,
  type Delimiter,
  type DocumentRollouts,
  type RolloutCounts,
  type RolloutDocument,
  RolloutEngine,
  type RolloutGraphs,
  type RolloutOptions,
  type Sampling,
  type StepProgress,
  type Thought,
  type ThoughtRules,
} from './rollout/index.ts';
export { type RolloutSummary, runRollout } from './rollout-run.ts';
export { listCheckpoints, type MetricsRow, readMetrics, type SavedCheckpoint } from './run-folder.ts';
// ONNX Runtime: sessions, tensors that stay where they are, inputs and outputs bound once.
export {
  Binding,
  type Device,
  type LogSeverity,
  OrtError,
  type RuntimeInfo,
  runtimeInfo,
  Session,
  type SessionOptions,
  type TensorInfo,
  Value,
} from './runtime/index.ts';
export { loadTrainingCheckpoint, saveTrainingCheckpoint, type TrainingCheckpoint } from './train/checkpoint.ts';
export { type FailedStep, loadFailedStep } from './train/failed-step.ts';
export { openTrainingSession, type TrainingSessionOptions } from './train/open-session.ts';
export { type TrainSummary, train } from './train/train.ts';
export {
  buildTreeBatch,
  type LossRow,
  type TreeBatch,
  type TreeBranch,
  type TreeDocument,
} from './tree-batch.ts';
export { type ClipRange, TreeModel, type TreeResult, type WeightValues } from './tree-model.ts';
