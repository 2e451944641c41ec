import { copyFile, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { trainSchema } from '../../src/config.ts';
import type { ComputeDType } from '../../src/export/index.ts';
import { type ModelConfig, parameterCount } from '../../src/model-config.ts';
import { openModel } from '../../src/model-directory.ts';
import { cptDocument, DEFAULT_OPTIMIZER_SETTINGS, TrainingSession } from '../../src/optim/index.ts';
import { type RolloutDocument, RolloutEngine } from '../../src/rollout/index.ts';
import { readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { writeRandomCheckpoint } from '../bench/random-checkpoint.ts';
import { MODEL_29M, MODEL_600M, MODEL_1700M } from '../bench/shapes.ts';
import type { Limits } from './limits.ts';
import { type Finding, measured, median, type Setup } from './part.ts';

const TINY = fileURLToPath(new URL('../../models/tiny-qwen3', import.meta.url));
const SMALL: ModelConfig = { ...MODEL_29M, vocabSize: 512, hiddenSize: 64, intermediateSize: 192, numLayers: 2 };

/** Models by name: of the sizes that the check is about, or one that takes seconds on a CPU. */
const shapesOf = ({ small }: Setup): [string, ModelConfig][] =>
  small
    ? [['small', SMALL]]
    : [
        ['0.6B', MODEL_600M],
        ['1.7B', MODEL_1700M],
      ];

/** Speed is measured in the narrowest type that the device has. */
const fastest = ({ dtypes }: Setup): ComputeDType => dtypes[dtypes.length - 1];

/** A checkpoint with random weights; its tokenizer knows the first few of the ids. */
async function checkpointOf({ folder }: Setup, name: string, config: ModelConfig): Promise<string> {
  const directory = join(folder, name);
  await mkdir(directory, { recursive: true });
  await writeRandomCheckpoint(directory, config);
  for (const file of ['tokenizer.json', 'tokenizer_config.json'])
    await copyFile(join(TINY, file), join(directory, file));
  return directory;
}

const text = (length: number, seed: number, { vocabSize }: ModelConfig) =>
  Array.from({ length }, (_, i) => (i * 131 + seed * 17) % vocabSize);

/**
 * Decoding: tokens a second, and the share of the limit of a step, which reads every weight once and takes 2 FLOPs a weight
 * and row, whichever takes longer.
 */
export async function decode(setup: Setup, limits: Limits): Promise<Finding[]> {
  const { device, small } = setup;
  const dtype = fastest(setup);
  const bytesPerWeight = dtype === 'float32' ? 4 : 2;
  const findings: Finding[] = [];
  for (const [name, config] of shapesOf(setup)) {
    const model = await openModel(await checkpointOf(setup, name, config), { dtype });
    using engine = await RolloutEngine.create(model.rolloutGraphs, { device, externalDataFolder: model.directory });
    const prefix = small ? 16 : 128;
    for (const rows of small ? [1, 8] : [1, 32, 256, 1024]) {
      const count = Math.max(1, rows / 8);
      const documents = Array.from({ length: count }, (_, d): RolloutDocument => {
        return { id: String(d), tokens: [...text(prefix, d, config), 0], positions: [prefix] };
      });
      const run = async (maxThoughtTokens: number) => {
        const { steps } = engine.counts;
        const start = performance.now();
        const groupSize = rows / count;
        const options = { open: 1, close: 2, endOfText: [], horizon: 1, temperature: 1, seed: 0, step: 0 };
        const slots = { documentsPerBatch: count, rowsPerDocument: groupSize };
        for await (const _ of engine.generate(documents, { ...options, ...slots, groupSize, maxThoughtTokens }));
        return { ms: performance.now() - start, steps: engine.counts.steps - steps };
      };
      const [few, many] = small ? [2, 8] : [4, 68];
      await run(few);
      const rounds: number[] = [];
      for (let i = 0; i < 3; i++) {
        const [long, short] = [await run(many), await run(few)];
        rounds.push((long.ms - short.ms) / (long.steps - short.steps));
      }
      const step = median(rounds);
      const weights = parameterCount(config);
      const limit = Math.max(
        (weights * bytesPerWeight) / limits.bandwidth,
        (2 * weights * rows) / (limits.flops[dtype] ?? Number.POSITIVE_INFINITY),
      );
      const what = `${name}, ${dtype}, ${rows} rows`;
      findings.push(
        measured('decode', `${what}: step`, step, 'ms'),
        measured('decode', `${what}: tokens`, (1000 * rows) / step, 'tokens/s'),
        measured('decode', `${what}: share of the bandwidth or compute limit`, (100 * 1000 * limit) / step, '%'),
      );
    }
  }
  return findings;
}

/** Forward, backward and optimizer on next-token batches; MFU as 6 FLOPs a weight and token over the limit of the device. */
export async function training(setup: Setup, limits: Limits): Promise<Finding[]> {
  const { device, small, peakTflops } = setup;
  const dtype = fastest(setup);
  const findings: Finding[] = [];
  for (const [name, config] of shapesOf(setup)) {
    const model = await openModel(await checkpointOf(setup, `${name}-training`, config), { dtype, recompute: !small });
    using session = await TrainingSession.create(model.trainingArtifacts, await model.loadWeights(), { device });
    const [documents, length] = small ? [2, 32] : [8, 1024];
    const targets = documents * (length - 1);
    const blocks = Array.from({ length: documents }, (_, i) => cptDocument(text(length, i, config), targets));
    const batch = buildTreeBatch(blocks);
    const times: { train: number; optimizer: number }[] = [];
    for (let i = 0; i < 4; i++) {
      session.lazyResetGrad();
      const start = performance.now();
      await session.runTrainStep(batch);
      const middle = performance.now();
      await session.runOptimizerStep({ ...DEFAULT_OPTIMIZER_SETTINGS, learningRate: 1e-6 });
      times.push({ train: middle - start, optimizer: performance.now() - middle });
    }
    const [step, optimizer] = [
      median(times.slice(1).map(({ train: ms }) => ms)),
      median(times.slice(1).map((t) => t.optimizer)),
    ];
    const tokens = documents * length;
    const flops = (6 * parameterCount(config) * tokens) / (step / 1000);
    const peak = peakTflops === undefined ? limits.flops[dtype] : peakTflops * 1e12;
    findings.push(
      measured('training', `${name}, ${dtype}: tokens, ${tokens} in a batch`, (1000 * tokens) / step, 'tokens/s'),
      measured(
        'training',
        `${name}, ${dtype}: MFU, of ${peakTflops === undefined ? 'the product measured' : `${peakTflops} TFLOP/s`}`,
        (100 * flops) / (peak ?? Number.NaN),
        '%',
      ),
      measured(
        'training',
        `${name}, ${dtype}: optimizer step, share of forward and backward`,
        (100 * optimizer) / step,
        '%',
      ),
    );
  }
  return findings;
}

/** One step of RLP, by its stages. */
export async function rlpStep(setup: Setup): Promise<Finding[]> {
  const { small, folder, deviceName } = setup;
  const dtype = fastest(setup);
  const [name, config] = shapesOf(setup)[0];
  const run = join(folder, `rlp-step-${name}`);
  await train(
    trainSchema.parse({
      ...{ model: await checkpointOf(setup, `${name}-rlp`, config), data: [join(TINY, 'corpus', 'train.jsonl')], run },
      ...{ device: deviceName, dtype, steps: 3, checkpointEvery: 0, recompute: !small },
      ...{
        documentsPerStep: small ? 4 : 32,
        groupSize: small ? 2 : 16,
        maxThoughtTokens: small ? 8 : 128,
        temperature: 1,
      },
      ...{ documentsPerBatch: small ? 4 : 32 },
    }),
  );
  const steps = (await readMetrics(run)).filter(({ loss }) => loss !== undefined);
  const last = steps[steps.length - 1];
  const stages = ['time/rollout', 'time/score', 'time/train', 'time/optimizer', 'step_time'];
  return [
    ...stages.map((stage) => measured('rlp-step', `${name}, ${dtype}: ${stage}`, Number(last[stage] ?? 0), 's')),
    ...['to_device', 'to_host'].map((way) =>
      measured(
        'rlp-step',
        `${name}, ${dtype}: bytes ${way.replace('_', ' ')}`,
        Number(last[`transfers/${way}_bytes`] ?? 0),
        'bytes',
      ),
    ),
  ];
}
