import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type TrainConfig, trainSchema } from '../../src/config.ts';
import { RunError, UserError } from '../../src/errors.ts';
import { openModel } from '../../src/model-directory.ts';
import { TrainingSession } from '../../src/optim/index.ts';
import { listCheckpoints, readMetrics } from '../../src/run-folder.ts';
import { type FailedStep, loadFailedStep, saveFailedStep } from '../../src/train/failed-step.ts';
import { train } from '../../src/train/train.ts';
import { buildTreeBatch, type TreeBatch, treeBatchShapes } from '../../src/tree-batch.ts';
import { type Workplace, workplace } from '../bad-input/refused.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { randomTrees, SETTINGS, trainingArtifacts } from '../fixtures/training.ts';

/** Large enough that the squares of the gradients overflow float32, while the loss does not. */
const HUGE = 1e20;

let folder: Workplace;
beforeEach(async () => {
  folder = await workplace();
  const rows = Array.from({ length: 40 }, (_, i) => `${JSON.stringify({ text: `${i ** 7} is a number` })}\n`);
  writeFileSync(folder.in('data.jsonl'), rows.join(''));
});
afterEach(() => folder[Symbol.dispose]());

function configOf(more: Partial<TrainConfig> = {}): TrainConfig {
  return trainSchema.parse({
    ...{ model: folder.in('model'), data: [folder.in('data.jsonl')], run: folder.in('run'), objective: 'cpt' },
    ...{ steps: 3, blockLength: 16, batchTokens: 64, learningRate: 1e-3, threads: 1, ...more },
  });
}

const failed = (step: number) => folder.in('run', 'failed', `step-00000${step}`);

/** The loss of a batch in plain onnxruntime-node. */
async function plainLoss(directory: string, batch: TreeBatch, { weights, clip }: FailedStep): Promise<number> {
  const session = await ort.InferenceSession.create(join(directory, 'eval_model.onnx'));
  const feeds: Record<string, ort.Tensor> = {
    clip_low: new ort.Tensor('float32', [clip.low], []),
    clip_high: new ort.Tensor('float32', [clip.high], []),
  };
  for (const [name, dims] of Object.entries(treeBatchShapes(batch))) {
    const data = batch[name as keyof ReturnType<typeof treeBatchShapes>];
    feeds[name] =
      data instanceof BigInt64Array ? new ort.Tensor('int64', data, dims) : new ort.Tensor('float32', data, dims);
  }
  for (const [name, { shape, data }] of weights) feeds[name] = new ort.Tensor('float32', data, shape);
  const { loss } = await session.run(feeds, ['loss']);
  await session.release();
  return Number(loss.data[0]);
}

describe('a step whose loss is not finite', () => {
  it('is kept, and is not finite when it is run again', async () => {
    const config = configOf({ learningRate: 3e38 });
    const run = train(config);
    await expect(run).rejects.toThrow(RunError);
    await expect(run).rejects.toThrow(
      `step 2: loss NaN: training has diverged; the step was not applied; its batch is kept in ${failed(2)}. ` +
        'Start a new run with a lower --learning-rate, from the model or from a checkpoint of this run',
    );
    expect((await readMetrics(config.run)).map(({ step }) => step)).toEqual([1]);
    expect(await listCheckpoints(config.run)).toEqual([]);

    const again = await loadFailedStep(failed(2));
    expect(again).toMatchObject({ step: 2, reason: 'loss NaN', losses: [Number.NaN], clip: { low: 0.2, high: 0.2 } });
    using session = await TrainingSession.create(
      (await openModel(folder.in('model'))).trainingArtifacts,
      again.weights,
    );
    const [batch] = again.batches;
    expect((await session.runTrainStep(batch, again.clip)).loss).toBeNaN();
    const { checkpoint } = await train(configOf({ run: folder.in('healthy'), steps: 1 }));
    expect(await plainLoss(checkpoint, batch, again)).toBeNaN();
  });
});

