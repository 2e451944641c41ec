/** Learning rate over the steps of a run; each rises linearly from 0 over the warm-up first. */
export type ScheduleName = 'constant' | 'linear' | 'cosine';

/** Course of the learning rate over a run. */
export interface Schedule {
  name: ScheduleName;
  /** Peak, reached at the end of the warm-up. */
  learningRate: number;
  /** What linear and cosine fall to: the step after the last would have it, so that the last one still learns. */
  finalLearningRate: number;
  warmupSteps: number;
  totalSteps: number;
}

/** Fraction of the way down from peak to final at a progress of 0 .. 1. */
const DECAY: Record<ScheduleName, (progress: number) => number> = {
  constant: () => 0,
  linear: (progress) => progress,
  cosine: (progress) => (1 - Math.cos(Math.PI * progress)) / 2,
};

/**
 * Learning rate of optimizer step `step`, counted from 1: the first warm-up step has a rate above 0. Without a warm-up these are
 * the rates of transformers' get_linear_schedule_with_warmup and get_cosine_schedule_with_warmup.
 */
export function learningRateAt(
  { name, learningRate, finalLearningRate, warmupSteps, totalSteps }: Schedule,
  step: number,
): number {
  if (step <= warmupSteps) return (learningRate * step) / warmupSteps;
  const peak = Math.max(1, warmupSteps);
  const progress = Math.min(1, (step - peak) / Math.max(1, totalSteps - peak + 1));
  return learningRate + (finalLearningRate - learningRate) * DECAY[name](progress);
}
