import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { transfers } from '../../src/runtime/index.ts';
import { SmallRuns, type Trained } from './small-run.ts';

/** Bytes that crossed by name while `work` ran. */
async function crossed<T>(work: () => Promise<T>): Promise<{ result: T; bytes: Map<string, number> }> {
  const before = transfers().byName;
  const result = await work();
  const bytes = [...transfers().byName].map(([name, n]): [string, number] => [name, n - (before.get(name) ?? 0)]);
  return { result, bytes: new Map(bytes.filter(([, n]) => n > 0)) };
}

/** Inputs of a training or evaluation batch, and of a decoding step; scalars of the optimizer and of sampling. */
const BATCH =
  /^(trunk|branch)_(ids|positions)$|^branch_trunk_lengths$|^loss_rows$|^target_ids$|(^|_)log_probs$|^advantages$|_weights$|^clip_/;
const DECODE =
  /^(input|position|sampled|target)_ids$|^(row_slots|head_rows|uniforms|slot_rows|trunk_length|write_index)$|_log_probs$/;
const SCALARS =
  /^(temperature|top_k|top_p|min_p|learning_rate|beta[12]|epsilon|weight_decay|max_grad_norm|bias_correction[12]|ema_decay|grad_norm|ema_distance|applied|loss|entropy|ratio)$/;

describe('training on a device', () => {
  let runs: SmallRuns;
  let onHost: Trained;
  beforeAll(async () => {
    runs = await SmallRuns.create();
    onHost = await runs.train();
  });
  afterAll(() => runs[Symbol.dispose]());

  it('takes the same steps', async () => {
    const { weights, rows, thoughts } = await runs.train({ device: 'mock' });
    expect(thoughts.map(({ thoughtTokens }) => [...thoughtTokens])).toEqual(
      onHost.thoughts.map(({ thoughtTokens }) => [...thoughtTokens]),
    );
    // Products with weights as inputs round in another order.
    const floats = (bytes: Buffer) => new Float32Array(Uint8Array.from(bytes).slice(-400).buffer);
    floats(weights).forEach((value, i) => {
      expect(value).toBeCloseTo(floats(onHost.weights)[i], 3);
    });
    for (const { step, loss } of rows.slice(0, 1)) expect([step, loss]).toEqual([1, expect.any(Number)]);
  });

  it('moves the batch, the tokens and their figures, the weights once each way, and nothing else', async () => {
    const { result, bytes } = await crossed(() => runs.train({ device: 'mock' }));
    const other = [...bytes].filter(([name]) => ![BATCH, DECODE, SCALARS].some((known) => known.test(name)));
    expect(other.map(([name]) => name)).toEqual(['copy']);
    // Weights and EMA to the device at the start; weights and the state of them back for the one checkpoint.
    const all = result.weights.length; // of a float32 or bfloat16 file with its header: at least half of the masters' bytes
    expect(bytes.get('copy')).toBeGreaterThan(5 * 0.9 * all);
    expect(bytes.get('copy')).toBeLessThan(8 * 2 * all);
    for (const row of result.rows.filter(({ loss }) => loss !== undefined)) {
      expect(Number(row['transfers/to_device_bytes'])).toBeGreaterThan(0);
      // No weight crosses in a step.
      expect(Number(row['transfers/to_device_bytes'])).toBeLessThan(all / 4);
      expect(Number(row['transfers/to_host_bytes'])).toBeLessThan(all / 4);
    }
    expect(onHost.rows.some((row) => 'transfers/to_host_bytes' in row)).toBe(false);
  });
});
