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

/**
 * GFLOP/s of nothing but a model's own matrix products, each with its own weights, `rows` tokens a pass: the limit for a
 * decoding step, which reads every weight from memory for few rows.
 */
export function modelRoofline(config: ModelConfig, rows: number, options: SessionOptions = {}): Promise<number> {
  const matrices = [...parameterShapes(config)].flatMap(([name, [out, width]]) =>
    width === undefined || (name.includes('embed') && !config.tieWordEmbeddings) ? [] : [[out, width] as const],
  );
  return productRate(matrices, rows, options);
}

/** Rate of x W^T over matrices W [out, in], one after another: the median of repeats of some 20 ms each. */
async function productRate(
  matrices: readonly (readonly [out: number, width: number])[],
  rows: number,
  options: SessionOptions,
): Promise<number> {
  const b = new GraphBuilder('products');
  const widths = new Set(matrices.map(([, width]) => width));
  const inputs = new Map([...widths].map((width) => [width, b.input(`x${width}`, 'float32', ['rows', width])]));
  matrices.forEach(([out, width], i) => {
    const weights = Float32Array.from({ length: out * width }, (_, k) => (((k + i) * 7) % 13) / 13 - 0.5);
    const w = b.inlineInitializer(`w${i}`, 'float32', [out, width], new Uint8Array(weights.buffer));
    const x = inputs.get(width);
    if (x !== undefined) b.output(`y${i}`, b.fusedMatMul(x, w, { transB: true }));
  });
  using session = await Session.create(serializeGraph(b.graph, { opset: 21 }), options);
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
  const gigaflop = matrices.reduce((sum, [out, width]) => sum + 2 * rows * out * width, 0) / 1e9;
  const runs = Math.max(1, Math.round(2 / gigaflop));
  binding.runSync();
  const rates = Array.from({ length: 9 }, () => {
    const start = performance.now();
    for (let i = 0; i < runs; i++) binding.runSync();
    return (runs * gigaflop * 1000) / (performance.now() - start);
  });
  binding.dispose();
  for (const value of owned) value.dispose();
  return rates.sort((a, z) => a - z)[4];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const rows of [1, 8, 32, 64, 128, ROOFLINE_ROWS]) {
    console.log(`${String(rows).padStart(4)} rows: ${(await gemmRoofline(rows)).toFixed(1)} GFLOP/s`);
  }
}
