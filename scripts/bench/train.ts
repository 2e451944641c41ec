import { parseArgs } from 'node:util';
import { MICRO_BATCH_TOKENS, packMicroBatches } from '../../src/micro-batches.ts';
import { parameterCount } from '../../src/model-config.ts';
import { cptDocument, type OptimizerSettings, TrainingSession } from '../../src/optim/index.ts';
import { buildTreeBatch, type TreeBatch, type TreeDocument } from '../../src/tree-batch.ts';
import { randomWeights } from '../../test/fixtures/tiny-model.ts';
import { trainingArtifacts } from '../../test/fixtures/training.ts';
import { openRoofline } from './gemm-roofline.ts';
import { layerParameters, MODEL_29M } from './shapes.ts';

/**
 * Training steps against the GEMM roofline of the machine, and trees against flat sequences.
 *
 *     npx tsx scripts/bench/train.ts [--part steps,tree] [--rounds 7]
 */
const { values: args } = parseArgs({
  options: { part: { type: 'string', default: 'steps,tree' }, rounds: { type: 'string', default: '7' } },
});
const PARTS = new Set(args.part.split(','));
const ROUNDS = Number(args.rounds);
const SETTINGS: OptimizerSettings = {
  learningRate: 1e-6,
  beta1: 0.9,
  beta2: 0.95,
  epsilon: 1e-8,
  weightDecay: 0.1,
  maxGradNorm: 1,
  emaDecay: 0.999,
};

const text = (length: number, seed: number) =>
  Array.from({ length }, (_, i) => (i * 131 + seed * 17) % MODEL_29M.vocabSize);
const median = (values: readonly number[]) => [...values].sort((a, b) => a - b)[values.length >> 1];
const percent = (share: number) => `${(100 * share).toFixed(0)}%`;

/**
 * Floating-point operations of forward and backward: each product of the forward pass has two of its size in the backward
 * pass, hence 3 * 2 a multiply-add. With T tokens, N loss rows, M weights in the layers' matrices:
 *   6 T M + 6 N vocab hidden (head) + 12 layers heads head_dim * (pairs of query and key)
 * Pairs are counted as they are computed: of a trunk's square of scores the blocks on and below the diagonal.
 */
function flopsOf({ dims: { D, P, R, L, N } }: TreeBatch): number {
  const { vocabSize, hiddenSize, numLayers, numHeads, headDim } = MODEL_29M;
  const tokens = D * (P + R * L);
  const block = Math.ceil(P / 4);
  const onTrunk = [1, 2, 3, 4].reduce((sum, i) => {
    const [start, end] = [Math.min(P, (i - 1) * block), Math.min(P, i * block)];
    return sum + (end - start) * end;
  }, 0);
  const pairs = D * (onTrunk + R * L * (P + L));
  return (
    6 * (tokens * layerParameters(MODEL_29M) + N * vocabSize * hiddenSize) + 12 * numLayers * numHeads * headDim * pairs
  );
}

async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** Branches of thoughts with a loss on every token, behind the given prefixes, `group` of each. */
function tree(trunk: number, positions: readonly number[], group: number, length: number): TreeDocument {
  const branches = positions.flatMap((trunkLength) =>
    Array.from({ length: group }, (_, g) => ({
      trunkLength,
      tokens: text(length, g),
      losses: text(length, g + 1).map((target, token) => ({ token, target, advantage: 1, policyWeight: 1e-3 })),
    })),
  );
  return { trunk: text(trunk, 0), losses: [], branches };
}

/** The same thoughts as sequences of their own, each with a copy of its prefix. */
const flattened = ({ trunk, branches }: TreeDocument): TreeDocument[] =>
  branches.map(({ trunkLength, tokens, losses }) => ({
    trunk: [...Array.from(trunk).slice(0, trunkLength), ...Array.from(tokens)],
    losses: losses.map((loss) => ({ ...loss, token: trunkLength + loss.token })),
    branches: [],
  }));

const weights = randomWeights(MODEL_29M);
using session = await TrainingSession.create(trainingArtifacts(MODEL_29M, { forCpu: true }), weights);
console.log(
  `${(parameterCount(MODEL_29M) / 1e6).toFixed(1)} M parameters, ${(layerParameters(MODEL_29M) / 1e6).toFixed(1)} M in the layers' matrices; medians of ${ROUNDS}`,
);

