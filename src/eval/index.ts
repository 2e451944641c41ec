export { mathMatch, plainLatex } from './filters.ts';
export { accuracyMetrics, passAtK, standardError } from './metrics.ts';
export type { Aliases, Question } from './question.ts';
export { NO_ANSWER, type Outcome, resultsFile, type SampleRow, sampleRows, taskHash } from './results.ts';
export { type ChoiceTask, examplesFor, type Filter, type GenerationTask, promptOf, type Task } from './task.ts';
export { TASKS } from './tasks.ts';
