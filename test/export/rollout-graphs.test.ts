import { describe, expect, it } from 'vitest';
import { buildPrefill, buildStep } from '../../src/export/rollout-graphs.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { randomWeights } from '../fixtures/tiny-model.ts';
import {
  type FlatLogProbs,
  float32,
  int64,
  largestDifference,
  openDecoder,
  openFlatReference,
  randomTokens,
  VARIANTS,
} from './decoder-graphs.ts';
import type { Tensor } from './run-graph.ts';

/** The rollout graphs out of place on onnxruntime-node, against model.onnx on flat sequences. */

const TOLERANCE = 1e-5;
const D = 2; // documents
const P = 12; // trunk capacity
const S = 3; // slots for branches of a document
const L = 8; // branch capacity
const LENGTHS = [11, 7];

/** Live rows, in no order of slots: the slot each holds, how much of the trunk it sees. One slot is free. */
const ROWS = [
  { slot: 4, trunkLength: 7 },
  { slot: 0, trunkLength: 11 },
  { slot: 3, trunkLength: 1 },
  { slot: 2, trunkLength: 5 },
  { slot: 5, trunkLength: 7 },
];
const R = ROWS.length;

type Graph = Awaited<ReturnType<typeof openDecoder>>;
type Caches = Record<string, Tensor>;

/** Caches full of garbage: what nobody has written must not be seen. */
function caches(name: string, dims: readonly number[], { numLayers }: ModelConfig): Caches {
  const size = dims.reduce((a, b) => a * b, 1);
  const garbage = () => float32(dims, Array<number>(size).fill(1e3));
  const names = Array.from({ length: numLayers }, (_, i) => [`${name}.${i}.key`, `${name}.${i}.value`]).flat();
  return Object.fromEntries(names.map((each) => [each, garbage()]));
}

const updated = (before: Caches, outputs: Record<string, number[]>): Caches =>
  Object.fromEntries(Object.entries(before).map(([name, { dims }]) => [name, float32(dims, outputs[`${name}.out`])]));

/** Writes the documents into trunk caches, `chunk` tokens at a time; a shorter document is padded. */
async function prefill(graph: Graph, documents: number[][], chunk: number, config: ModelConfig): Promise<Caches> {
  let trunk = caches('trunk', [D, config.numKvHeads, P, config.headDim], config);
  for (let start = 0; start < Math.max(...LENGTHS); start += chunk) {
    const width = Math.min(chunk, P - start);
    const slots = Array.from({ length: width }, (_, i) => start + i);
    const outputs = await graph.run({
      input_ids: int64(
        [D, width],
        documents.flatMap((tokens) => slots.map((slot) => tokens[slot] ?? 0)),
      ),
      position_ids: int64([D, width], [...slots, ...slots]),
      write_index: int64([D], [start, start]),
      ...trunk,
    });
    trunk = updated(trunk, outputs);
  }
  return trunk;
}

/** One step of tokens [R][m] at branch index `at`: log-probs [R][m][V] of every next token, and the new caches. */
async function step(graph: Graph, trunk: Caches, branch: Caches, tokens: number[][], at: number, config: ModelConfig) {
  const V = config.vocabSize;
  const m = tokens[0].length;
  const bySlot = (of: (row: (typeof ROWS)[number], index: number) => number) =>
    int64(
      [D, S],
      Array.from({ length: D * S }, (_, slot) => {
        const index = ROWS.findIndex((row) => row.slot === slot);
        return index < 0 ? 0 : of(ROWS[index], index);
      }),
    );
  const heads = tokens.flatMap((row, r) => row.flatMap((_, k) => Array<number>(V).fill(r * m + k)));
  const N = heads.length;
  const outputs = await graph.run({
    input_ids: int64([R, m], tokens.flat()),
    position_ids: int64(
      [R, m],
      ROWS.flatMap(({ trunkLength }) => tokens[0].map((_, k) => trunkLength + at + k)),
    ),
    row_slots: int64(
      [R],
      ROWS.map(({ slot }) => slot),
    ),
    slot_rows: bySlot((_, index) => index),
    trunk_length: bySlot(({ trunkLength }) => trunkLength),
    write_index: bySlot(() => at),
    ...trunk,
    ...branch,
    head_rows: int64([N], heads),
    target_ids: int64(
      [N],
      heads.map((_, i) => i % V),
    ),
    uniforms: float32(
      [N],
      heads.map(() => 0.5),
    ),
    temperature: float32([], [1]),
    top_k: int64([], [0]),
    top_p: float32([], [1]),
    min_p: float32([], [0]),
  });
  return { logProbs: outputs.target_log_probs, outputs, branch: updated(branch, outputs) };
}

