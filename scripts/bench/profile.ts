import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';

interface KernelEvent {
  cat: string;
  name: string;
  /** Microseconds. */
  ts: number;
  dur: number;
  args: {
    op_name?: string;
    input_type_shape?: readonly Readonly<Record<string, readonly number[]>>[];
    output_type_shape?: readonly Readonly<Record<string, readonly number[]>>[];
  };
}

/** Kernels of one operator on one set of shapes, per run. */
interface Row {
  ms: number;
  count: number;
  gigaflops: number;
}

const product = (sizes: readonly number[]): number => sizes.reduce((a, b) => a * b, 1);
const PRODUCTS = /^(Fused)?(MatMul|Gemm)$/;

/**
 * Of a matrix product: 2 a multiply-add. sqrt(|A| |B| |Y|) of one matrix each is m n k, whichever is transposed. Of a prepacked B
 * the file does not know the shape: then A is [m, k].
 */
function flopsOf([a, b]: readonly (readonly number[])[], [output]: readonly (readonly number[])[]): number {
  const one = (shape: readonly number[]) => product(shape.slice(-2));
  const batch = product(output.slice(0, -2));
  return 2 * (b === undefined ? product(output) * (a.at(-1) ?? 0) : batch * Math.sqrt(one(a) * one(b) * one(output)));
}

/**
 * What the kernels of a session took, from the file that SessionOptions.profilePrefix made, of several sessions the one made
 * first: per operator, and per operator and shapes. The first `warmUp` runs do not count. Kernels in the bodies of a Loop or an If count, the Loop and the If themselves do not.
 */
export function printProfile(prefix: string, warmUp: number, top = 40): void {
  const folder = dirname(prefix);
  const files = readdirSync(folder).filter((name) => name.startsWith(basename(prefix)) && name.endsWith('.json'));
  const [file] = files.sort();
  if (file === undefined) throw new Error(`ONNX Runtime wrote no profile ${prefix}*.json`);
  const events = JSON.parse(readFileSync(join(folder, file), 'utf8')) as KernelEvent[];
  const runs = events.filter(({ name }) => name === 'model_run').sort((a, b) => a.ts - b.ts);
  const counted = runs.slice(warmUp);
  const byShape = new Map<string, Row>();
  const byOperator = new Map<string, Row>();
  const add = (rows: Map<string, Row>, key: string, ms: number, gigaflops: number) => {
    const row = rows.get(key) ?? { ms: 0, count: 0, gigaflops: 0 };
    rows.set(key, { ms: row.ms + ms, count: row.count + 1, gigaflops: row.gigaflops + gigaflops });
  };
  for (const { cat, name, ts, dur, args } of events) {
    const op = args.op_name;
    if (cat !== 'Node' || !name.endsWith('kernel_time') || op === undefined || op === 'Loop' || op === 'If') continue;
    if (ts < counted[0].ts) continue;
    const shapes = (list: KernelEvent['args']['input_type_shape']) =>
      (list ?? []).map((type) => Object.values(type)[0]);
    const [inputs, outputs] = [shapes(args.input_type_shape), shapes(args.output_type_shape)];
    const text = (list: readonly (readonly number[])[]) => list.map((shape) => `[${shape.join(',')}]`).join(' ');
    const gigaflops = PRODUCTS.test(op) && inputs.length > 0 ? flopsOf(inputs, outputs) / 1e9 : 0;
    add(byShape, `${op} ${text(inputs)} -> ${text(outputs.slice(0, 2))}`, dur / 1000, gigaflops);
    add(byOperator, op, dur / 1000, gigaflops);
  }
  const n = counted.length;
  const wall = counted.reduce((sum, { dur }) => sum + dur / 1000, 0) / n;
  const kernels = [...byOperator.values()].reduce((sum, { ms }) => sum + ms, 0) / n;
  console.log(`${n} runs of ${wall.toFixed(1)} ms, ${kernels.toFixed(1)} ms in kernels`);
  const print = (rows: Map<string, Row>) => {
    for (const [key, { ms, count, gigaflops }] of [...rows].sort(([, a], [, b]) => b.ms - a.ms).slice(0, top)) {
      const rate = gigaflops > 0 ? `${((1000 * gigaflops) / ms).toFixed(0)} GFLOP/s` : '';
      const share = `${((100 * ms) / n / wall).toFixed(1)}%`;
      console.log(
        `${(ms / n).toFixed(2).padStart(9)} ms ${share.padStart(6)} ${(count / n).toFixed(0).padStart(5)} x ${rate.padStart(12)}  ${key}`,
      );
    }
  };
  print(byOperator);
  console.log('');
  print(byShape);
}
