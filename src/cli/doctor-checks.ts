import { statfs } from 'node:fs/promises';
import { availableParallelism, cpus, freemem, totalmem } from 'node:os';
import { messageOf } from '../errors.ts';
import { paint } from '../report/paint.ts';
import { cudaAdvice, type RuntimeInfo } from '../runtime/index.ts';
import { identityModel } from '../runtime/small-models.ts';

/** Oldest Node.js that the package runs on: `engines` of package.json. */
const NODE_MINIMUM = [20, 19] as const;
const GIB = 2 ** 30;
const REINSTALL =
  'run: npm install --ignore-scripts\n' +
  '(npm leaves onnxruntime-node out where its install script cannot fetch the CUDA provider from NuGet;\n' +
  'the CPU needs neither). If that changes nothing, remove node_modules first';

/** What is found on the machine; memory and disk in bytes. */
export interface Facts {
  node: string;
  platform: string;
  /** Or why ONNX Runtime cannot be loaded. */
  runtime: RuntimeFacts | { error: string };
  cpu: { model: string; threads: number };
  memory: { total: number; free: number; limit: number | undefined };
  disk: { folder: string; free: number };
}

export interface RuntimeFacts {
  /** A graph ran on the CPU and gave the right result. */
  cpuUsable: boolean;
  version: string;
  libraryPath: string;
  providers: readonly string[];
  cuda: RuntimeInfo['cuda'];
}

export interface Check {
  name: string;
  /** missing: the program cannot work; absent: something optional is not there. */
  status: 'ok' | 'absent' | 'missing';
  found: string;
  /** What to do about it. */
  advice?: string;
}

async function runsOnCpu({ Session, Value }: typeof import('../runtime/index.ts')): Promise<boolean> {
  using session = await Session.create(identityModel('float32'));
  using x = Value.from('float32', [2], [1, -2]);
  const { y } = await session.run({ x });
  using result = y;
  return result !== undefined && result.data[0] === 1 && result.data[1] === -2;
}

async function runtimeFacts(): Promise<Facts['runtime']> {
  try {
    const runtime = await import('../runtime/index.ts');
    return { ...runtime.runtimeInfo(), cpuUsable: await runsOnCpu(runtime) };
  } catch (thrown) {
    return { error: messageOf(thrown) };
  }
}

/** Looks at the machine. Never throws for what it finds: what cannot be used is a finding. */
export async function gatherFacts(folder: string = process.cwd()): Promise<Facts> {
  const disk = await statfs(folder);
  const limit = process.constrainedMemory();
  return {
    node: process.versions.node,
    platform: `${process.platform}-${process.arch}`,
    runtime: await runtimeFacts(),
    cpu: { model: cpus()[0]?.model.trim() ?? 'unknown', threads: availableParallelism() },
    // Without a limit the system reports none, 0, or more than there is.
    memory: { total: totalmem(), free: freemem(), limit: limit > 0 && limit < totalmem() ? limit : undefined },
    disk: { folder, free: disk.bavail * disk.bsize },
  };
}

const firstLine = (text: string) => text.split('\n', 1)[0] ?? '';
const gib = (bytes: number) => `${(bytes / GIB).toFixed(1)} GiB`;

function judgeNode(version: string): Check {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const recent = major > NODE_MINIMUM[0] || (major === NODE_MINIMUM[0] && minor >= NODE_MINIMUM[1]);
  if (recent) return { name: 'Node.js', status: 'ok', found: version };
  const advice = `install Node.js ${NODE_MINIMUM.join('.')} or later, for example: nvm install 22`;
  return { name: 'Node.js', status: 'missing', found: version, advice };
}

function judgeRuntime(runtime: Facts['runtime'], platform: string): Check[] {
  if ('error' in runtime) {
    // What the error goes on to advise is said below, at greater length.
    const found = `${firstLine(runtime.error).split('; ', 1)[0]} (${platform})`;
    return [{ name: 'ONNX Runtime', status: 'missing', found, advice: REINSTALL }];
  }
  const { version, libraryPath, cpuUsable, cuda } = runtime;
  // The library lists the providers it was built for, here or elsewhere; only those that have been tried count.
  const working = [...(cpuUsable ? ['CPU'] : []), ...(cuda.usable ? ['CUDA'] : [])];
  return [
    { name: 'ONNX Runtime', status: 'ok', found: `${version}, ${libraryPath}` },
    cpuUsable
      ? { name: 'Providers', status: 'ok', found: `${working.join(' and ')} (tried)` }
      : { name: 'Providers', status: 'missing', found: 'a graph gives wrong results on the CPU', advice: REINSTALL },
  ];
}

function judgeCuda({ runtime, platform }: Facts): Check[] {
  if ('error' in runtime) return [];
  const { usable, reason = 'no reason given', setup } = runtime.cuda;
  const driver = setup.driver === undefined ? '' : `, driver ${setup.driver}`;
  const versions = setup.libraries.flatMap(({ name, version }) => (version === undefined ? [] : `${name} ${version}`));
  if (usable) return [{ name: 'CUDA', status: 'ok', found: [`usable${driver}`, ...versions].join(', ') }];
  const check = (advice: string): Check => ({ name: 'CUDA', status: 'absent', found: `not usable: ${reason}`, advice });
  if (platform !== 'linux-x64') return [check('onnxruntime-node has CUDA on linux-x64 only; the CPU works here')];
  if (setup.driver === undefined) return [check('no NVIDIA driver here, so nothing to install; the CPU works')];
  const missing = cudaAdvice(setup, runtime.version);
  return [
    check(
      missing.length > 0 ? missing.join('\n') : `driver ${setup.driver} and all libraries are there; see the reason`,
    ),
  ];
}

/** What the findings mean for running the program. */
export function judge(facts: Facts): Check[] {
  const { cpu, memory, disk } = facts;
  const limit = memory.limit === undefined ? '' : `, limited to ${gib(memory.limit)}`;
  return [
    judgeNode(facts.node),
    ...judgeRuntime(facts.runtime, facts.platform),
    { name: 'CPU', status: 'ok', found: `${cpu.threads} threads, ${cpu.model}` },
    { name: 'Memory', status: 'ok', found: `${gib(memory.total)}, ${gib(memory.free)} free${limit}` },
    { name: 'Disk', status: 'ok', found: `${gib(disk.free)} free at ${disk.folder}` },
    ...judgeCuda(facts),
  ];
}

const MARKS = { ok: ['green', 'ok'], absent: ['yellow', '--'], missing: ['red', 'NO'] } as const;

/** The checks a line each, advice below. */
export function formatDiagnosis(checks: readonly Check[], colour: boolean): string {
  return checks
    .map(({ name, status, found, advice }) => {
      const [format, mark] = MARKS[status];
      const line = `${paint(colour, format, mark)}  ${name.padEnd(13)} ${found}`;
      const indented = advice?.replaceAll('\n', `\n${' '.repeat(20)}`);
      return indented === undefined ? line : `${line}\n${' '.repeat(18)}> ${indented}`;
    })
    .join('\n');
}
