import { parameterCount } from '../../src/model-config.ts';
import { type RolloutDocument, RolloutEngine, type RolloutOptions } from '../../src/rollout/index.ts';
import { randomWeights, rolloutGraphs } from '../../test/fixtures/tiny-model.ts';
import { gemmRoofline, modelRoofline, ROOFLINE_ROWS } from './gemm-roofline.ts';
import { MODEL_29M } from './model-29m.ts';

const PREFIX = 128;
const NEW_TOKENS = 64;
const CLOSE = 2;

/** Of the matrices that a token meets, 2 a parameter; the attention's own products are left out. The trunk meets no head. */
const HEAD_FLOPS = 2 * MODEL_29M.vocabSize * MODEL_29M.hiddenSize;
const BODY_FLOPS = 2 * parameterCount(MODEL_29M) - HEAD_FLOPS;

interface Workload {
  name: string;
  documents: number;
  /** Documents at once, and rollouts of each. */
  batch: number;
  rows: number;
  /** Mean tokens of a thought if lengths are to vary (geometric, cut at NEW_TOKENS); all of full length by default. */
  meanTokens?: number;
}

const WORKLOADS: Workload[] = [
  { name: '1 document x 8', documents: 1, batch: 1, rows: 8 },
  { name: '4 documents x 8', documents: 4, batch: 4, rows: 8 },
  { name: '4 documents x 32', documents: 4, batch: 4, rows: 32 },
  { name: '16 documents x 16, 4 at once, lengths vary', documents: 16, batch: 4, rows: 16, meanTokens: 16 },
];

interface Measured {
  /** Of all matrix products: trunks, sampled and scored tokens. */
  gigaflops: number;
  /** Sampled tokens a second. */
  rate: number;
  ms: number;
  /** Rows of a step. */
  meanRows: number;
  /** Share of the caches' slots that hold a live row. */
  use: number;
}

async function measure(engine: RolloutEngine, { documents, batch, rows, meanTokens }: Workload): Promise<Measured> {
  const texts: RolloutDocument[] = Array.from({ length: documents }, (_, i) => ({
    id: String(i),
    tokens: Array.from({ length: PREFIX + 1 }, (_, t) => (i * 131 + t * 17) % MODEL_29M.vocabSize),
    positions: [PREFIX],
  }));
  // Random weights find all tokens about equally likely, so that the share of tokens that end a text sets the length.
  const ends = meanTokens === undefined ? 0 : Math.round(MODEL_29M.vocabSize / meanTokens);
  const options: RolloutOptions = {
    open: 1,
    close: CLOSE,
    endOfText: Array.from({ length: ends }, (_, i) => MODEL_29M.vocabSize - 1 - i),
    maxThoughtTokens: NEW_TOKENS,
    groupSize: rows,
    horizon: 1,
    temperature: 1,
    seed: 0,
    step: 0,
    documentsPerBatch: batch,
    rowsPerDocument: rows,
  };
  const before = engine.counts;
  const start = performance.now();
  let sampled = 0;
  for await (const { thoughts } of engine.generate(texts, options)) {
    for (const thought of thoughts) sampled += thought.tokens.length;
  }
  const ms = performance.now() - start;
  const after = engine.counts;
  const fed = after.rows - before.rows;
  const prefilled = after.prefilled - before.prefilled;
  return {
    gigaflops: (fed * (BODY_FLOPS + HEAD_FLOPS) + prefilled * BODY_FLOPS) / 1e6 / ms,
    rate: (1000 * sampled) / ms,
    ms,
    meanRows: fed / (after.steps - before.steps),
    use: fed / (after.slots - before.slots),
  };
}

const weights = randomWeights(MODEL_29M);
using engine = await RolloutEngine.create(rolloutGraphs(MODEL_29M, weights));
const percent = (share: number) => `${(100 * share).toFixed(0)}%`;
console.log(`${(parameterCount(MODEL_29M) / 1e6).toFixed(1)} M parameters, prefix ${PREFIX}, ${NEW_TOKENS} new tokens`);
for (const workload of WORKLOADS) {
  await measure(engine, workload);
  // Rollouts and rooflines in turns, so that a busy machine slows both; the median by share of the roofline.
  const rounds = [];
  for (let i = 0; i < 3; i++) {
    const measured = await measure(engine, workload);
    const rows = Math.round(measured.meanRows);
    const limits = {
      roofline: await gemmRoofline(),
      sameRows: await gemmRoofline(rows),
      ownProducts: await modelRoofline(MODEL_29M, rows),
    };
    rounds.push({ ...measured, ...limits, rows });
  }
  const round = rounds.sort((a, b) => a.gigaflops / a.roofline - b.gigaflops / b.roofline)[1];
  const share = (limit: number) => `${percent(round.gigaflops / limit)} of ${limit.toFixed(0)}`;
  console.log(
    `${workload.name}: ${round.rate.toFixed(0)} sampled tokens/s in ${round.ms.toFixed(0)} ms, ` +
      `${round.meanRows.toFixed(1)} rows a step, ${percent(round.use)} of slots live\n` +
      `  ${round.gigaflops.toFixed(0)} GFLOP/s: ${share(round.roofline)} (roofline at ${ROOFLINE_ROWS} rows), ` +
      `${share(round.sameRows)} (at ${round.rows} rows), ${share(round.ownProducts)} (the model's own products at ${round.rows} rows)`,
  );
}
