import type { Difference } from '../bootstrap.ts';
import type { Estimate } from '../statistics.ts';
import type { Comparison } from './scores.ts';

const withWidth = (mean: string, halfWidth: number, digits: number) =>
  Number.isNaN(halfWidth) ? mean : `${mean} ± ${halfWidth.toFixed(digits)}`;

export const percent = ({ mean, halfWidth }: Estimate): string =>
  withWidth((100 * mean).toFixed(1), 100 * halfWidth, 1);
export const nats = ({ mean, halfWidth }: Estimate): string => withWidth(mean.toFixed(3), halfWidth, 3);
export const share = (value: number): string => (100 * value).toFixed(1);

const signed = (value: number) => `${value < 0 ? '−' : '+'}${Math.abs(100 * value).toFixed(1)}`;
const interval = ({ mean, low, high }: Difference) => `${signed(mean)} [${signed(low)}, ${signed(high)}]`;

/** The verdict, both sides, and their paired difference in points. */
export const compared = ({ ours, theirs, difference, verdict }: Comparison): string =>
  `${verdict} (${percent(ours)} : ${percent(theirs)}; ${interval(difference)})`;
/** Both means. */
export const sides = ({ ours, theirs }: Comparison): string => `${share(ours.mean)} : ${share(theirs.mean)}`;

/** English enumeration of names. */
export const listed = (items: readonly string[]): string => items.join(', ');
