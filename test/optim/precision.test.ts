import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { autocast } from '../../src/export/autocast.ts';
import { GraphBuilder } from '../../src/export/builder.ts';
import { printGraph } from '../../src/export/print.ts';
import { verifyGraph } from '../../src/export/verify.ts';
import { initialAdapters } from '../../src/lora.ts';
import { TrainingSession } from '../../src/optim/index.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { randomTrees, relativeDistance, SETTINGS, trainingArtifacts } from '../fixtures/training.ts';

const LORA = { rank: 4, alpha: 8, targetModules: ['all-linear'] };

describe('autocast', () => {
  it('casts what matrix products take and give, each value once, and adds sums in float32', () => {
    const b = new GraphBuilder('test');
    const x = b.input('x', 'float32', ['T', 4]);
    const w = b.input('w', 'float32', [4, 4]);
    const sum = b.input('sum', 'float32', [4, 4]);
    const y = b.matmul(b.matmul(x, w), w);
    b.output('y', b.softmax(y));
    b.output('sum.out', b.gemm(x, y, sum, { transA: true }));
    autocast(b.graph, 'float16');
    verifyGraph(b.graph);
    expect(printGraph(b.graph)).toMatchInlineSnapshot(`
      "graph test
        input x: float32[T, 4]
        input w: float32[4, 4]
        input sum: float32[4, 4]
        %0: float16[T, 4] = Cast(x) {to=float16}
        %1: float16[4, 4] = Cast(w) {to=float16}
        %2: float16[T, 4] = MatMul(%0, %1)
        %3: float32[T, 4] = Cast(%2) {to=float32}
        %4: float16[T, 4] = MatMul(%2, %1)
        %5: float32[T, 4] = Cast(%4) {to=float32}
        %6: float32[T, 4] = Softmax(%5) {axis=-1}
        %7: float16[4, 4] = FusedMatMul(%0, %4) {transA=1}
        %8: float32[4, 4] = Cast(%7) {to=float32}
        %9: float32[4, 4] = Add(sum, %8)
        output y = %6
        output sum.out = %9"
    `);
  });

  it('leaves the product of a row and a column, and casts outer values of a loop outside of it', () => {
    const b = new GraphBuilder('test');
    const rows = b.input('rows', 'float32', ['C', 2, 3]);
    const w = b.input('w', 'float32', [3, 5]);
    const { stacked } = b.loop('C', [], (i) => {
      const row = b.gather(rows, i);
      const dot = b.matmul(b.unsqueeze(row, [1]), b.unsqueeze(row, [2])); // (2, 1, 1)
      return { carried: [], stacked: [b.matmul(row, w), dot] };
    });
    b.output('products', stacked[0]);
    b.output('dots', stacked[1]);
    autocast(b.graph, 'bfloat16');
    verifyGraph(b.graph);
    expect(printGraph(b.graph)).toMatchInlineSnapshot(`
      "graph test
        input rows: float32[C, 2, 3]
        input w: float32[3, 5]
        %0: int64[1] = Shape(rows) {start=0, end=1}
        %1: int64[] = Squeeze(%0) {axes=[0]}
        %2: bfloat16[3, 5] = Cast(w) {to=bfloat16}
        %13: float32[C, 2, 5], %14: float32[C, 2, 1, 1] = Loop(%1, -) {body=(iteration, condition)}
          %5: float32[2, 3] = Gather(rows, %3.iteration) {axis=0}
          %6: float32[2, 1, 3] = Unsqueeze(%5) {axes=[1]}
          %7: float32[2, 3, 1] = Unsqueeze(%5) {axes=[2]}
          %8: float32[2, 1, 1] = MatMul(%6, %7)
          %9: bfloat16[2, 3] = Cast(%5) {to=bfloat16}
          %10: bfloat16[2, 5] = MatMul(%9, %2)
          %11: float32[2, 5] = Cast(%10) {to=float32}
          %12: bool[] = Identity(%4.condition)
          output condition.out = %12
          output stacked_0 = %11
          output stacked_1 = %8
        output products = %13
        output dots = %14"
    `);
  });
});

