import { existsSync } from 'node:fs';
import koffi from 'koffi';
import { UserError } from '../errors.ts';
import type { Pointer } from './api.ts';
import { OrtError } from './api.ts';
import type { Device } from './environment.ts';
import { created, environment } from './environment.ts';
import { cudaProviderPath } from './library.ts';

type Cuda = Extract<Device, { kind: 'cuda' }>;

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

const HOW_TO_GET_CUDA =
  'on a Linux x64 or Windows x64 machine with an NVIDIA GPU, CUDA 12 and cuDNN 9, fetch the provider with: ' +
  'npm rebuild onnxruntime-node --foreground-scripts --onnxruntime-node-install=cuda12 (see docs/dependencies.md); ' +
  'or leave out the cuda device to run on the CPU';

/** Adds the CUDA execution provider to session options; throws UserError when CUDA cannot be had here. */
export function appendCuda(options: Pointer, device: Cuda): void {
  const { api } = environment();
  if (!availableProviders().includes('CUDAExecutionProvider')) {
    throw new UserError(
      `device cuda:${device.id}: this build of ONNX Runtime (${process.platform}-${process.arch}) has no CUDA; ${HOW_TO_GET_CUDA}`,
    );
  }
  if (!existsSync(cudaProviderPath())) {
    throw new UserError(
      `device cuda:${device.id}: the CUDA provider library is not installed (no ${cudaProviderPath()}); ${HOW_TO_GET_CUDA}`,
    );
  }
  try {
    const cuda = created<Pointer>((out) => api.CreateCUDAProviderOptions(out));
    try {
      // Weights and caches are large and long-lived: growing by powers of two would waste up to half of the device.
      const settings = { device_id: String(device.id), arena_extend_strategy: 'kSameAsRequested' };
      api.UpdateCUDAProviderOptions(cuda, Object.keys(settings), Object.values(settings), Object.keys(settings).length);
      api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, cuda);
    } finally {
      api.ReleaseCUDAProviderOptions(cuda);
    }
  } catch (error) {
    if (!(error instanceof OrtError)) throw error;
    throw new UserError(
      `device cuda:${device.id}: ONNX Runtime cannot use CUDA: ${error.message.trim()}; ${HOW_TO_GET_CUDA}`,
    );
  }
}

export function deviceAllocator(device: Cuda): Pointer {
  throw new UserError(`device cuda:${device.id}: not yet`);
}
