import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { UserError } from '../../src/errors.ts';
import { STATE_KINDS, TrainingSession, type TrainingState } from '../../src/optim/index.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { randomTrees, relativeDistance, SETTINGS, tinySession, trainingArtifacts } from '../fixtures/training.ts';

const TREES = randomTrees(TINY_MODEL.vocabSize, 3);
const TEXT = TREES.map(({ trunk, losses }) => ({ trunk, losses, branches: [] }));

/** A copy of the state that later steps do not change. */
function snapshot(session: TrainingSession): TrainingState {
  return structuredClone(session.state());
}

function expectSameBits(actual: TrainingState, expected: TrainingState): void {
  expect(actual.step).toBe(expected.step);
  for (const kind of STATE_KINDS) {
    expect([...actual.tensors[kind].keys()]).toEqual([...expected.tensors[kind].keys()]);
    for (const [name, { data }] of actual.tensors[kind]) {
      const bits = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
      const other = expected.tensors[kind].get(name)?.data ?? new Float32Array();
      expect(bits.equals(Buffer.from(other.buffer, other.byteOffset, other.byteLength)), `${kind} of ${name}`).toBe(
        true,
      );
    }
  }
}

let session: TrainingSession;
let start: TrainingState;
beforeAll(async () => {
  session = await tinySession();
  start = snapshot(session);
});
afterAll(() => session.release());

const names = () => [...start.tensors.weights.keys()];
const gradients = () => new Map(names().map((name) => [name, session.gradient(name)]));

/** Gradients of micro-batches, accumulated. */
async function accumulate(
  batches: readonly (typeof TREES)[],
): Promise<{ loss: number; grads: Map<string, Float32Array> }> {
  session.lazyResetGrad();
  let loss = 0;
  for (const batch of batches) loss += (await session.runTrainStep(buildTreeBatch(batch))).loss;
  return { loss, grads: gradients() };
}