describe('training in float16', () => {
  const weights = randomWeights(TINY_MODEL, 1);
  const batch = buildTreeBatch(randomTrees(TINY_MODEL.vocabSize, 3));
  let full: TrainingSession;
  let half: TrainingSession;
  beforeAll(async () => {
    full = await TrainingSession.create(trainingArtifacts(TINY_MODEL), weights);
    half = await TrainingSession.create(trainingArtifacts(TINY_MODEL, { dtype: 'float16' }), weights);
  });
  afterAll(() => {
    full.release();
    half.release();
  });

  // float16 has 11 bits: a product is off by up to 5e-4 of itself.
  it('has the loss and the gradients of float32 up to the rounding of float16, and is not float32', async () => {
    const [expected, actual] = [await full.runTrainStep(batch), await half.runTrainStep(batch)];
    expect(Math.abs(actual.loss - expected.loss)).toBeLessThan(5e-3);
    for (const kind of ['logProbs', 'entropy', 'ratio'] as const) {
      const distance = relativeDistance(actual[kind], expected[kind]);
      expect(distance, kind).toBeLessThan(2e-3);
      expect(distance, kind).toBeGreaterThan(1e-6);
    }
    for (const name of weights.keys()) {
      const distance = relativeDistance(half.gradient(name), full.gradient(name));
      expect(distance, name).toBeLessThan(1e-2);
      expect(distance, name).toBeGreaterThan(1e-6);
    }
    expect(half.trainingInputNames).toEqual(full.trainingInputNames);
  });

  it('unscales before it clips', async () => {
    for (const session of [full, half]) {
      session.lazyResetGrad();
      await session.runTrainStep(batch);
    }
    const [expected, actual] = [await full.runOptimizerStep(SETTINGS), await half.runOptimizerStep(SETTINGS)];
    expect(actual.applied).toBe(true);
    expect(Math.abs(actual.gradNorm / expected.gradNorm - 1)).toBeLessThan(1e-2);
    const moments = (session: TrainingSession) => session.state().tensors.exp_avg;
    for (const [name, { data }] of moments(full)) {
      expect(relativeDistance(moments(half).get(name)?.data ?? [], data), name).toBeLessThan(1e-2);
    }
  });

  it('leaves a batch out that overflows, with half the scale for the next, and stops where that does not help', async () => {
    // So much that squares overflow float32: between two products ONNX Runtime's CPU provider may drop float16.
    const lossScale = 2 ** 100;
    const before = structuredClone(half.state());
    half.loadState({ ...before, lossScale: { scale: lossScale, goodSteps: 5 } });
    await half.runTrainStep(batch);
    const overflowed = await half.runOptimizerStep(SETTINGS);
    expect(overflowed).toMatchObject({ applied: false, overflow: true });
    expect(half.lossScale).toBe(lossScale / 2);
    expect(half.state()).toEqual({ ...before, lossScale: { scale: lossScale / 2, goodSteps: 0 } });

    half.loadState({ ...before, lossScale: { scale: 1, goodSteps: 0 } });
    const [tree] = randomTrees(TINY_MODEL.vocabSize, 1);
    const poisoned = { ...tree, losses: tree.losses.map((loss) => ({ ...loss, nllWeight: Number.NaN })) };
    await half.runTrainStep(buildTreeBatch([poisoned]));
    expect(await half.runOptimizerStep(SETTINGS)).toMatchObject({ applied: false, overflow: false });
  });

  it('trains adapters, too', async () => {
    const adapted = new Map(weights);

    for (const [name, adapter] of initialAdapters(TINY_MODEL, LORA, 0)) adapted.set(name, adapter);
    const options = { lora: LORA, dtype: 'float16' } as const;
    using session = await TrainingSession.create(trainingArtifacts(TINY_MODEL, options), adapted);
    const first = (await session.runTrainStep(batch)).loss;
    for (let step = 0; step < 5; step++) {
      await session.runOptimizerStep(SETTINGS);
      await session.runTrainStep(batch);
    }
    expect((await session.runEvalStep(batch)).loss).toBeLessThan(first);
  });
});

it('bfloat16: ONNX Runtime has no matrix product for it on the CPU', async () => {
  const artifacts = trainingArtifacts(TINY_MODEL, { dtype: 'bfloat16' }); // the graphs themselves are valid: serialization checks
  await expect(TrainingSession.create(artifacts, randomWeights(TINY_MODEL, 1))).rejects.toThrow(
    /NOT_IMPLEMENTED|Could not find an implementation/i,
  );
});
