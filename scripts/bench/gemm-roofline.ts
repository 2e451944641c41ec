import { fileURLToPath } from 'node:url';
import { GraphBuilder } from '../../src/export/builder.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { type ModelConfig, parameterShapes } from '../../src/model-config.ts';
import { Session, type SessionOptions, Value } from '../../src/runtime/index.ts';

/** Rows at which a matrix product runs about as fast as it can. */
export const ROOFLINE_ROWS = 256;
const SIZE = 2048;

/**
 * GFLOP/s of this machine in [rows, 2048] x [2048, 2048], float32, weights as initializers (prepacked): the limit that
 * benchmarks are measured against. The matrix stays in the processor's caches.
 */
export function gemmRoofline(rows: number = ROOFLINE_ROWS, options: SessionOptions = {}): Promise<number> {
  return productRate([[SIZE, SIZE]], rows, options);
}

/** The same product, again and again for as long as the work that it is compared with: `rate` over some time. */
export async function openRoofline(
  rows: number = ROOFLINE_ROWS,
): Promise<{ rate(milliseconds: number): number; dispose(): void }> {
  const products = await openProducts([[SIZE, SIZE]], rows, {});
  return {
    /** GFLOP/s, the mean over at least `milliseconds`. */
    rate(milliseconds) {
      const start = performance.now();
      let runs = 0;
      for (; performance.now() - start < milliseconds; runs++) products.run();
      return (runs * products.gigaflop * 1000) / (performance.now() - start);
    },
    dispose: products.dispose,
  };
}

/** Layers that stand for all: their weights outgrow the caches, and a protobuf holds no more than 2 GiB. */
const SAMPLED_LAYERS = 4;

/**
 * Milliseconds of nothing but a model's own matrix products for `rows` tokens, each with its own weights, prepacked: the
 * limit for a decoding step, which reads every weight from memory for few rows. Of a deep model SAMPLED_LAYERS layers are
 * timed. The embedding counts where it is the head, the head not at all without `head`.
 */
export async function ownProductsMs(
  config: ModelConfig,
  rows: number,
  { head = true, ...options }: SessionOptions & { head?: boolean } = {},
): Promise<number> {
  const sampled = Math.min(config.numLayers, config.numLayers > 2 * SAMPLED_LAYERS ? SAMPLED_LAYERS : config.numLayers);
  const layers = matrixShapes({ ...config, numLayers: sampled }, /layers/);
  const ms = async (matrices: readonly Matrix[]) =>
    gigaflops(matrices, rows) / ((await productRate(matrices, rows, options)) / 1000);
  const headMs = head ? await ms([[config.vocabSize, config.hiddenSize]]) : 0;
  return ((await ms(layers)) * config.numLayers) / sampled + headMs;
}

/** A step's attention: documents, rows of each, tokens of trunk and branch. */
export interface AttentionShape {
  documents: number;
  rowsPerDocument: number;
  trunk: number;
  branch: number;
}

/**
 * Milliseconds of nothing but the products of a decoding step's attention, each layer with caches of its own: queries with
 * keys and probabilities with values, on the trunk all rows of a document together, on the branches each row alone.
 */
