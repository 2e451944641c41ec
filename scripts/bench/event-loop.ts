import { monitorEventLoopDelay, performance } from 'node:perf_hooks';
import { RolloutEngine, type RolloutOptions } from '../../src/rollout/index.ts';
import { randomWeights, rolloutGraphs } from '../../test/fixtures/tiny-model.ts';
import { MODEL_29M } from './shapes.ts';

/**
 * How long the engine keeps the event loop waiting while it generates: the runs of the model are on another thread, the main
 * thread has the bookkeeping between them. 29 M parameters, 4 documents side by side.
 *
 *     npx tsx scripts/bench/event-loop.ts
 */
const NEW_TOKENS = 96;

async function measure(engine: RolloutEngine, prefix: number, rows: number) {
  const documents = Array.from({ length: 8 }, (_, i) => ({
    id: String(i),
    tokens: Array.from({ length: prefix + 1 }, (_, t) => (i * 131 + t * 17) % MODEL_29M.vocabSize),
    positions: [prefix],
  }));
  const options: RolloutOptions = {
    ...{ open: 1, close: 2, endOfText: [], maxThoughtTokens: NEW_TOKENS, groupSize: rows, horizon: 1, temperature: 1 },
    ...{ seed: 0, step: 0, documentsPerBatch: 4, rowsPerDocument: rows },
  };
  const delays = monitorEventLoopDelay({ resolution: 1 });
  const before = performance.eventLoopUtilization();
  const start = performance.now();
  const { steps } = engine.counts;
  delays.enable();
  for await (const _ of engine.generate(documents, options));
  delays.disable();
  const { utilization } = performance.eventLoopUtilization(before);
  const perStep = (performance.now() - start) / (engine.counts.steps - steps);
  const ms = (nanoseconds: number) => (nanoseconds / 1e6).toFixed(1).padStart(6);
  console.log(
    `prefix ${String(prefix).padStart(4)}, 4 x ${String(rows).padStart(2)} rows: ${perStep.toFixed(1).padStart(6)} ms a step; ` +
      `the event loop waited ${ms(delays.percentile(50))} ms (median), ${ms(delays.percentile(99))} ms (99%), ` +
      `${ms(delays.max)} ms (longest), busy ${(100 * utilization).toFixed(1)}% of the time`,
  );
}

using engine = await RolloutEngine.create(rolloutGraphs(MODEL_29M, randomWeights(MODEL_29M)));
await measure(engine, 16, 2); // warm-up
for (const [prefix, rows] of [
  [128, 8],
  [128, 32],
  [1024, 8],
] as const) {
  await measure(engine, prefix, rows);
}
