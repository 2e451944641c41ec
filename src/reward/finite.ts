import { RunError } from '../errors.ts';

/** Throws a RunError that names the row if a log-prob is not finite: the model has diverged or its weights are damaged. */
export function checkFinite(logProbs: ArrayLike<number>, what: string, row: string): void {
  for (let i = 0; i < logProbs.length; i++) {
    if (!Number.isFinite(logProbs[i])) {
      throw new RunError(
        `${row}: ${what} log-prob ${i} is ${logProbs[i]}, expected a finite number; the model has diverged (lower the ` +
          'learning rate and resume from an earlier checkpoint) or its weights are damaged',
      );
    }
  }
}
