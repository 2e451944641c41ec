import { internal } from '../errors.ts';
import type { OrtApi, Out, Pointer } from './api.ts';
import { OrtError, openApi } from './api.ts';
import type { Library } from './library.ts';
import { findLibrary, loadLibrary } from './library.ts';

/**
 * Where a tensor lives and where a session computes. `id` counts the CUDA devices of the machine from 0. `mock` is a device that
 * is not there: it computes on the CPU, but its tensors cannot be read or written from the host without a copy, and what
 * crosses is counted. So what a GPU will be asked for can be tested without one.
 */
export type Device = { kind: 'cpu' } | { kind: 'cuda'; id: number } | { kind: 'mock' };

export const CPU: Device = { kind: 'cpu' };

/** Lowest severity that ONNX Runtime prints to stderr. */
export type LogSeverity = 'verbose' | 'info' | 'warning' | 'error' | 'fatal';

/** OrtLoggingLevel. */
export const LOG_LEVELS: Record<LogSeverity, number> = { verbose: 0, info: 1, warning: 2, error: 3, fatal: 4 };

// OrtAllocatorType and OrtMemType, as far as memory infos need them.
const DEVICE_ALLOCATOR = 0;
const DEFAULT_MEMORY = 0;

/** The process's one OrtEnv and what hangs on it. It lives as long as the process. */
export interface Environment {
  library: Library;
  api: OrtApi;
  pointer: Pointer;
  /** CPU allocator without an arena: freed memory goes back to the system. */
  allocator: Pointer;
}

let singleton: Environment | undefined;

/** Loads ONNX Runtime on first use. Throws UserError where there is no library for this platform. */
export function environment(): Environment {
  if (singleton === undefined) {
    const library = loadLibrary(findLibrary());
    const api = openApi(library.table);
    singleton = {
      library,
      api,
      // Whatever goes wrong outside a session comes back as an error of the call: printing it would only repeat it.
      pointer: created((out) => api.CreateEnv(LOG_LEVELS.fatal, 'rlp-ort', out)),
      allocator: created((out) => api.GetAllocatorWithDefaultOptions(out)),
    };
  }
  return singleton;
}

/** The result of a call that writes it through an out parameter: `created((out) => api.CreateX(..., out))`. */
export function created<T>(call: (out: Out<T>) => void): T {
  const out: Out<T> = [null];
  call(out);
  return present(out);
}

export async function createdAsync<T>(call: (out: Out<T>) => Promise<void>): Promise<T> {
  const out: Out<T> = [null];
  await call(out);
  return present(out);
}

function present<T>(out: Out<T>): T {
  if (out[0] === null) throw internal('ONNX Runtime reported success and returned nothing');
  return out[0];
}

/** Rethrows ONNX Runtime's errors with what we were doing in front; leaves other errors alone. */
export function explain(doing: string, error: unknown): unknown {
  return error instanceof OrtError ? new OrtError(`${doing}: ${error.message}`, error.code) : error;
}

export const sameDevice = (a: Device, b: Device): boolean => deviceName(a) === deviceName(b);

export const deviceName = (device: Device): string => (device.kind === 'cuda' ? `cuda:${device.id}` : device.kind);

const memoryInfos = new Map<string, Pointer>();

/** OrtMemoryInfo of a device's default memory; made once, never released. */
export function memoryInfo(device: Device): Pointer {
  const key = deviceName(device);
  let info = memoryInfos.get(key);
  if (info === undefined) {
    const [name, id] = device.kind === 'cuda' ? ['Cuda', device.id] : ['Cpu', 0];
    info = created<Pointer>((out) =>
      environment().api.CreateMemoryInfo(String(name), DEVICE_ALLOCATOR, Number(id), DEFAULT_MEMORY, out),
    );
    memoryInfos.set(key, info);
  }
  return info;
}
