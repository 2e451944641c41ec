import { GraphBuilder } from '../../src/export/builder.ts';
import type { ComputeDType } from '../../src/export/index.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { type Device, Session, Value } from '../../src/runtime/index.ts';
import { type Finding, measured, median, type Setup } from './part.ts';

/** What the device can do, as measured here. */
export interface Limits {
  /** Bytes a second that are read from and written to its memory. */
  bandwidth: number;
  /** FLOP/s of a large square product, by type. */
  flops: Partial<Record<ComputeDType, number>>;
}

const RUNS = 5;

/** Milliseconds of a run whose tensors stay on the device: the median of some. */
async function milliseconds(
  builder: GraphBuilder,
  inputs: Record<string, readonly number[]>,
  output: readonly number[],
  device: Device,
): Promise<number> {
  using session = await Session.create(serializeGraph(builder.graph, { opset: 21 }), { device });
  using binding = session.bind();
  const values = Object.entries(inputs).map(([name, dims]) => [name, Value.zeros(dims, device)] as const);
  using y = Value.empty('float32', output, device);
  try {
    for (const [name, value] of values) binding.input(name, value);
    binding.output('y', y);
    await binding.run();
    const times: number[] = [];
    for (let i = 0; i < RUNS; i++) {
      const start = performance.now();
      await binding.run();
      times.push(performance.now() - start);
    }
    return median(times);
  } finally {
    binding.dispose();
    for (const [, value] of values) value.dispose();
  }
}

/** float32 matrices are cast within the graph, so the product is timed as the difference of four of them and one. */
async function productFlops(size: number, dtype: ComputeDType, device: Device): Promise<number> {
  const time = (products: number) => {
    const b = new GraphBuilder('products');
    const [x, w] = ['x', 'w'].map((name) => b.cast(b.input(name, 'float32', [size, size]), dtype));
    let y = x;
    for (let i = 0; i < products; i++) y = b.matmul(y, w);
    b.output('y', b.cast(y, 'float32'));
    return milliseconds(b, { x: [size, size], w: [size, size] }, [size, size], device);
  };
  const ms = (await time(9)) - (await time(1));
  return (8 * 2 * size ** 3) / (Math.max(ms, 1e-3) / 1000);
}

async function bandwidthOf(elements: number, device: Device): Promise<number> {
  const b = new GraphBuilder('add');
  b.output('y', b.add(b.input('x', 'float32', [elements]), 1));
  return (8 * elements) / ((await milliseconds(b, { x: [elements] }, [elements], device)) / 1000);
}

export async function limits({ device, dtypes, small }: Setup): Promise<{ findings: Finding[]; limits: Limits }> {
  const bandwidth = await bandwidthOf(small ? 2 ** 22 : 2 ** 28, device);
  const found: Limits = { bandwidth, flops: {} };
  const findings = [measured('limits', 'memory bandwidth', bandwidth / 1e9, 'GB/s')];
  for (const dtype of dtypes) {
    const flops = await productFlops(small ? 256 : 8192, dtype, device);
    found.flops[dtype] = flops;
    findings.push(measured('limits', `${dtype}: matrix product`, flops / 1e12, 'TFLOP/s'));
  }
  return { findings, limits: found };
}
