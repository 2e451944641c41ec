import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { InferenceSession, Tensor } from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../src/export/checkpoint.ts';
import { exportCheckpoint } from '../../src/export/export-checkpoint.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { floats, type GoldenTensors, goldenPath, integers, readGolden, readGoldenJson } from '../golden/golden.ts';

/** model.onnx, as a user would run it: from its path, in the npm package's own session. */

const NAMES = ['tied-gqa', 'untied-mha', 'sharded-bfloat16', 'untied-float16', 'attention-bias'];
const BATCH = 2;
const LENGTH = 12;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'rlp-ort-portable-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Inputs {
  ids: bigint[][];
  mask: bigint[][];
  positions: bigint[][];
}

const rowsOf = (golden: GoldenTensors, name: string): bigint[][] => {
  const data = Array.from(integers(golden, name), BigInt);
  return Array.from({ length: BATCH }, (_, row) => data.slice(row * LENGTH, (row + 1) * LENGTH));
};
const inputsOf = (golden: GoldenTensors): Inputs => ({
  ids: rowsOf(golden, 'input_ids'),
  mask: rowsOf(golden, 'attention_mask'),
  positions: rowsOf(golden, 'position_ids'),
});

const int64 = (rows: bigint[][]) => new Tensor('int64', BigInt64Array.from(rows.flat()), [rows.length, rows[0].length]);

/** Runs [start, end) of the sequence on top of the caches, and gives the logits and the new caches. */
async function runPart(
  session: InferenceSession,
  { ids, mask, positions }: Inputs,
  start: number,
  end: number,
  caches: Record<string, Tensor>,
): Promise<{ logits: Tensor; caches: Record<string, Tensor> }> {
  const part = (rows: bigint[][], from: number) => int64(rows.map((row) => row.slice(from, end)));
  const outputs = await session.run({
    input_ids: part(ids, start),
    position_ids: part(positions, start),
    attention_mask: part(mask, 0),
    ...caches,
  });
  const { logits, ...present } = outputs;
  const named = Object.entries(present).map(([name, value]) => [name.replace('present', 'past_key_values'), value]);
  return { logits, caches: Object.fromEntries(named) };
}

function emptyCaches({ numLayers, numKvHeads, headDim }: ModelConfig, batch = BATCH): Record<string, Tensor> {
  const names = Array.from({ length: numLayers }, (_, i) => [`past_key_values.${i}.key`, `past_key_values.${i}.value`]);
  const empty = () => new Tensor('float32', new Float32Array(0), [batch, numKvHeads, 0, headDim]);
  return Object.fromEntries(names.flat().map((name) => [name, empty()]));
}

/** Largest difference of logits at tokens that are no padding. */
function worst(found: Tensor, golden: GoldenTensors, mask: bigint[][], start: number): number {
  const [, length, vocabulary] = found.dims;
  const expected = floats(golden, 'logits');
  let largest = 0;
  for (let row = 0; row < BATCH; row++) {
    for (let t = 0; t < length; t++) {
      if (mask[row][start + t] === 0n) continue;
      for (let v = 0; v < vocabulary; v++) {
        const a = Number(found.data[(row * length + t) * vocabulary + v]);
        largest = Math.max(largest, Math.abs(a - expected[(row * LENGTH + start + t) * vocabulary + v]));
      }
    }
  }
  return largest;
}

describe.each(NAMES)('model.onnx of %s', (name) => {
  let session: InferenceSession;
  let config: ModelConfig;
  const golden = readGolden(`logits/${name}`);
  const inputs = inputsOf(golden);

  beforeAll(async () => {
    const out = join(folder, name);
    await exportCheckpoint({ checkpoint: goldenPath('checkpoints', name), out });
    session = await InferenceSession.create(join(out, 'model.onnx'));
    config = (await openCheckpoint(out)).config;
  });

  it('gives the logits of transformers, left padding included', async () => {
    const { logits } = await runPart(session, inputs, 0, LENGTH, emptyCaches(config));
    expect(logits.dims).toEqual([BATCH, LENGTH, config.vocabSize]);
    expect(worst(logits, golden, inputs.mask, 0)).toBeLessThan(1e-4);
  });

  it.each([1, 5])('gives the same %i token(s) at a time, from its cache', async (size) => {
    let caches = emptyCaches(config);
    for (let start = 0; start < LENGTH; start += size) {
      const part = await runPart(session, inputs, start, Math.min(LENGTH, start + size), caches);
      expect(worst(part.logits, golden, inputs.mask, start)).toBeLessThan(1e-4);
      caches = part.caches;
    }
  });

  it('continues a prompt as transformers does greedily', async () => {
    const { greedy_prompt_tokens: promptLength } = readGoldenJson<{ greedy_prompt_tokens: number }>(`logits/${name}`);
    const expected = Array.from(integers(golden, 'greedy_ids'), Number);
    const steps = expected.length / BATCH;
    const real = inputs.ids[0].slice(0, promptLength); // the first row has no padding
    expect(inputs.mask[0].every((one) => one === 1n)).toBe(true);
    const ids = [...real];
    for (let step = 0; step < steps; step++) {
      const whole = { ids: [ids], mask: [ids.map(() => 1n)], positions: [ids.map((_, i) => BigInt(i))] };
      const { logits } = await runPart(session, whole, 0, ids.length, emptyCaches(config, 1));
      const last = Array.from(logits.data as Float32Array).slice(-config.vocabSize);
      ids.push(BigInt(last.indexOf(Math.max(...last))));
    }
    expect(ids.slice(promptLength).map(Number)).toEqual(expected.slice(0, steps));
  });
});
