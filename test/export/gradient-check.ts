import { expect } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import { gradients } from '../../src/export/gradient.ts';
import type { Dim, Graph, Value } from '../../src/export/ir.ts';
import type { Op } from '../../src/export/operators.ts';
import { uniformStream } from '../../src/random.ts';
import { openGraph, type Tensor } from './run-graph.ts';

export interface Operand {
  shape: readonly number[];
  /** Where its elements are drawn from; [-1.5, 1.5) if not said. */
  range?: readonly [low: number, high: number];
  values?: readonly number[];
}

export interface GradientCase {
  name: string;
  /** What is differentiated with respect to; all are graph inputs. */
  operands: readonly Operand[];
  /** Only where ONNX Runtime has no float64 kernel: central differences are poor in float32. */
  dtype?: 'float32';
  /** Relative; 1e-8 in float64 if not said. */
  tolerance?: number;
  /** `dim` gives the dim of a size: the size itself, or its symbol. */
  build(b: GraphBuilder, x: readonly Value[], dim: (size: number) => Dim): Value;
}

export type Sizes = 'static' | 'symbolic';

/**
 * Compares the whole Jacobian d y / d x: column by column through central differences, row by row through `gradients`
 * seeded with one-hot vectors; and the gradient from a dense seed with the sum of rows it must be, for a rule that takes,
 * say, a maximum for a sum is right on one-hot vectors. With symbolic sizes, equal sizes share a symbol and 1 stays 1.
 */
export async function checkGradient(op: Op, given: GradientCase, sizes: Sizes): Promise<void> {
  const { operands, dtype = 'float64' } = given;
  const dim = (size: number): Dim => (sizes === 'symbolic' && size !== 1 ? `n${size}` : size);
  const b = new GraphBuilder(`${op} ${given.name}`);
  const inputs = operands.map(({ shape }, i) => b.input(`x${i}`, dtype, shape.map(dim)));
  const y = given.build(b, inputs, dim);
  expect(b.graph.nodes.map((node) => node.op)).toContain(op);
  // A graph input of y's shape would introduce y's symbols, and hide what happens to sizes that no input knows.
  const outputDims = y.shape.map((size) => (typeof size === 'number' ? size : runtimeSize(size)));
  const seed = b.reshapeLike(b.input('seed', dtype, outputDims), y);
  const forward = b.graph.nodes.length;
  const grads = gradients(b, y, inputs, seed);
  expectNoDeadNodes(b.graph, forward, grads);
  b.output('y', y);
  grads.forEach((grad, i) => {
    expect(grad.toString()).toBe(inputs[i].toString());
    b.output(`dx${i}`, grad);
  });

  const session = await openGraph(b.graph);
  const points = operands.map((operand, i) => draw(operand, `${op} ${given.name} ${i}`));
  const count = outputDims.reduce((product, size) => product * size, 1);
  const seedOf = (data: readonly number[]): Tensor => ({ dtype, dims: outputDims, data });
  const feeds: Record<string, Tensor> = { seed: seedOf(Array(count).fill(0)) };
  operands.forEach(({ shape }, i) => {
    feeds[`x${i}`] = { dtype, dims: shape, data: points[i] };
  });
  const evaluate = async (changed: Record<string, Tensor>) => (await session.run({ ...feeds, ...changed }, ['y'])).y;

  const fetches = operands.map((_, i) => `dx${i}`);
  const gradientsFrom = async (seeds: readonly number[]) =>
    await session.run({ ...feeds, seed: seedOf(seeds) }, fetches);
  const rows: Record<string, number[]>[] = [];
  for (let row = 0; row < count; row++) {
    rows.push(await gradientsFrom(Array.from({ length: count }, (_, i) => Number(i === row))));
  }
  const h = dtype === 'float64' ? 1e-5 : 1e-2;
  const tolerance = given.tolerance ?? (dtype === 'float64' ? 1e-8 : 2e-4);
  for (const [i, point] of points.entries()) {
    for (let column = 0; column < point.length; column++) {
      const moved = async (step: number) =>
        await evaluate({ [`x${i}`]: { ...feeds[`x${i}`], data: point.with(column, point[column] + step) } });
      const [above, below] = [await moved(h), await moved(-h)];
      for (let row = 0; row < count; row++) {
        const numeric = (above[row] - below[row]) / (2 * h);
        const difference = Math.abs(rows[row][`dx${i}`][column] - numeric) / Math.max(1, Math.abs(numeric));
        const where = `d y[${row}] / d x${i}[${column}] = ${rows[row][`dx${i}`][column]}, by differences ${numeric}`;
        // NaN fails too.
        expect(difference < tolerance, where).toBe(true);
      }
    }
  }

  const seeds = draw({ shape: outputDims }, `${op} ${given.name} seed`);
  const dense = await gradientsFrom(seeds);
  for (const name of fetches) {
    const sums = dense[name].map((_, column) => seeds.reduce((sum, r, row) => sum + r * rows[row][name][column], 0));
    const error = Math.max(0, ...sums.map((sum, i) => Math.abs(sum - dense[name][i]) / Math.max(1, Math.abs(sum))));
    expect(error, `${name} from a dense seed`).toBeLessThan(dtype === 'float64' ? 1e-12 : 1e-5);
  }
  await session.release();
}

/** The value of a symbol such as (n2+n3)*2. */
function runtimeSize(symbol: string): number {
  const inner = /\(([^()]*)\)/.exec(symbol);
  if (inner !== null) return runtimeSize(symbol.replace(inner[0], String(runtimeSize(inner[1]))));
  const product = (text: string) => text.split('*').reduce((size, factor) => size * Number(factor.replace('n', '')), 1);
  return symbol.split('+').reduce((size, term) => size + product(term), 0);
}

function draw({ shape, range: [low, high] = [-1.5, 1.5], values }: Operand, stream: string): number[] {
  const uniform = uniformStream(1, stream);
  const size = shape.reduce((product, dim) => product * dim, 1);
  return values === undefined ? Array.from({ length: size }, (_, i) => low + (high - low) * uniform(i)) : [...values];
}

/** Every node that `gradients` appends must lead to one of its results. */
function expectNoDeadNodes({ nodes }: Graph, forward: number, results: readonly Value[]): void {
  const alive = new Set(results);
  for (const node of nodes.slice(forward).reverse()) {
    const used = node.outputs.some((value) => alive.has(value));
    expect(used, `${node.op} feeds no gradient`).toBe(true);
    for (const input of node.inputs) if (input !== null) alive.add(input);
  }
}
