import { existsSync } from 'node:fs';
import { basename } from 'node:path';
import koffi from 'koffi';
import { messageOf, UserError } from '../errors.ts';
import type { Pointer } from './api.ts';
import { OrtError } from './api.ts';
import { cudaAdvice, cudaSetup } from './cuda-setup.ts';
import type { Device } from './environment.ts';
import { created, deviceName, environment } from './environment.ts';
import { cudaLibraries } from './library.ts';

/** Execution providers compiled into the library, e.g. ["CUDAExecutionProvider", "CPUExecutionProvider"]. */
export function availableProviders(): string[] {
  const { api } = environment();
  const names: [Pointer | null] = [null];
  const count = created<number>((out) => api.GetAvailableProviders(names, out));
  if (names[0] === null) return [];
  const providers: string[] = koffi.decode(names[0], koffi.array('str', count));
  api.ReleaseAvailableProviders(names[0], count);
  return providers;
}

/** What to tell the user when `device` cannot be used because of `reason`. */
export function cannotUse(device: Device, reason: unknown): unknown {
  if (device.kind !== 'cuda' || reason instanceof UserError) return reason;
  if (!(reason instanceof OrtError) && typeof reason !== 'string') return reason;
  const text = typeof reason === 'string' ? reason : messageOf(reason).trim().split('\n', 1)[0];
  const advice = cudaAdvice(cudaSetup(), environment().library.version);
  const missing = advice.map((line) => `\n- ${line.replaceAll('\n', '\n  ')}`).join('');
  return new UserError(
    `cannot use device ${deviceName(device)}: ${text}` +
      `${missing === '' ? '' : `; what is missing:${missing}`}\nThe CPU needs none of it: --device cpu. More: rlp-ort doctor`,
  );
}

/** Settings of the CUDA provider. */
export interface CudaOptions {
  /** Bytes that the arena of a session may take; default: all there is. */
  memoryLimit?: number;
  /** Default kSameAsRequested: weights and caches are large and long-lived, and powers of two could leave half of an arena unused. */
  arenaExtendStrategy?: 'kSameAsRequested' | 'kNextPowerOfTwo';
  /** Products of float32 matrices in TF32, with 10 bits of mantissa; default false, as in PyTorch. */
  tf32?: boolean;
  /** Runs of bindings with `captureAsGraph` are captured; default false. */
  graphs?: boolean;
}

/** What the provider is told, by ONNX Runtime's names. */
export function cudaSettings(id: number, options: CudaOptions = {}): Record<string, string> {
  const { memoryLimit, arenaExtendStrategy = 'kSameAsRequested', tf32 = false, graphs = false } = options;
  return {
    device_id: String(id),
    arena_extend_strategy: arenaExtendStrategy,
    use_tf32: tf32 ? '1' : '0',
    ...(memoryLimit !== undefined && { gpu_mem_limit: String(memoryLimit) }),
    ...(graphs && { enable_cuda_graph: '1' }),
  };
}

/** Makes a session run on `device`, with the CPU for operators that the device lacks. Throws UserError when it cannot. */
export function appendProvider(options: Pointer, device: Device, cudaOptions?: CudaOptions): void {
  if (device.kind !== 'cuda') return;
  if (!availableProviders().includes('CUDAExecutionProvider')) {
    throw cannotUse(device, `ONNX Runtime for ${process.platform}-${process.arch} has no CUDA`);
  }
  const missing = cudaLibraries().filter((path) => !existsSync(path));
  if (missing.length > 0) {
    const names = missing.map((path) => basename(path)).join(' and ');
    throw cannotUse(device, `${names} not found beside ${environment().library.path}`);
  }
  const { api } = environment();
  try {
    const cuda = created<Pointer>((out) => api.CreateCUDAProviderOptions(out));
    try {
      const settings = cudaSettings(device.id, cudaOptions);
      const keys = Object.keys(settings);
      api.UpdateCUDAProviderOptions(cuda, keys, Object.values(settings), keys.length);
      api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda);
    } finally {
      api.ReleaseCUDAProviderOptions(cuda);
    }
  } catch (error) {
    throw cannotUse(device, error);
  }
}
