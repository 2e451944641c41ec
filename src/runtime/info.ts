import { messageOf } from '../errors.ts';
import { type CudaSetup, cudaSetup } from './cuda-setup.ts';
import { deviceAllocator } from './device.ts';
import { environment } from './environment.ts';
import { availableProviders } from './providers.ts';

/** What ONNX Runtime is here. */
export interface RuntimeInfo {
  /** ONNX Runtime's version. */
  version: string;
  /** The shared library in use. */
  libraryPath: string;
  /** Execution providers compiled into it; that a provider is listed does not mean that it can be used. */
  providers: string[];
  /** Whether a session can be created on device 0, and if not, why not and what to do. */
  cuda: { usable: boolean; reason?: string; setup: CudaSetup };
}

/** What there is to compute with on this machine. The first call may take a second or two where there is a GPU. */
export function runtimeInfo(): RuntimeInfo {
  const { version, path } = environment().library;
  return { version, libraryPath: path, providers: availableProviders(), cuda: probeCuda() };
}

function probeCuda(): RuntimeInfo['cuda'] {
  const setup = cudaSetup();
  try {
    deviceAllocator({ kind: 'cuda', id: 0 });
    return { usable: true, setup };
  } catch (error) {
    return { usable: false, reason: messageOf(error).split(/;|\n/, 1)[0], setup };
  }
}