describe('a step whose gradient is not finite', () => {
  it('is kept with its very inputs, and is not applied when it is run again either', async () => {
    await train(configOf({ run: folder.in('healthy'), steps: 1 }));
    const [healthy] = await readMetrics(folder.in('healthy'));
    const norm: Float32Array[] = [];
    folder[Symbol.dispose]();
    folder = await workplace((weights) => {
      const data = weights.get('model.norm.weight')?.data ?? new Float32Array(0);
      norm.push(data.slice());
      data.set(data.map((value) => value * HUGE));
    });
    const rows = Array.from({ length: 40 }, (_, i) => `${JSON.stringify({ text: `${i ** 7} is a number` })}\n`);
    writeFileSync(folder.in('data.jsonl'), rows.join(''));

    const run = train(configOf());
    await expect(run).rejects.toThrow(/^step 1: loss \d{20,}, gradient norm (Infinity|NaN): training has diverged/);
    expect(await readMetrics(folder.in('run'))).toEqual([]);

    const again = await loadFailedStep(failed(1));
    const artifacts = (await openModel(folder.in('model'))).trainingArtifacts;
    {
      using session = await TrainingSession.create(artifacts, again.weights);
      for (const [i, batch] of again.batches.entries()) {
        expect((await session.runTrainStep(batch, again.clip)).loss).toBe(again.losses[i]);
      }
      const { gradNorm, applied } = await session.runOptimizerStep(SETTINGS);
      expect(Number.isFinite(gradNorm)).toBe(false);
      expect(applied).toBe(false);
    }
    // With sound weights it is the first step of a sound run: the batch was kept as it was.
    const sound = new Map(again.weights);
    sound.set('model.norm.weight', { shape: [norm[0].length], data: norm[0] });
    using session = await TrainingSession.create(artifacts, sound);
    let loss = 0;
    for (const batch of again.batches) loss += (await session.runTrainStep(batch, again.clip)).loss;
    expect(loss).toBe(healthy.loss);
    const { gradNorm } = await session.runOptimizerStep(SETTINGS);
    expect(gradNorm).toBe(healthy.grad_norm);
  });
});

it('a failed step of LoRA has the weights of the model, too, and is the same when it is run again', async () => {
  folder[Symbol.dispose]();
  folder = await workplace((weights) => {
    const data = weights.get('model.norm.weight')?.data ?? new Float32Array(0);
    data.set(data.map((value) => value * HUGE));
  });
  const rows = Array.from({ length: 40 }, (_, i) => `${JSON.stringify({ text: `${i ** 7} is a number` })}\n`);
  writeFileSync(folder.in('data.jsonl'), rows.join(''));
  const lora = { loraRank: 2, loraAlpha: 4, loraTargetModules: ['q_proj', 'down_proj'] };
  await expect(train(configOf({ ...lora, recompute: true }))).rejects.toThrow(
    /^step 1: loss \d{20,}, gradient norm (Infinity|NaN): training has diverged/,
  );

  // As docs/artifacts.md has it.
  const { graphs, weights, lossScale, batches, clip, losses } = await loadFailedStep(failed(1));
  expect(graphs).toMatchObject({
    lora: { rank: 2, alpha: 4, targetModules: ['q_proj', 'down_proj'] },
    recompute: true,
  });
  const model = await openModel(folder.in('model'), graphs);
  expect(new Set(weights.keys())).toEqual(
    new Set([
      ...(await model.loadWeights()).keys(),
      ...['self_attn.q_proj', 'mlp.down_proj'].flatMap((module) =>
        ['lora_A', 'lora_B'].map((name) => `model.layers.0.${module}.${name}.weight`),
      ),
    ]),
  );
  using session = await TrainingSession.create(model.trainingArtifacts, weights, { intraOpThreads: 1 });
  session.lossScale = lossScale;
  for (const [i, batch] of batches.entries()) {
    expect((await session.runTrainStep(batch, clip)).loss).toBe(losses[i]);
  }
  expect(await session.runOptimizerStep(SETTINGS)).toMatchObject({ applied: false });
});

it('keeps the scale of the loss, at which float16 is run again', async () => {
  const weights = randomWeights(TINY_MODEL, 1);
  const batch = buildTreeBatch(randomTrees(TINY_MODEL.vocabSize, 2));
  const kept = { step: 3, reason: 'r', clip: { low: 0.2, high: 0.2 }, batches: [batch], losses: [1.5], weights };
  await saveFailedStep(failed(3), { ...kept, graphs: { dtype: 'float16' }, lossScale: 4096 });
  const { graphs, lossScale } = await loadFailedStep(failed(3));
  expect({ graphs, lossScale }).toEqual({ graphs: { dtype: 'float16' }, lossScale: 4096 });
  using session = await TrainingSession.create(trainingArtifacts(TINY_MODEL, graphs), weights);
  session.lossScale = lossScale;
  expect(session.lossScale).toBe(4096);
  using full = await TrainingSession.create(trainingArtifacts(TINY_MODEL), weights);
  full.lossScale = 1;
  expect(() => {
    full.lossScale = 4096;
  }).toThrow('a loss scale of 4096: only training in float16 has one');
});

describe('loadFailedStep', () => {
  it('names what is missing or damaged', async () => {
    await expect(train(configOf({ learningRate: 3e38 }))).rejects.toThrow(RunError);
    const load = () => loadFailedStep(failed(2));
    const file = join(failed(2), 'step.json');
    const text = readFileSync(file, 'utf8');
    writeFileSync(file, text.slice(0, 20));
    await expect(load()).rejects.toThrow(`${file}: damaged (`);
    writeFileSync(file, text);
    rmSync(join(failed(2), 'batch-0.safetensors'));
    await expect(load()).rejects.toThrow(UserError);
    await expect(load()).rejects.toThrow(/batch-0\.safetensors.*no such file/);
    await expect(loadFailedStep(folder.in('nowhere'))).rejects.toThrow(/step\.json: no such file/);
  });
});
