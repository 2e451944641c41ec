import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exportCheckpoint } from '../../src/export/index.ts';
import type { TrainingSession } from '../../src/optim/index.ts';
import { openTrainingSession } from '../../src/train/open-session.ts';
import { buildTreeBatch, treeBatchShapes } from '../../src/tree-batch.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { randomTrees, SETTINGS } from '../fixtures/training.ts';
import { goldenPath } from '../golden/golden.ts';

/** The exported graphs in onnxruntime-node's own InferenceSession, driven as docs/artifacts.md says. */
const OPTIONS: ort.InferenceSession.SessionOptions = { intraOpNumThreads: 1, logSeverityLevel: 3 };
const float32 = (data: ArrayLike<number>, dims: readonly number[]) =>
  new ort.Tensor('float32', Float32Array.from(data), dims);
const numbers = (tensor: ort.Tensor): ArrayLike<number> => tensor.data as Float32Array;

let folder: ReturnType<typeof temporaryFolder>;
let session: TrainingSession;
beforeAll(async () => {
  folder = temporaryFolder();
  await exportCheckpoint({ checkpoint: goldenPath('checkpoints', 'tied-gqa'), out: folder.in('exported') });
  session = await openTrainingSession(folder.in('exported'), { intraOpThreads: 1, forCpu: false });
});
afterAll(() => {
  session.release();
  folder[Symbol.dispose]();
});

const open = (name: string) => ort.InferenceSession.create(join(folder.in('exported'), name), OPTIONS);

describe('training_model.onnx, eval_model.onnx and optimizer_model.onnx in plain onnxruntime-node', () => {
  it('take two steps to the same losses, gradients, weights, moments and EMA as TrainingSession', async () => {
    const [training, evaluation, optimizer] = await Promise.all(
      ['training_model.onnx', 'eval_model.onnx', 'optimizer_model.onnx'].map(open),
    );
    const batches = [1, 2].map((seed) => buildTreeBatch(randomTrees(101, 3, seed)));
    const weights = new Map(
      [...session.weights].map(([name, { data, dims }]) => [name, float32(data as Float32Array, dims)]),
    );
    const zeros = () =>
      [...weights].map(([name, { size, dims }]) => [name, float32(new Float32Array(size), dims)] as const);
    const state: Record<string, ort.Tensor> = Object.fromEntries([
      ...weights,
      ...zeros().map(([name, zero]) => [`${name}.exp_avg`, zero]),
      ...zeros().map(([name, zero]) => [`${name}.exp_avg_sq`, zero]),
      ...[...weights].map(([name, weight]) => [`${name}.ema`, weight]),
    ]);
    const onlyWeights = () => Object.fromEntries([...weights.keys()].map((name) => [name, state[name]]));

    for (const [i, batch] of batches.entries()) {
      const feeds: Record<string, ort.Tensor> = { clip_low: float32([0.2], []), clip_high: float32([0.3], []) };
      for (const [name, dims] of Object.entries(treeBatchShapes(batch))) {
        const data = batch[name as keyof ReturnType<typeof treeBatchShapes>];
        feeds[name] = data instanceof BigInt64Array ? new ort.Tensor('int64', data, dims) : float32(data, dims);
      }
      expect(Object.keys(feeds).sort()).toEqual([...session.trainingInputNames].sort());
      expect(session.evalInputNames).toEqual(session.trainingInputNames);
      const gradients = Object.fromEntries(zeros().map(([name, zero]) => [`${name}.grad`, zero]));

      const clip = { low: 0.2, high: 0.3 };
      const evaluated = await evaluation.run({ ...onlyWeights(), ...feeds });
      expect(Object.keys(evaluated)).toEqual(session.evalOutputNames);
      const ours = await session.runEvalStep(batch, 'weights', clip);
      expect(numbers(evaluated.loss)[0]).toBe(ours.loss);
      expect(numbers(evaluated.log_probs)).toEqual(ours.logProbs);
      expect(numbers(evaluated.entropy)).toEqual(ours.entropy);

      const trained = await training.run({ ...onlyWeights(), ...gradients, ...feeds });
      session.lazyResetGrad();
      expect(numbers(trained.loss)[0]).toBe((await session.runTrainStep(batch, clip)).loss);
      for (const name of weights.keys()) expect(numbers(trained[`${name}.grad.out`])).toEqual(session.gradient(name));

      const t = i + 1;
      const { learningRate, beta1, beta2, epsilon, weightDecay, maxGradNorm, emaDecay } = SETTINGS;
      const scalars = {
        ...{ learning_rate: learningRate, beta1, beta2, epsilon, weight_decay: weightDecay },
        ...{ max_grad_norm: maxGradNorm, ema_decay: emaDecay },
        ...{ bias_correction1: 1 - beta1 ** t, bias_correction2: 1 - beta2 ** t },
      };
      const stepped = await optimizer.run({
        ...state,
        ...Object.fromEntries([...weights.keys()].map((name) => [`${name}.grad`, trained[`${name}.grad.out`]])),
        ...Object.fromEntries(Object.entries(scalars).map(([name, value]) => [name, float32([value], [])])),
      });
      const { gradNorm, applied } = await session.runOptimizerStep(SETTINGS);
      expect(applied).toBe(true);
      expect(stepped.applied.data[0]).toBe(1);
      expect(numbers(stepped.grad_norm)[0]).toBe(gradNorm);
      for (const name of Object.keys(state)) state[name] = stepped[`${name}.out`];
      const { tensors } = session.state();
      for (const name of weights.keys()) {
        expect(numbers(state[name]), name).toEqual(tensors.weights.get(name)?.data);
        expect(numbers(state[`${name}.exp_avg`]), name).toEqual(tensors.exp_avg.get(name)?.data);
        expect(numbers(state[`${name}.exp_avg_sq`]), name).toEqual(tensors.exp_avg_sq.get(name)?.data);
        expect(numbers(state[`${name}.ema`]), name).toEqual(tensors.ema.get(name)?.data);
      }
    }
    for (const plain of [training, evaluation, optimizer]) await plain.release();
  });
});
