import { expect, it } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { arrangeProducts } from '../../src/export/cpu-products.ts';
import { TrainingSession } from '../../src/optim/index.ts';
import { Random } from '../../src/random.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { randomTrees, relativeDistance, trainingArtifacts } from '../fixtures/training.ts';
import { float32, largestDifference } from './decoder-graphs.ts';
import { openGraph } from './run-graph.ts';

const TOKENS = 5;
/** Widths of A, B and of one more B beside the same A. */
const WIDTHS = { wide: 6, narrow: 3, equal: 6 };

it('gives A^T B + C for any widths, with one transpose of an operand that two products share', async () => {
  const b = new GraphBuilder('products');
  const input = (name: string, width: number) => b.input(name, 'float32', ['T', width]);
  const x = input('x', WIDTHS.narrow);
  const operands = {
    narrowed: [input('wide', WIDTHS.wide), x],
    again: [input('wide2', WIDTHS.wide), x],
    widened: [x, input('wide3', WIDTHS.wide)],
    equal: [input('wide4', WIDTHS.wide), input('equal', WIDTHS.equal)],
    scaled: [input('wide5', WIDTHS.wide), x],
  };
  for (const [name, [left, right]] of Object.entries(operands)) {
    const sum = b.input(`${name}.sum`, 'float32', [left.shape[1], right.shape[1]]);
    b.output(`${name}.out`, b.gemm(left, right, sum, { transA: true, alpha: name === 'scaled' ? 0.5 : 1 }));
  }
  arrangeProducts(b.graph);
  const count = (op: string) => b.graph.nodes.filter((node) => node.op === op).length;
  expect([count('Gemm'), count('MatMul'), count('Transpose')]).toEqual([3, 2, 3]);
  // ONNX Runtime would join these, and run what it made before all else: activations would wait for it.
  const products = new Set(b.graph.nodes.filter(({ op }) => op === 'MatMul').flatMap(({ outputs }) => outputs));
  const sums = b.graph.nodes.filter(({ op }) => op === 'Add');
  expect(sums.flatMap(({ inputs }) => inputs.filter((value) => value !== null && products.has(value)))).toEqual([]);

  const random = new Random(0, 'products');
  const feeds = Object.fromEntries(
    [...b.graph.inputs].map(([name, { shape }]) => {
      const [rows, columns] = shape.map((dim) => (dim === 'T' ? TOKENS : Number(dim)));
      const data = Array.from({ length: rows * columns }, () => Math.fround(random.float() - 0.5));
      return [name, float32([rows, columns], data)];
    }),
  );
  const session = await openGraph(b.graph);
  const outputs = await session.run(feeds);
  const nameOf = new Map([...b.graph.inputs].map(([name, value]) => [value, name]));
  for (const [name, [left, right]] of Object.entries(operands)) {
    const [a, c] = [left, right].map((value) => feeds[nameOf.get(value) ?? ''].data);
    const { dims, data: sum } = feeds[`${name}.sum`];
    const [rows, columns] = dims;
    const expected = Array.from({ length: rows * columns }, (_, at) => {
      const [i, j] = [Math.floor(at / columns), at % columns];
      let product = 0;
      for (let t = 0; t < TOKENS; t++) product += a[t * rows + i] * c[t * columns + j];
      return sum[at] + (name === 'scaled' ? 0.5 : 1) * product;
    });
    expect(largestDifference(outputs[`${name}.out`], expected), name).toBeLessThan(1e-6);
  }
  await session.release();
});

it('changes gradients of the model by rounding alone', async () => {
  const gradients = async (forCpu: boolean) => {
    using session = await TrainingSession.create(trainingArtifacts(TINY_MODEL, { forCpu }), randomWeights(TINY_MODEL));
    for (const seed of [0, 1]) await session.runTrainStep(buildTreeBatch(randomTrees(TINY_MODEL.vocabSize, 3, seed)));
    return new Map([...session.weights.keys()].map((name) => [name, session.gradient(name)]));
  };
  const [plain, arranged] = [await gradients(false), await gradients(true)];
  for (const [name, gradient] of arranged) {
    expect(relativeDistance(gradient, plain.get(name) ?? new Float32Array()), name).toBeLessThan(1e-5);
  }
});
