import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { parameterCount } from '../../src/model-config.ts';
import { type OpenModel, openModel } from '../../src/model-directory.ts';
import { noThinkLogProbs } from '../../src/reward/index.ts';
import { type RolloutDocument, RolloutEngine, type RolloutOptions } from '../../src/rollout/index.ts';
import { Value } from '../../src/runtime/index.ts';
import { TreeModel } from '../../src/tree-model.ts';
import { attentionProductsMs, gemmRoofline, ownProductsMs, ROOFLINE_ROWS } from './gemm-roofline.ts';
import { writeRandomCheckpoint } from './random-checkpoint.ts';
import { MODEL_29M, MODEL_600M } from './shapes.ts';
import { openPeer, type Peer } from './transformers-js.ts';

/**
 * Rollouts against the machine and against transformers.js: the same weights, prompts and number of tokens, in turns.
 *
 *     npx tsx scripts/bench/rollout.ts [--shape 29m|600m] [--part cells,flat,scoring] [--rows 8,32,128] [--prefix 128,1024]
 *         [--new-tokens 32] [--rounds 3] [--peer FOLDER_WITH_TRANSFORMERS_JS]
 *
 * The peer: npm install --prefix FOLDER @huggingface/transformers. The 600m shape takes 10 GB of memory.
 */
const { values: args } = parseArgs({
  options: {
    shape: { type: 'string', default: '29m' },
    part: { type: 'string', default: 'cells,flat,scoring' },
    rows: { type: 'string', default: '8,32,128' },
    prefix: { type: 'string', default: '128,1024' },
    'new-tokens': { type: 'string', default: '32' },
    rounds: { type: 'string', default: '3' },
    peer: { type: 'string' },
  },
});
const SHAPES = { '29m': MODEL_29M, '600m': MODEL_600M };
const config = SHAPES[args.shape as keyof typeof SHAPES];
if (config === undefined) throw new Error(`--shape ${args.shape}: expected ${Object.keys(SHAPES).join(' or ')}`);
const numbers = (list: string) => list.split(',').map(Number);
const NEW_TOKENS = Number(args['new-tokens']);
const ROUNDS = Number(args.rounds);
const PARTS = new Set(args.part.split(','));
/** Prompt tokens of a batch above which transformers.js is not run: it keeps a copy of the prefix, and its logits, per row. */
const PEER_TOKENS = 16_384;

const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)];
const percent = (share: number) => `${(100 * share).toFixed(0)}%`;

const prompt = (document: number, length: number) =>
  Array.from({ length }, (_, t) => (document * 131 + t * 17) % config.vocabSize);

/** `positions` of them, the last before token `prefix`. */
function documentsOf(count: number, prefix: number, positions = 1): RolloutDocument[] {
  return Array.from({ length: count }, (_, d) => ({
    id: String(d),
    tokens: [...prompt(d, prefix), 0],
    positions: Array.from({ length: positions }, (_, k) => prefix - k),
  }));
}

interface Run {
  ms: number;
  sampled: number;
  /** Tokens fed to branches: delimiters, thoughts, targets. */
  fed: number;
  steps: number;
  /** Milliseconds in steps. */
  stepMs: number;
}

/** By chance a thought ends early: one token in the vocabulary closes it. */
async function think(
  engine: RolloutEngine,
  documents: RolloutDocument[],
  options: Partial<RolloutOptions>,
): Promise<Run> {
  const before = engine.counts;
  const start = performance.now();
  let sampled = 0;
  const defaults = { open: 1, close: 2, endOfText: [], maxThoughtTokens: NEW_TOKENS, groupSize: 8, rowsPerDocument: 8 };
  const rest = { horizon: 1, temperature: 1, seed: 0, step: 0, documentsPerBatch: documents.length };
  for await (const { thoughts } of engine.generate(documents, { ...defaults, ...rest, ...options })) {
    for (const { tokens } of thoughts) sampled += tokens.length;
  }
  const ms = performance.now() - start;
  const { rows, steps, stepMs } = engine.counts;
  return {
    ms,
    sampled,
    fed: rows - before.rows,
    steps: steps - before.steps,
    stepMs: stepMs - before.stepMs,
  };
}