/** The product that steps are compared with runs as long as this before and after each. */
const ROOFLINE_MS = 500;
/** The first runs get memory from the system. */
const WARM_UP = 3;

/** Steps of so many tokens as `train` takes them: in micro-batches of its default size. */
async function steps(): Promise<void> {
  let longStep = 0;
  const roofline = await openRoofline();
  for (const [documents, length] of [
    [4, 256],
    [1, 1024],
    [4, 1024],
    [8, 1024],
  ]) {
    const targets = documents * (length - 1);
    const blocks = Array.from({ length: documents }, (_, i) => cptDocument(text(length, i), targets));
    const batches = packMicroBatches(blocks, MICRO_BATCH_TOKENS).map(buildTreeBatch);
    const step = async () => {
      for (const batch of batches) await session.runTrainStep(batch);
    };
    const gigaflop = batches.reduce((sum, batch) => sum + flopsOf(batch), 0) / 1e9;
    for (let i = 0; i < WARM_UP; i++) await step();
    const rounds: { time: number; rate: number; limit: number; share: number }[] = [];
    // In turns, so that a busy machine slows both.
    let before = roofline.rate(ROOFLINE_MS);
    for (let i = 0; i < ROUNDS; i++) {
      const time = await seconds(step);
      const after = roofline.rate(ROOFLINE_MS);
      const limit = (before + after) / 2;
      rounds.push({ time, rate: gigaflop / time, limit, share: gigaflop / time / limit });
      before = after;
    }
    const time = median(rounds.map((round) => round.time));
    if (documents * length === 4096) longStep = time;
    const shares = rounds.map(({ share }) => share).sort((a, b) => a - b);
    console.log(
      `${documents} x ${length} tokens, forward and backward: ${(1000 * time).toFixed(0)} ms, ${((documents * length) / time).toFixed(0)} tokens/s, ` +
        `${median(rounds.map(({ rate }) => rate)).toFixed(0)} GFLOP/s: ${percent(median(shares))} of the roofline ` +
        `(${median(rounds.map(({ limit }) => limit)).toFixed(0)}; from ${percent(shares[0])} to ${percent(shares[shares.length - 1])})`,
    );
  }
  roofline.dispose();

  const times: number[] = [];
  for (let i = 0; i < ROUNDS; i++) times.push(await seconds(() => session.runOptimizerStep(SETTINGS)));
  const optimizer = median(times);
  console.log(
    `optimizer: ${(1000 * optimizer).toFixed(0)} ms, ${percent(optimizer / longStep)} of a step of 4,096 tokens`,
  );
}

async function treeAgainstFlat(): Promise<void> {
  const [P, G, L] = [512, 8, 64];
  for (const [name, positions] of [
    ['at the end of the document', [509, 510, 511, 512]],
    ['spread evenly', [128, 256, 384, 512]],
  ] as const) {
    const document = tree(P, positions, G, L);
    const sequences = flattened(document);
    // Four micro-batches: whole, the flat batch would need more memory than the machine has.
    const flat = [0, 8, 16, 24].map((start) => buildTreeBatch(sequences.slice(start, start + 8)));
    const asTree = buildTreeBatch([document]);
    const runFlat = async () => {
      for (const batch of flat) await session.runTrainStep(batch);
    };
    await session.runTrainStep(asTree);
    await runFlat();
    const rounds: { tree: number; flat: number }[] = [];
    for (let i = 0; i < 3; i++) {
      rounds.push({ tree: await seconds(() => session.runTrainStep(asTree)), flat: await seconds(runFlat) });
    }
    const { tree: treeTime, flat: flatTime } = rounds.sort((a, b) => a.flat / a.tree - b.flat / b.tree)[1];
    console.log(
      `P=${P} K=4 G=${G} L=${L}, positions ${name}: tree ${(1000 * treeTime).toFixed(0)} ms, flat ${(1000 * flatTime).toFixed(0)} ms: ` +
        `${(flatTime / treeTime).toFixed(1)} times as fast`,
    );
  }
}

if (PARTS.has('steps')) await steps();
if (PARTS.has('tree')) await treeAgainstFlat();
console.log(`resident memory at the end: ${(process.memoryUsage().rss / 1e9).toFixed(1)} GB`);