const BUILDS = VARIANTS.flatMap(([name, config]) => [
  [`${name}, for a device`, config, false] as const,
  [`${name}, for the CPU`, config, true] as const,
]);

describe.each(BUILDS)('prefill and step, %s', (_name, config, forCpu) => {
  const weights = randomWeights(config);
  const { vocabSize: V, numKvHeads, headDim } = config;
  const documents = LENGTHS.map((length, i) => randomTokens(length, config, `document ${i}`));
  const branches = ROWS.map((_, r) => randomTokens(L, config, `branch ${r}`));
  const open = async () => ({
    prefillGraph: await openDecoder(buildPrefill, config, weights),
    stepGraph: await openDecoder((context) => buildStep(context, { forCpu }), config, weights),
    flat: await openFlatReference(config, weights),
  });
  const opened = open();

  /** What a flat sequence gives for tokens [from, to) of every branch. */
  const expected = async (flat: FlatLogProbs, from: number, to: number): Promise<number[]> => {
    const tables = ROWS.map(async ({ slot, trunkLength }, r) => {
      const prefix = documents[Math.floor(slot / S)].slice(0, trunkLength);
      return (await flat([...prefix, ...branches[r].slice(0, to)])).slice(trunkLength + from);
    });
    return (await Promise.all(tables)).flat(2);
  };
  const emptyBranches = () => caches('branch', [D * numKvHeads * S, L, headDim], config);

  it.each([
    [12, [1, 1, 1, 3, 2]],
    [5, [8]],
    [1, [4, 1, 1, 1, 1]],
  ])('chunks of %i trunk tokens, then steps of %j tokens', async (chunk, steps) => {
    const { prefillGraph, stepGraph, flat } = await opened;
    const trunk = await prefill(prefillGraph, documents, chunk, config);
    let branch = emptyBranches();
    let at = 0;
    for (const m of steps) {
      const part = branches.map((tokens) => tokens.slice(at, at + m));
      const result = await step(stepGraph, trunk, branch, part, at, config);
      expect(largestDifference(result.logProbs, await expected(flat, at, at + m))).toBeLessThan(TOLERANCE);
      branch = result.branch;
      at += m;
    }
  });

  it('samples from its own log-probs', async () => {
    const { prefillGraph, stepGraph } = await opened;
    const trunk = await prefill(prefillGraph, documents, P, config);
    const part = branches.map((tokens) => tokens.slice(0, 2));
    const { outputs, logProbs } = await step(stepGraph, trunk, emptyBranches(), part, 0, config);
    const sampled = outputs.sampled_ids;
    for (let i = 0; i < R * 2; i++) {
      const table = logProbs.slice(i * V, (i + 1) * V);
      const token = sampled[i * V];
      expect(outputs.sampled_log_probs[i * V]).toBe(table[token]);
      expect(Math.abs(outputs.sampling_log_probs[i * V] - table[token])).toBeLessThan(TOLERANCE);
      // The uniform is 0.5: the token in whose stretch of the cumulative distribution the median lies.
      const below = table.slice(0, token).reduce((sum, x) => sum + Math.exp(x), 0);
      expect(below).toBeLessThan(0.5 + 1e-5);
      expect(below + Math.exp(table[token])).toBeGreaterThan(0.5 - 1e-5);
    }
  });

  it('leaves the slots of rows that are not live, and of other tokens, as they were', async () => {
    const { prefillGraph, stepGraph } = await opened;
    const trunk = await prefill(prefillGraph, documents, P, config);
    const part = branches.map((tokens) => tokens.slice(0, 2));
    const { branch } = await step(stepGraph, trunk, emptyBranches(), part, 3, config);
    for (const { data } of Object.values(branch)) {
      for (let row = 0; row < D * numKvHeads * S; row++) {
        const slot = Math.floor(row / (numKvHeads * S)) * S + (row % S);
        const written = ROWS.some((each) => each.slot === slot) ? [3, 4] : [0, 1];
        for (let token = 0; token < L; token++) {
          const untouched = data.slice((row * L + token) * headDim, (row * L + token + 1) * headDim);
          expect(untouched.every((x) => x === 1e3)).toBe(!written.includes(token));
        }
      }
    }
  });
});
