import type { ComputeDType } from '../../src/export/index.ts';
import type { Device } from '../../src/runtime/index.ts';

/** One figure of the check. */
export interface Finding {
  part: string;
  what: string;
  value: number;
  unit: string;
  /** What it must not pass, and whether it holds; left out of what is only measured. */
  limit?: number;
  ok?: boolean;
}

/** What the parts run on. */
export interface Setup {
  device: Device;
  /** As `--device` has it. */
  deviceName: string;
  /** In small: everything in seconds, for machines without a GPU. */
  small: boolean;
  dtypes: readonly ComputeDType[];
  /** Empty folder for checkpoints and runs. */
  folder: string;
  /** The GPU's own limit in matrix products, TFLOP/s, where it is known. */
  peakTflops: number | undefined;
}

/** A figure that must be at most `limit`. */
export const atMost = (part: string, what: string, value: number, limit: number, unit: string): Finding => ({
  ...{ part, what, value, unit, limit },
  ok: value <= limit,
});

export const measured = (part: string, what: string, value: number, unit: string): Finding => ({
  ...{ part, what, value, unit },
});

export const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[values.length >> 1];