describe('TrainingSession', () => {
  it('starts with the weights, an EMA equal to them, and no moments', () => {
    expect(session.getParametersSize()).toBe(
      [...start.tensors.weights.values()].reduce((n, { data }) => n + data.length, 0),
    );
    for (const [name, { data }] of start.tensors.weights) {
      expect(start.tensors.ema.get(name)?.data).toEqual(data);
      expect(start.tensors.exp_avg.get(name)?.data.every((value) => value === 0)).toBe(true);
      expect(start.tensors.exp_avg_sq.get(name)?.data.every((value) => value === 0)).toBe(true);
    }
  });

  it('learns a text by heart', async () => {
    session.loadState(start);
    const batch = buildTreeBatch(TEXT);
    const first = (await session.runEvalStep(batch)).loss;
    for (let step = 0; step < 60; step++) {
      session.lazyResetGrad();
      await session.runTrainStep(batch);
      expect((await session.runOptimizerStep(SETTINGS)).applied).toBe(true);
    }
    expect(session.step).toBe(60);
    const last = (await session.runEvalStep(batch)).loss;
    expect(first).toBeGreaterThan(3);
    expect(last).toBeLessThan(0.05);
    // The EMA lags: it has seen the text, but is behind the weights.
    const lagged = (await session.runEvalStep(batch, 'ema')).loss;
    expect(lagged).toBeGreaterThan(last);
    expect(lagged).toBeLessThan(first / 2);
  });

  it('accumulates micro-batches to the gradients of one batch', async () => {
    session.loadState(start);
    const whole = await accumulate([TREES]);
    const parts = await accumulate(TREES.map((tree) => [tree]));
    expect(parts.loss).toBeCloseTo(whole.loss, 5);
    for (const [name, gradient] of whole.grads) {
      expect(relativeDistance(parts.grads.get(name) ?? [], gradient), name).toBeLessThan(1e-5);
    }
    // Without a reset they go on adding up.
    await session.runTrainStep(buildTreeBatch(TREES));
    for (const [name, gradient] of whole.grads) {
      expect(
        relativeDistance(
          session.gradient(name),
          gradient.map((value) => 2 * value),
        ),
        name,
      ).toBeLessThan(1e-5);
    }
  });

  it('gives the same loss and log-probs in training as in evaluation', async () => {
    session.loadState(start);
    const batch = buildTreeBatch(TREES);
    const trained = await session.runTrainStep(batch);
    const evaluated = await session.runEvalStep(batch);
    expect(trained.loss).toBeCloseTo(evaluated.loss, 5);
    for (const kind of ['logProbs', 'entropy', 'ratio'] as const) {
      expect(relativeDistance(trained[kind], evaluated[kind])).toBeLessThan(1e-5);
    }
  });

  it('updates weights, moments and EMA where they are', async () => {
    session.loadState(start);
    const before = new Map([...session.weights].map(([name, { data }]) => [name, data]));
    await accumulate([TREES]);
    await session.runOptimizerStep(SETTINGS);
    for (const [name, value] of session.weights) {
      expect(value.data).toBe(before.get(name)); // the same view of the same memory
      expect(value.data).not.toEqual(start.tensors.weights.get(name)?.data);
    }
  });

  it('moves the EMA by 1 - tau towards the new weights', async () => {
    session.loadState(start);
    await accumulate([TREES]);
    await session.runOptimizerStep({ ...SETTINGS, emaDecay: 0.75 });
    for (const [name, value] of session.ema) {
      const old = start.tensors.ema.get(name)?.data ?? [];
      const weight = session.weights.get(name)?.data ?? [];
      const expected = Float32Array.from(old, (phi, i) => 0.75 * phi + 0.25 * Number(weight[i]));
      expect(relativeDistance(value.data as Float32Array, expected)).toBeLessThan(1e-7);
    }
    session.resetEma();
    for (const [name, value] of session.ema) expect(value.data).toEqual(session.weights.get(name)?.data);
  });

  it('keeps the EMA bit for bit with tau = 1', async () => {
    session.loadState(start);
    await accumulate([TREES]);
    await session.runOptimizerStep({ ...SETTINGS, emaDecay: 1 });
    expect(session.state().tensors.ema).toEqual(start.tensors.ema);
  });

  it('trains the same without an EMA, and takes over from a state with one and the other way round', async () => {
    using without = await TrainingSession.create(
      trainingArtifacts(TINY_MODEL, { ema: false }),
      randomWeights(TINY_MODEL),
    );
    without.loadState(start);
    session.loadState(start);
    for (const each of [session, without]) {
      each.lazyResetGrad();
      await each.runTrainStep(buildTreeBatch(TREES));
    }
    const { emaDistance, ...result } = await session.runOptimizerStep(SETTINGS);
    expect(emaDistance).toBeGreaterThan(0);
    expect(await without.runOptimizerStep(SETTINGS)).toEqual(result);
    const { ema, ...tensors } = session.state().tensors;
    expect(without.state().tensors).toEqual({ ...tensors, ema: new Map() });
    await expect(async () => without.runEvalStep(buildTreeBatch(TREES), 'ema')).rejects.toThrow('there is no EMA');
    expect(() => without.resetEma()).toThrow('there is no EMA');

    const weights = [...without.weights].map(([name, { data }]) => [name, (data as Float32Array).slice()]);
    session.loadState(without.state());
    expect([...session.ema].map(([name, { data }]) => [name, data])).toEqual(weights);
  });

  it('refuses two loss rows on one token, whose gradients it would not add up', async () => {
    const [tree] = TREES;
    const twice = { ...tree, losses: [tree.losses[0], ...tree.losses] };
    await expect(session.runTrainStep(buildTreeBatch([twice]))).rejects.toThrow('a token with two loss rows');
    expect((await session.runEvalStep(buildTreeBatch([twice]))).loss).toBeGreaterThan(0);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('applies nothing when a gradient is %s', async (weight) => {
    session.loadState(start);
    await accumulate([TREES]);
    await session.runOptimizerStep(SETTINGS);
    const before = snapshot(session);
    const [tree] = TEXT;
    const poisoned = { ...tree, losses: tree.losses.map((loss) => ({ ...loss, nllWeight: weight })) };
    await accumulate([[poisoned]]);
    const { applied, gradNorm } = await session.runOptimizerStep(SETTINGS);
    expect(applied).toBe(false);
    expect(Number.isFinite(gradNorm)).toBe(false);
    expectSameBits(snapshot(session), before);
    // The next batch is not poisoned by what is in the buffers.
    await accumulate([TREES]);
    expect((await session.runOptimizerStep(SETTINGS)).applied).toBe(true);
  });

  it('continues from a saved state bit for bit', async () => {
    const steps = async (target: TrainingSession, count: number) => {
      for (let i = 0; i < count; i++) {
        target.lazyResetGrad();
        for (const tree of TREES) await target.runTrainStep(buildTreeBatch([tree]));
        await target.runOptimizerStep(SETTINGS);
      }
    };
    session.loadState(start);
    await steps(session, 2);
    const saved = snapshot(session);
    await steps(session, 3);
    const uninterrupted = snapshot(session);
    using other = await tinySession(2);
    await steps(other, 1);
    other.loadState(saved);
    expectSameBits(snapshot(other), saved);
    await steps(other, 3);
    expectSameBits(snapshot(other), uninterrupted);
  });

  it('refuses the state of another model, and changes nothing', async () => {
    session.loadState(start);
    using deeper = await tinySession(1, { ...TINY_MODEL, numLayers: 3 });
    expect(() => session.loadState(deeper.state())).toThrow(
      /the training state does not fit the model: weights of model\.layers\.2\.\S+ is \[\d+(, \d+)?\], expected no such weight; resume/,
    );
    expect(() => deeper.loadState(start)).toThrow(/weights of model\.layers\.2\.\S+ is not there, expected \[/);
    using wider = await tinySession(1, { ...TINY_MODEL, vocabSize: 50 });
    expect(() => session.loadState(wider.state())).toThrow(
      'weights of model.embed_tokens.weight is [50, 32], expected [48, 32]',
    );
    expectSameBits(snapshot(session), start);
  });

  it('has the methods of ONNX Runtime on parameters, learning rate and names', async () => {
    session.loadState(start);
    const before = session.getContiguousParameters();
    expect(before.length).toBe(session.getParametersSize());
    expect(before.length).toBe(session.getParametersSize(false)); // nothing is frozen here
    const first = session.weights.get('model.embed_tokens.weight')?.data as Float32Array;
    expect(before.subarray(0, first.length)).toEqual(first.slice());

    session.loadParametersBuffer(before.map((value) => 2 * value));
    expect(session.getContiguousParameters()).toEqual(before.map((value) => 2 * value));
    session.loadParametersBuffer(new Uint8Array(before.buffer)); // as ONNX Runtime takes it
    expect(session.getContiguousParameters()).toEqual(before);
    expect(() => session.loadParametersBuffer(before.subarray(1))).toThrow(
      `the buffer of parameters has ${4 * before.length - 4} bytes, expected ${4 * before.length} for ${before.length} ` +
        'parameters (those that are trained)',
    );
    expect(() => session.loadParametersBuffer(new Uint8Array(3), false)).toThrow('has 3 bytes, expected');

    const batchInputs = session.trainingInputNames;
    const outputs = ['loss', 'log_probs', 'entropy', 'ratio'];
    expect(batchInputs).toContain('trunk_ids');
    expect(batchInputs.filter((name) => name.startsWith('model.'))).toEqual([]);
    expect(session.evalInputNames).toEqual(batchInputs);
    expect(session.trainingOutputNames).toEqual(outputs);
    expect(session.evalOutputNames).toEqual(outputs);

    // A rate of 0 and no decay: the step is taken, and moves no weight.
    session.setLearningRate(0);
    expect(session.getLearningRate()).toBe(0);
    await accumulate([TREES]);
    await session.runOptimizerStep({ weightDecay: 0 });
    expect(session.getContiguousParameters()).toEqual(before);
    await accumulate([TREES]);
    await session.runOptimizerStep({ learningRate: 1e-3 });
    expect(session.getLearningRate()).toBe(1e-3);
    expect(session.getContiguousParameters()).not.toEqual(before);
  });

  it('refuses an optimizer step without gradients', async () => {
    session.loadState(start);
    const step = session.runOptimizerStep(SETTINGS);
    await expect(step).rejects.toThrow(UserError);
    await expect(step).rejects.toThrow('runOptimizerStep: there are no gradients yet; call runTrainStep first');
    expect(() => session.gradient('model.norm')).toThrow('no weight named model.norm is trained');
  });

  it('keeps its memory over 400 steps', async () => {
    session.loadState(start);
    // So many loss rows that inputs and results of 400 steps would be 30 MB.
    const many = Array.from({ length: 100 }, () => TREES).flat();
    const batches = [many, many.slice(1)].map((trees) => buildTreeBatch(trees));
    const steps = async (count: number) => {
      for (let i = 0; i < count; i++) {
        session.lazyResetGrad();
        await session.runTrainStep(batches[i % 2]);
        await session.runOptimizerStep(SETTINGS);
      }
      return process.memoryUsage().rss;
    };
    const before = await steps(50);
    expect(((await steps(400)) - before) / 2 ** 20).toBeLessThan(15);
  });
});