export async function attentionProductsMs(config: ModelConfig, shape: AttentionShape): Promise<number> {
  const { numHeads, numKvHeads: K, headDim: d } = config;
  const { documents: D, rowsPerDocument: S, trunk: P, branch: L } = shape;
  const rep = numHeads / K;
  const layers = Math.min(config.numLayers, 2 * SAMPLED_LAYERS);
  const b = new GraphBuilder('attention products');
  const dims: Record<string, readonly number[]> = {
    trunkQueries: [D, K, S * rep, d],
    trunkWeights: [D, K, S * rep, P],
    branchQueries: [D, K, S, rep, 1, d],
    branchWeights: [D, K, S, rep, 1, L],
  };
  const input = (name: string, of: readonly number[]) => {
    dims[name] = of;
    return b.input(name, 'float32', of);
  };
  const q = b.input('trunkQueries', 'float32', dims.trunkQueries);
  const p = b.input('trunkWeights', 'float32', dims.trunkWeights);
  const ownQ = b.input('branchQueries', 'float32', dims.branchQueries);
  const ownP = b.input('branchWeights', 'float32', dims.branchWeights);
  const outputs: Record<string, readonly number[]> = {};
  const output = (name: string, value: Parameters<GraphBuilder['output']>[1]) => {
    outputs[name] = value.shape.map(Number);
    b.output(name, value);
  };
  for (let layer = 0; layer < layers; layer++) {
    const [key, value] = ['key', 'value'].map((kind) => input(`trunk.${layer}.${kind}`, [D, K, P, d]));
    const [ownKey, ownValue] = ['key', 'value'].map((kind) => input(`branch.${layer}.${kind}`, [D, K, S, 1, L, d]));
    output(`${layer}.0`, b.fusedMatMul(q, key, { transB: true }));
    output(`${layer}.1`, b.matmul(p, value));
    output(`${layer}.2`, b.fusedMatMul(ownQ, ownKey, { transB: true }));
    output(`${layer}.3`, b.matmul(ownP, ownValue));
  }
  using session = await Session.create(serializeGraph(b.graph, { opset: 21 }));
  const binding = session.bind();
  const owned: Value[] = [];
  const filled = (of: readonly number[]) => {
    const value = Value.from('float32', of, new Float32Array(of.reduce((x, y) => x * y, 1)).fill(0.5));
    owned.push(value);
    return value;
  };
  for (const [name, of] of Object.entries(dims)) binding.input(name, filled(of));
  for (const [name, of] of Object.entries(outputs)) binding.output(name, filled(of));
  binding.runSync();
  const times = Array.from({ length: 9 }, () => {
    const start = performance.now();
    binding.runSync();
    return performance.now() - start;
  });
  binding.dispose();
  for (const value of owned) value.dispose();
  return (times.sort((x, y) => x - y)[4] * config.numLayers) / layers;
}

type Matrix = readonly [out: number, width: number];

const matrixShapes = (config: ModelConfig, names: RegExp): Matrix[] =>
  [...parameterShapes(config)].flatMap(([name, [out, width]]) =>
    width === undefined || !names.test(name) ? [] : [[out, width] as const],
  );

const gigaflops = (matrices: readonly Matrix[], rows: number): number =>
  matrices.reduce((sum, [out, width]) => sum + 2 * rows * out * width, 0) / 1e9;

/** Rate of x W^T over matrices W [out, in], one after another: the median of repeats of some 20 ms each. */
async function productRate(matrices: readonly Matrix[], rows: number, options: SessionOptions): Promise<number> {
  const products = await openProducts(matrices, rows, options);
  const runs = Math.max(1, Math.round(2 / products.gigaflop));
  const rates = Array.from({ length: 9 }, () => {
    const start = performance.now();
    for (let i = 0; i < runs; i++) products.run();
    return (runs * products.gigaflop * 1000) / (performance.now() - start);
  });
  products.dispose();
  return rates.sort((a, z) => a - z)[4];
}

/** A session of x W^T over matrices W [out, in], prepacked; `run` makes each product once. */
async function openProducts(matrices: readonly Matrix[], rows: number, options: SessionOptions) {
  const b = new GraphBuilder('products');
  const widths = new Set(matrices.map(([, width]) => width));
  const inputs = new Map([...widths].map((width) => [width, b.input(`x${width}`, 'float32', ['rows', width])]));
  matrices.forEach(([out, width], i) => {
    const weights = Float32Array.from({ length: out * width }, (_, k) => (((k + i) * 7) % 13) / 13 - 0.5);
    const w = b.inlineInitializer(`w${i}`, 'float32', [out, width], new Uint8Array(weights.buffer));
    const x = inputs.get(width);
    if (x !== undefined) b.output(`y${i}`, b.fusedMatMul(x, w, { transB: true }));
  });
  const session = await Session.create(serializeGraph(b.graph, { opset: 21 }), options);
  const binding = session.bind();
  const owned: Value[] = [];
  const own = (value: Value): Value => {
    owned.push(value);
    return value;
  };
  for (const width of inputs.keys()) {
    const x = own(Value.from('float32', [rows, width], new Float32Array(rows * width).fill(0.5)));
    binding.input(`x${width}`, x);
  }
  matrices.forEach(([out], i) => {
    binding.output(`y${i}`, own(Value.empty('float32', [rows, out])));
  });
  binding.runSync();
  return {
    gigaflop: gigaflops(matrices, rows),
    run: () => binding.runSync(),
    dispose() {
      binding.dispose();
      for (const value of owned) value.dispose();
      session.dispose();
    },
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const rows of [1, 8, 32, 64, 128, ROOFLINE_ROWS]) {
    console.log(`${String(rows).padStart(4)} rows: ${(await gemmRoofline(rows)).toFixed(1)} GFLOP/s`);
  }
}
