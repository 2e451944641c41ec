import { parseDevice } from './config.ts';
import type { RunHooks } from './progress.ts';
import { checkDevice, type PlacedNode, type SessionOptions } from './runtime/index.ts';

/** Settings of a command that say where it computes. */
export interface DeviceSettings {
  /** `cpu`, `cuda` or `cuda:N`. */
  device: string;
  threads?: number | undefined;
  /** GiB. */
  gpuMemoryLimit?: number | undefined;
  gpuArena?: 'kSameAsRequested' | 'kNextPowerOfTwo';
  tf32?: boolean;
  cudaGraphs?: boolean;
}

/** How the sessions of a run are made, and which of them is captured. */
export interface MachineOptions extends SessionOptions {
  /** Decoding steps are captured as CUDA graphs. Sessions with a Loop or an If, all of training, cannot be. */
  captureSteps: boolean;
}

/**
 * How the sessions of a run are made. Where they compute elsewhere than on the CPU, nodes that ONNX Runtime leaves to the CPU all
 * the same are told, once for each kind of graph.
 * @throws UserError that says what is missing when the device cannot be used
 */
export function sessionOptionsOf(
  { device, threads, gpuMemoryLimit, gpuArena, tf32, cudaGraphs = false }: DeviceSettings,
  hooks: Pick<RunHooks, 'onNotice' | 'verbose'> = {},
): MachineOptions {
  const parsed = parseDevice(device);
  checkDevice(parsed);
  const told = new Set<string>();
  return {
    device: parsed,
    captureSteps: cudaGraphs,
    ...(threads !== undefined && { intraOpThreads: threads }),
    cuda: {
      ...(gpuMemoryLimit !== undefined && { memoryLimit: Math.round(gpuMemoryLimit * 2 ** 30) }),
      ...(gpuArena !== undefined && { arenaExtendStrategy: gpuArena }),
      ...(tf32 !== undefined && { tf32 }),
    },
    onPlacement(nodes) {
      const message = cpuNodesNotice(nodes, device, hooks.verbose);
      if (message === undefined || told.has(message)) return;
      told.add(message);
      hooks.onNotice?.(message);
    },
  };
}

/** How many nodes are left to the CPU, by operator, or which; undefined where all is on the device. */
export function cpuNodesNotice(nodes: readonly PlacedNode[], device: string, verbose = false): string | undefined {
  const onCpu = nodes.filter(({ provider }) => provider === 'CPUExecutionProvider');
  if (onCpu.length === 0) return undefined;
  const names = verbose ? onCpu.map(({ name, op }) => `\n  ${op} ${name}`).join('') : '';
  return `${onCpu.length} of ${nodes.length} nodes of a graph run on the CPU, not on ${device}: ${countedOps(onCpu)}${names}`;
}

/** `Shape 12, Range 2`, the most frequent first. */
export function countedOps(nodes: readonly PlacedNode[]): string {
  const counts = new Map<string, number>();
  for (const { op } of nodes) counts.set(op, (counts.get(op) ?? 0) + 1);
  return [...counts]
    .sort(([a, m], [b, n]) => n - m || a.localeCompare(b))
    .map(([op, count]) => `${op} ${count}`)
    .join(', ');
}
