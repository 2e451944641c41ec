import { UserError } from '../errors.ts';

/**
 * The distribution that tokens are drawn from: the softmax at a temperature, cut to its likeliest tokens and renormalised.
 * The cuts apply in this order, each to what the one before it left; equally likely tokens stay or go together.
 */
export interface Sampling {
  /** Of the softmax; 0 takes the likeliest token, whatever the cuts. */
  temperature: number;
  /** Keeps this many of the likeliest tokens; 0 (default) keeps all. */
  topK?: number;
  /** In (0, 1]: keeps the fewest likeliest tokens that have this much of the probability; 1 (default) keeps all. */
  topP?: number;
  /** In [0, 1]: keeps tokens at least this fraction as likely as the likeliest; 0 (default) keeps all. */
  minP?: number;
}

/** Whether tokens are cut at all. */
export const truncates = ({ topK = 0, topP = 1, minP = 0 }: Omit<Sampling, 'temperature'>): boolean =>
  topK > 0 || topP < 1 || minP > 0;

/** The cuts, all of them said: those that cut nothing are 0, 1 and 0. */
export type Cut = Required<Omit<Sampling, 'temperature'>>;

export const cutOf = ({ topK = 0, topP = 1, minP = 0 }: Omit<Sampling, 'temperature'>): Cut => ({ topK, topP, minP });

/**
 * `truncation` of a step graph for this sampling: none, cuts by inputs, or, where shapes must not depend on data (elsewhere than on the
 * CPU), these cuts alone.
 */
export const truncationFor = (sampling: Omit<Sampling, 'temperature'>, onCpu: boolean): boolean | Cut =>
  !truncates(sampling) || onCpu ? truncates(sampling) : cutOf(sampling);

/** Throws UserError where a setting is out of its bounds. */
export function assertSampling({ temperature, topK = 0, topP = 1, minP = 0 }: Sampling): void {
  const demand = (holds: boolean, name: string, value: number, expected: string) => {
    if (!holds) throw new UserError(`rollout option ${name} is ${value}: expected ${expected}`);
  };
  const finite = temperature >= 0 && Number.isFinite(temperature);
  demand(finite, 'temperature', temperature, 'a number of at least 0 (0 is greedy)');
  demand(Number.isSafeInteger(topK) && topK >= 0, 'topK', topK, 'an integer of at least 0 (0 keeps all tokens)');
  demand(topP > 0 && topP <= 1, 'topP', topP, 'a number above 0 and at most 1 (1 keeps all tokens)');
  demand(minP >= 0 && minP <= 1, 'minP', minP, 'a number from 0 to 1 (0 keeps all tokens)');
}
