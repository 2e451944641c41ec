import type { DType } from '../dtypes.ts';
import type { Pointer } from './api.ts';
import type { Device } from './environment.ts';
import { created, deviceName, environment, LOG_LEVELS, memoryInfo } from './environment.ts';
import { appendProvider, cannotUse } from './providers.ts';
import { castModel, identityModel, zerosModel } from './small-models.ts';

/**
 * Device memory without a model at hand. ONNX Runtime gives out an allocator of a device, and moves tensors to and from it,
 * through sessions; so there is a session per device and dtype whose model copies its input. (`CopyTensors` of the C API
 * needs no session, but only knows execution providers that were registered with the environment as plug-ins.)
 */
const sessions = new Map<string, Pointer>();
const allocators = new Map<string, Pointer>();

function smallSession(device: Device, name: string, model: () => Uint8Array): Pointer {
  const key = `${deviceName(device)} ${name}`;
  let session = sessions.get(key);
  if (session === undefined) {
    const { api, pointer: env } = environment();
    const options = created<Pointer>((out) => api.CreateSessionOptions(out));
    try {
      api.SetSessionLogSeverityLevel(options, LOG_LEVELS.fatal); // failures come back as errors
      api.SetIntraOpNumThreads(options, 1);
      appendProvider(options, device);
      const bytes = model();
      session = created<Pointer>((out) => api.CreateSessionFromArray(env, bytes, bytes.byteLength, options, out));
    } catch (error) {
      throw cannotUse(device, error);
    } finally {
      api.ReleaseSessionOptions(options);
    }
    sessions.set(key, session);
  }
  return session;
}

const copySession = (device: Device, dtype: DType) => smallSession(device, dtype, () => identityModel(dtype));

/** Throws UserError that says what is missing when a device cannot be used; may take a second the first time. */
export function checkDevice(device: Device): void {
  if (device.kind !== 'cpu') deviceAllocator(device);
}

/** Allocator of a device's memory. Tensors made with it point back at it, so neither it nor its session is ever released. */
export function deviceAllocator(device: Device): Pointer {
  if (device.kind !== 'cuda') return environment().allocator;
  const key = deviceName(device);
  let allocator = allocators.get(key);
  if (allocator === undefined) {
    const session = copySession(device, 'float32');
    allocator = created<Pointer>((out) => environment().api.CreateAllocator(session, memoryInfo(device), out));
    allocators.set(key, allocator);
  }
  return allocator;
}

/**
 * Copies an OrtValue into another of the same dtype and dims; each is on the host or on `device`. Returns when the copy is
 * done: a run ends by waiting for its device.
 */
export function copyTensor(device: Device, dtype: DType, source: Pointer, target: Pointer): void {
  runOneNode(copySession(device, dtype), source, target);
}

/** Sets an OrtValue on `device` to zeros, from `shape`, an int64 one of its dims on the host. */
export function setToZeros(device: Device, dtype: DType, shape: Pointer, target: Pointer): void {
  runOneNode(
    smallSession(device, `zeros ${dtype}`, () => zerosModel(dtype)),
    shape,
    target,
  );
}

/** Fills an OrtValue on `device` from one of the same dims and another dtype that lies there, too. */
export function castTensor(device: Device, from: DType, to: DType, source: Pointer, target: Pointer): void {
  runOneNode(
    smallSession(device, `${from} to ${to}`, () => castModel(from, to)),
    source,
    target,
  );
}

function runOneNode(session: Pointer, x: Pointer, y: Pointer): void {
  const { api } = environment();
  const binding = created<Pointer>((out) => api.CreateIoBinding(session, out));
  try {
    api.BindInput(binding, 'x', x);
    api.BindOutput(binding, 'y', y);
    api.SynchronizeBoundInputs(binding);
    api.RunWithBinding(session, null, binding);
  } finally {
    api.ReleaseIoBinding(binding);
  }
}
