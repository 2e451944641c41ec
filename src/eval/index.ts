export { mathMatch, plainLatex } from './filters.ts';
export { accuracyMetrics, passAtK, standardError } from './metrics.ts';
export { metricsOf, outcomeOf } from './outcome.ts';
export type { Aliases, Question } from './question.ts';
export {
  type Answered,
  NO_ANSWER,
  type Outcome,
  type Response,
  resultsFile,
  type SampleRow,
  sampleRows,
  taskHash,
} from './results.ts';
export { type ChoiceTask, examplesFor, type Filter, type GenerationTask, promptOf, type Task } from './task.ts';
export { TASKS } from './tasks.ts';