/** tokens/s scored, and decoding against the products that it cannot do without. */
async function cell(engine: RolloutEngine, peer: Peer | undefined, rows: number, prefix: number): Promise<void> {
  const count = rows > 8 ? 4 : 1;
  const group = rows / count;
  const documents = documentsOf(count, prefix);
  const options = { groupSize: group, rowsPerDocument: group };
  const flop = 2 * parameterCount(config) * rows;
  const peerRuns = peer !== undefined && rows * prefix <= PEER_TOKENS;
  await think(engine, documents, options);
  type Figure = 'rate' | 'step' | 'weights' | 'attention' | 'roofline' | 'gigaflops' | 'theirs' | 'ratio';
  const rounds: Record<Figure, number>[] = [];
  const attended = { documents: count, rowsPerDocument: group, trunk: prefix, branch: NEW_TOKENS + 2 };
  for (let i = 0; i < ROUNDS; i++) {
    const first = await think(engine, documents, options);
    const weights = await ownProductsMs(config, rows);
    const attention = await attentionProductsMs(config, attended);
    const second = await think(engine, documents, options);
    const step = (first.stepMs + second.stepMs) / (first.steps + second.steps);
    const roofline = await gemmRoofline();
    const rate = (1000 * (first.sampled + second.sampled)) / (first.ms + second.ms);
    const prompts = Array.from({ length: rows }, (_, row) => prompt(Math.floor(row / group), prefix));
    const theirs = peerRuns ? (1000 * rows * NEW_TOKENS) / (await peer.generate(prompts, NEW_TOKENS)) : 0;
    const gigaflops = flop / 1e6 / step;
    rounds.push({ rate, step, weights, attention, roofline, gigaflops, theirs, ratio: rate / theirs });
  }
  const of = (key: keyof (typeof rounds)[number]) => median(rounds.map((round) => round[key]));
  console.log(
    `${rows} rows (${count} x ${group}), prefix ${prefix}: ${of('rate').toFixed(0)} tokens/s with prefill and scoring; ` +
      `a step ${of('step').toFixed(1)} ms; products with its weights alone ${of('weights').toFixed(1)} ms: ` +
      `${percent(median(rounds.map((r) => r.weights / r.step)))}, with those of attention (${of('attention').toFixed(1)} ms) ` +
      `${percent(median(rounds.map((r) => (r.weights + r.attention) / r.step)))}; ` +
      `${of('gigaflops').toFixed(0)} GFLOP/s, ${percent(median(rounds.map((r) => r.gigaflops / r.roofline)))} of a product at ${ROOFLINE_ROWS} rows` +
      (peerRuns ? `; transformers.js ${of('theirs').toFixed(0)} tokens/s, not scored: ${of('ratio').toFixed(1)}x` : ''),
  );
}

/** More positions and larger groups at the same rows a step. */
async function flat(engine: RolloutEngine): Promise<void> {
  await think(engine, documentsOf(4, 128), { maxThoughtTokens: 16 }); // a warm-up
  for (const [positions, groupSize] of [
    [1, 8],
    [4, 8],
    [4, 32],
  ]) {
    const documents = documentsOf(4, 128, positions);
    const perToken = [];
    for (let i = 0; i < ROUNDS; i++) {
      const { stepMs, fed } = await think(engine, documents, { groupSize, maxThoughtTokens: 16 });
      perToken.push(stepMs / fed);
    }
    console.log(`K ${positions} x G ${groupSize}, 32 rows a step: ${median(perToken).toFixed(3)} ms a token`);
  }
}

/**
 * What scores cost: closing delimiter and targets ride on decoding steps. A baseline with weights of its own is a trunk pass
 * a document; that of the weights that think is one row more.
 */
async function scoring(engine: RolloutEngine, model: OpenModel): Promise<void> {
  const loaded = [...(await model.loadWeights())];
  const weights = new Map(loaded.map(([name, { shape, data }]) => [name, Value.from('float32', shape, data)]));
  using tree = await TreeModel.create(model.trainingArtifacts.evalModel);
  for (const prefix of numbers(args.prefix)) {
    for (const groupSize of [8, 16]) {
      const documents = documentsOf(4, prefix);
      const requests = documents.map(({ id, tokens, positions }) => ({ document: id, tokens, positions }));
      const shares = [];
      const riders = [];
      let riding = 0;
      for (let i = 0; i < ROUNDS + 1; i++) {
        const options = { groupSize, rowsPerDocument: groupSize, maxThoughtTokens: 64 };
        const run = await think(engine, documents, options);
        const both = await think(engine, documents, { ...options, noThink: true });
        const again = await think(engine, documents, options);
        riders.push(1 - (run.ms + again.ms) / 2 / both.ms);
        const start = performance.now();
        await noThinkLogProbs((batch) => tree.run(batch, weights), requests, 1, 8192);
        const baseline = performance.now() - start;
        riding = (run.fed - run.sampled - 4 * groupSize) / run.fed;
        shares.push(baseline / (run.ms + baseline));
      }
      const baseline = median(shares.slice(1)); // the first is a warm-up
      const own = median(riders.slice(1));
      console.log(
        `scoring, 4 documents x ${groupSize}, prefix ${prefix}, 64 tokens: ${percent(riding + baseline)} of the time ` +
          `(${(100 * riding).toFixed(1)}% of the tokens fed, and the baseline's pass ${(100 * baseline).toFixed(1)}%); ` +
          `with the policy as the baseline ${percent(riding + own)} (its rows ${(100 * own).toFixed(1)}%)`,
      );
    }
  }
  for (const value of weights.values()) value.dispose();
}

const scratch = await mkdtemp(join(tmpdir(), 'rlp-ort-bench-'));
try {
  await writeRandomCheckpoint(scratch, config);
  const model = await openModel(scratch, { truncation: false, forCpu: true });
  const needsPeer = PARTS.has('cells') && args.peer !== undefined;
  const peer = needsPeer ? await openPeer(args.peer ?? '', scratch, join(scratch, 'peer')) : undefined;
  using engine = await RolloutEngine.create(model.rolloutGraphs, { externalDataFolder: scratch });
  const against = peer === undefined ? '' : `, transformers.js ${peer.version}`;
  console.log(`${(parameterCount(config) / 1e6).toFixed(0)} M parameters, ${NEW_TOKENS} new tokens${against}`);
  if (PARTS.has('cells')) {
    for (const prefix of numbers(args.prefix)) {
      for (const rows of numbers(args.rows)) await cell(engine, peer, rows, prefix);
    }
  }
  if (PARTS.has('flat')) await flat(engine);
  if (PARTS.has('scoring')) await scoring(engine, model);
} finally {
  await rm(scratch, { recursive: true, force: true });
}
