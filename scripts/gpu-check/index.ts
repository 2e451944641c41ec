import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, symlinkSync } from 'node:fs';
import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { cpus, tmpdir } from 'node:os';
import { basename, join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { parseDevice } from '../../src/config.ts';
import { messageOf, UserError } from '../../src/errors.ts';
import type { ComputeDType } from '../../src/export/index.ts';
import { checkDevice, runtimeInfo } from '../../src/runtime/index.ts';
import { cudaLibraries } from '../../src/runtime/library.ts';
import { accuracy, rlp, rollouts } from './correctness.ts';
import { type Limits, limits } from './limits.ts';
import { withPeakMemory } from './memory.ts';
import { type Finding, measured, type Setup } from './part.ts';
import { decode, rlpStep, training } from './speed.ts';

/**
 * What a GPU computes, and how fast; docs/gpu.md.
 *
 *     npx tsx scripts/gpu-check/index.ts [--device cuda|cpu|mock] [--part accuracy,rollouts,rlp,limits,decode,training,rlp-step]
 *         [--provider-libraries FOLDER] [--time-limit MINUTES] [--out FILE.json]
 *
 * Needs Node.js, this package with its node_modules, and a folder with ONNX Runtime's provider libraries; no network. The
 * file is written after each part. `--device cpu` runs everything in small.
 */
const { values: args } = parseArgs({
  options: {
    device: { type: 'string', default: 'cuda' },
    part: { type: 'string', default: 'accuracy,rollouts,rlp,limits,decode,training,rlp-step' },
    'provider-libraries': { type: 'string' },
    'time-limit': { type: 'string', default: '30' },
    out: { type: 'string', default: 'gpu-check.json' },
  },
});

/** TFLOP/s of products in 16 bits without sparsity, from NVIDIA's data sheets. */
const PEAK_TFLOPS: [name: RegExp, tflops: number][] = [
  [/H200|H100 SXM|H100 80GB HBM3/, 989],
  [/A100/, 312],
];

const started = performance.now();
const minutes = () => (performance.now() - started) / 60_000;
try {
  process.exitCode = await main();
} catch (thrown) {
  if (!(thrown instanceof UserError)) throw thrown;
  console.error(`gpu-check: ${thrown.message}`);
  process.exitCode = 2;
}

async function main(): Promise<number> {
  const folderOfLibraries = args['provider-libraries'];
  if (folderOfLibraries !== undefined) linkProvider(resolve(folderOfLibraries));
  if (!/^(cpu|mock|cuda(:\d+)?)$/.test(args.device))
    throw new UserError(`--device ${args.device}: expected cuda, cuda:N, cpu or mock`);
  const device = parseDevice(args.device);
  checkDevice(device);
  const gpu = device.kind === 'cuda' ? device.id : undefined;
  const name = gpu === undefined ? cpus()[0].model.trim() : gpuName(gpu);
  const dtypes: ComputeDType[] = gpu === undefined ? ['float32', 'float16'] : ['float32', 'float16', 'bfloat16'];
  const setup: Setup = {
    ...{ device, deviceName: args.device, small: gpu === undefined, dtypes },
    folder: await mkdtemp(join(tmpdir(), 'gpu-check-')),
    peakTflops: PEAK_TFLOPS.find(([pattern]) => pattern.test(name))?.[1],
  };
  let measuredLimits: Limits | undefined;
  const limitsOf = async (): Promise<Limits> => (measuredLimits ??= (await limits(setup)).limits);
  const parts: Record<string, () => Promise<Finding[]>> = {
    accuracy: () => accuracy(setup),
    rollouts: () => rollouts(setup),
    rlp: () => rlp(setup),
    limits: async () => {
      const found = await limits(setup);
      measuredLimits = found.limits;
      return found.findings;
    },
    decode: async () => decode(setup, await limitsOf()),
    training: async () => training(setup, await limitsOf()),
    'rlp-step': () => rlpStep(setup),
  };
  const wanted = args.part.split(',');
  const unknown = wanted.find((part) => !(part in parts));
  if (unknown !== undefined)
    throw new UserError(`--part ${unknown}: expected some of ${Object.keys(parts).join(', ')}`);

  const findings: Finding[] = [];
  const notRun: Record<string, string> = {};
  const { version, cuda } = runtimeInfo();
  const save = async () => {
    const report = {
      device: args.device,
      name,
      onnxRuntime: version,
      cuda: cuda.setup,
      minutes: minutes(),
      findings,
      notRun,
    };
    await writeFile(`${args.out}.partial`, `${JSON.stringify(report, null, 1)}\n`);
    await rename(`${args.out}.partial`, args.out);
  };
  try {
    for (const part of wanted) {
      if (minutes() > Number(args['time-limit'])) {
        notRun[part] = 'the time limit was reached';
      } else {
        console.error(`${minutes().toFixed(1)} min  ${part}`);
        try {
          const { result, mebibytes } = await withPeakMemory(gpu, parts[part]);
          findings.push(
            ...result,
            measured(part, `peak memory ${gpu === undefined ? 'of the process' : 'of the GPU'}`, mebibytes, 'MiB'),
          );
        } catch (thrown) {
          // The other parts may still tell something.
          notRun[part] = messageOf(thrown);
        }
      }
      await save();
    }
  } finally {
    await rm(setup.folder, { recursive: true });
  }
  console.log(table(findings, notRun));
  return findings.some(({ ok }) => ok === false) || Object.keys(notRun).length > 0 ? 1 : 0;
}

function gpuName(id: number): string {
  try {
    return execFileSync('nvidia-smi', ['--query-gpu=name', '--format=csv,noheader', `--id=${id}`], {
      encoding: 'utf8',
    }).trim();
  } catch {
    return `CUDA device ${id}`;
  }
}

/** Puts the provider libraries where ONNX Runtime looks for them. */
function linkProvider(folder: string): void {
  if (!existsSync(folder)) throw new UserError(`--provider-libraries ${folder}: no such folder`);
  for (const path of cudaLibraries()) {
    const source = join(folder, basename(path));
    if (existsSync(path)) continue;
    if (!existsSync(source)) {
      const found = readdirSync(folder).join(', ');
      throw new UserError(
        `--provider-libraries ${folder}: has no ${basename(path)} (it has ${found === '' ? 'nothing' : found})`,
      );
    }
    symlinkSync(source, path);
  }
}

function table(findings: readonly Finding[], notRun: Record<string, string>): string {
  const figure = (value: number) =>
    Math.abs(value) >= 1000 || Number.isInteger(value) ? value.toFixed(0) : value.toPrecision(3);
  const lines = findings.map(({ part, what, value, unit, limit, ok }) => {
    const verdict = ok === undefined ? '' : ok ? 'ok' : 'FAILS';
    return `| ${part} | ${what} | ${figure(value)} ${unit} | ${limit ?? ''} | ${verdict} |`;
  });
  const missing = Object.entries(notRun).map(([part, why]) => `| ${part} | NOT RUN | ${why.split('\n', 1)[0]} | | |`);
  return ['| part | what | found | limit | |', '| --- | --- | --- | --- | --- |', ...lines, ...missing].join('\n');
}
