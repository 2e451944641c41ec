import { type ModelConfig, parameterCount } from '../../src/model-config.ts';
import { type RolloutDocument, RolloutEngine, type RolloutOptions } from '../../src/rollout/index.ts';
import { randomWeights, rolloutGraphs } from '../../test/fixtures/tiny-model.ts';
import { gemmRoofline, modelRoofline, ROOFLINE_ROWS } from './gemm-roofline.ts';

/** The 29 M parameters of the measurements in the log: weights are random, so only the shape matters. */
const MODEL_29M: ModelConfig = {
  modelType: 'qwen3',
  vocabSize: 8192,
  hiddenSize: 512,
  intermediateSize: 1536,
  numLayers: 8,
  numHeads: 8,
  numKvHeads: 4,
  headDim: 64,
  rmsNormEps: 1e-6,
  ropeTheta: 1_000_000,
  maxPositions: 4096,
  tieWordEmbeddings: true,
  attentionBias: false,
};

const PREFIX = 128;
const NEW_TOKENS = 64;
const CLOSE = 2;

/** Multiply-adds of the matrices that every token meets, times 2. The attention's own products are left out. */
function flopsPerToken(config: ModelConfig): number {
  const embedding = config.vocabSize * config.hiddenSize;
  return 2 * (parameterCount(config) - (config.tieWordEmbeddings ? 0 : embedding));
}

async function measure(engine: RolloutEngine, documents: number, rows: number): Promise<{ rate: number; ms: number }> {
  const texts: RolloutDocument[] = Array.from({ length: documents }, (_, i) => ({
    id: String(i),
    tokens: Array.from({ length: PREFIX + 1 }, (_, t) => (i * 131 + t * 17) % MODEL_29M.vocabSize),
    positions: [PREFIX],
  }));
  const options: RolloutOptions = {
    open: 1,
    close: CLOSE,
    endOfText: [],
    maxThoughtTokens: NEW_TOKENS,
    groupSize: rows,
    horizon: 1,
    temperature: 1,
    seed: 0,
    step: 0,
    documentsPerBatch: documents,
    rowsPerDocument: rows,
  };
  const start = performance.now();
  let tokens = 0;
  for await (const { thoughts } of engine.generate(texts, options)) {
    for (const thought of thoughts) tokens += thought.tokens.length;
  }
  const ms = performance.now() - start;
  return { rate: (1000 * tokens) / ms, ms };
}

const weights = randomWeights(MODEL_29M);
using engine = await RolloutEngine.create(rolloutGraphs(MODEL_29M, weights));
const flops = flopsPerToken(MODEL_29M);
const percent = (share: number) => `${(100 * share).toFixed(0)}%`;
console.log(`${(parameterCount(MODEL_29M) / 1e6).toFixed(1)} M parameters, prefix ${PREFIX}, ${NEW_TOKENS} new tokens`);
for (const [documents, rows] of [
  [1, 8],
  [4, 8],
  [4, 32],
]) {
  await measure(engine, documents, rows);
  // Rollouts and rooflines in turns, so that a busy machine slows both; the median by share of the roofline.
  const rounds = [];
  for (let i = 0; i < 3; i++) {
    const { rate, ms } = await measure(engine, documents, rows);
    const gigaflops = (rate * flops) / 1e9;
    const roofline = await gemmRoofline();
    const sameRows = await gemmRoofline(documents * rows);
    const ownProducts = await modelRoofline(MODEL_29M, documents * rows);
    rounds.push({ rate, ms, gigaflops, roofline, sameRows, ownProducts });
  }
  const { rate, ms, gigaflops, ...limits } = rounds.sort(
    (a, b) => a.gigaflops / a.roofline - b.gigaflops / b.roofline,
  )[1];
  const share = (limit: number) => `${percent(gigaflops / limit)} of ${limit.toFixed(0)}`;
  console.log(
    `${documents} documents x ${rows} rollouts: ${rate.toFixed(0)} tokens/s, ${ms.toFixed(0)} ms, ${gigaflops.toFixed(0)} GFLOP/s: ` +
      `${share(limits.roofline)} (roofline at ${ROOFLINE_ROWS} rows), ${share(limits.sameRows)} (at ${documents * rows} rows), ` +
      `${share(limits.ownProducts)} (the model's own products)`,
  );
}
