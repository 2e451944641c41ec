import type { DType } from '../dtypes.ts';
import { dtypeOfOnnx } from '../dtypes.ts';
import { UserError } from '../errors.ts';
import type { OrtErrorCode, Pointer } from './api.ts';
import { OrtError, readString } from './api.ts';
import { Binding } from './binding.ts';
import type { Device, LogSeverity } from './environment.ts';
import { CPU, created, createdAsync, deviceName, environment, explain, LOG_LEVELS } from './environment.ts';
import { Handle, pinned } from './handle.ts';
import { type PlacedNode, placementOf, RECORD_PLACEMENT } from './placement.ts';
import { appendProvider, type CudaOptions } from './providers.ts';
import type { Value } from './value.ts';
import { describe } from './value.ts';

/** An input or output of a model. Symbolic dims are their names, '' when unnamed. */
export interface TensorInfo {
  name: string;
  dtype: DType;
  dims: (number | string)[];
}

/** How a model is loaded and run. */
export interface SessionOptions {
  device?: Device;
  /** Of the CUDA provider; without a meaning on other devices. */
  cuda?: CudaOptions;
  /** Threads inside an operator; by default one per physical core. */
  intraOpThreads?: number;
  /** Folder that external data is relative to, for a model given as bytes; a path's is the folder it lies in. */
  externalDataFolder?: string;
  /**
   * Values for initializers that the model keeps as external data, in place of what the file holds: same name, dtype and
   * dims, on the CPU. They are copied before the graph is optimized, so constant folding and weight prepacking see them;
   * they may be disposed of once the session exists.
   */
  initializers?: ReadonlyMap<string, Value>;
  optimizationLevel?: 'disable' | 'basic' | 'extended' | 'all';
  /**
   * Default true: from the second run of the same shapes on, intermediate results lie in one block that is planned ahead, on
   * top of the memory that the first run took. False for little memory, and for shapes that seldom repeat.
   */
  memoryPattern?: boolean;
  /**
   * Start of the name of a file that ONNX Runtime writes when the session is disposed of: the time that each kernel took, in
   * Chrome's trace format.
   */
  profilePrefix?: string;
  /** Default 'error': ONNX Runtime's warnings are for its developers. */
  logSeverity?: LogSeverity;
  /** Keep which provider each node was given to, for `Session.placement`. Always so on devices other than the CPU. */
  recordPlacement?: boolean;
  /** Told the placement of a session on a device other than the CPU. */
  onPlacement?: (nodes: PlacedNode[]) => void;
  /** Further entries as in onnxruntime_session_options_config_keys.h, e.g. 'session.disable_prepacking': '1'. */
  configEntries?: Readonly<Record<string, string>>;
}

/** GraphOptimizationLevel. */
const OPTIMIZATION_LEVELS = { disable: 0, basic: 1, extended: 2, all: 99 } as const;

const TENSOR_TYPE = 1; // ONNX_TYPE_TENSOR

/** Codes with which a session cannot be created because of the model or its files, not because of us. */
const MODEL_ERRORS: ReadonlySet<OrtErrorCode> = new Set([
  'fail',
  'invalid argument',
  'no such file',
  'no model',
  'invalid protobuf',
  'not implemented',
  'invalid graph',
]);

/** A loaded, optimized model, ready to run. */
export class Session implements Disposable {
  readonly inputs: readonly TensorInfo[];
  readonly outputs: readonly TensorInfo[];
  readonly device: Device;
  /** For src/runtime only. */
  readonly handle: Handle;

  private constructor(pointer: Pointer, device: Device) {
    const { api } = environment();
    this.handle = new Handle('Session', pointer, api.ReleaseSession);
    this.device = device;
    try {
      const inputs = Number(created((out) => api.SessionGetInputCount(pointer, out)));
      const outputs = Number(created((out) => api.SessionGetOutputCount(pointer, out)));
      this.inputs = Array.from({ length: inputs }, (_, i) =>
        tensorInfo(pointer, i, api.SessionGetInputName, api.SessionGetInputTypeInfo),
      );
      this.outputs = Array.from({ length: outputs }, (_, i) =>
        tensorInfo(pointer, i, api.SessionGetOutputName, api.SessionGetOutputTypeInfo),
      );
    } catch (error) {
      this.handle.dispose();
      throw error;
    }
  }

  /**
   * Loads a model from a file or from the bytes of one; parsing, optimizing and prepacking happen off the main thread.
   * Throws UserError when the model cannot be loaded, naming it and ONNX Runtime's reason.
   */
  static async create(model: string | Uint8Array, options: SessionOptions = {}): Promise<Session> {
    const { api, pointer: env } = environment();
    const device = options.device ?? CPU;
    const native = created<Pointer>((out) => api.CreateSessionOptions(out));
    const what = `${typeof model === 'string' ? model : `a model of ${model.byteLength} bytes`} on ${deviceName(device)}`;
    try {
      configure(native, device, options);
      const values = [...(options.initializers?.values() ?? [])];
      const pointer = await pinned(
        'a session being created',
        values.map((value) => value.handle),
        () =>
          createdAsync<Pointer>((out) =>
            typeof model === 'string'
              ? api.CreateSession.async(env, model, native, out)
              : api.CreateSessionFromArray.async(env, model, model.byteLength, native, out),
          ),
      );
      const session = new Session(pointer, device);
      if (device.kind !== 'cpu') options.onPlacement?.(session.placement);
      return session;
    } catch (error) {
      if (error instanceof OrtError && MODEL_ERRORS.has(error.code)) {
        throw new UserError(`cannot load ${what}: ${error.message}${replacements(options.initializers)}`);
      }
      throw explain(`loading ${what}`, error);
    } finally {
      api.ReleaseSessionOptions(native);
    }
  }

  /**
   * One run off the main thread. Returns the outputs named in `fetches` (all by default), newly allocated on the CPU; the
   * caller disposes of them. To run many times, or to keep tensors in place, use `bind`.
   */
  async run(feeds: Readonly<Record<string, Value>>, fetches?: readonly string[]): Promise<Record<string, Value>> {
    using binding = this.bind();
    for (const [name, value] of Object.entries(feeds)) binding.input(name, value);
    for (const name of fetches ?? this.outputs.map((output) => output.name)) binding.outputOn(name);
    await binding.run();
    return binding.outputs();
  }

  /** The nodes of the graph and who runs them. Throws OrtError unless the placement was recorded. */
  get placement(): PlacedNode[] {
    return placementOf(this.handle.pointer);
  }

  bind(): Binding {
    return new Binding(this);
  }

  get disposed(): boolean {
    return this.handle.disposed;
  }

  /** Frees the model. Throws while a run is in flight or a Binding of it is alive; does nothing the second time. */
  dispose(): void {
    this.handle.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

function configure(native: Pointer, device: Device, options: SessionOptions): void {
  const { api } = environment();
  api.SetSessionLogSeverityLevel(native, LOG_LEVELS[options.logSeverity ?? 'error']);
  api.SetSessionGraphOptimizationLevel(native, OPTIMIZATION_LEVELS[options.optimizationLevel ?? 'all']);
  if (options.memoryPattern === false) api.DisableMemPattern(native);
  if (options.profilePrefix !== undefined) api.EnableProfiling(native, options.profilePrefix);
  if (options.intraOpThreads !== undefined) api.SetIntraOpNumThreads(native, options.intraOpThreads);
  const recordPlacement = options.recordPlacement ?? device.kind !== 'cpu';
  const entries: Record<string, string> = { ...(recordPlacement && RECORD_PLACEMENT), ...options.configEntries };
  if (options.externalDataFolder !== undefined) {
    entries['session.model_external_initializers_file_folder_path'] = options.externalDataFolder;
  }
  for (const [key, value] of Object.entries(entries)) api.AddSessionConfigEntry(native, key, value);
  if (options.initializers !== undefined && options.initializers.size > 0) {
    // Only tensors over memory that ONNX Runtime does not own are taken; the session options keep references to them.
    const aliases = [...options.initializers.values()].map((value) => value.alias());
    try {
      api.AddExternalInitializers(native, [...options.initializers.keys()], aliases, aliases.length);
    } finally {
      for (const alias of aliases) api.ReleaseValue(alias);
    }
  }
  appendProvider(native, device, options.cuda);
}

/** ONNX Runtime does not always say which of the initializers does not fit. */
function replacements(initializers: SessionOptions['initializers']): string {
  if (initializers === undefined || initializers.size === 0) return '';
  const given = [...initializers].map(([name, value]) => `${name} ${describe(value.dtype, value.dims)}`);
  const listed = given.length > 5 ? [...given.slice(0, 5), `${given.length - 5} more`] : given;
  return ` (with initializers ${listed.join(', ')})`;
}

type NameOf = ReturnType<typeof environment>['api']['SessionGetInputName'];
type TypeOf = ReturnType<typeof environment>['api']['SessionGetInputTypeInfo'];

function tensorInfo(session: Pointer, index: number, nameOf: NameOf, typeOf: TypeOf): TensorInfo {
  const { api, allocator } = environment();
  const nameAddress = created<Pointer>((out) => nameOf(session, index, allocator, out));
  const name = readString(nameAddress);
  api.AllocatorFree(allocator, nameAddress);

  const type = created<Pointer>((out) => typeOf(session, index, out));
  try {
    if (created<number>((out) => api.GetOnnxTypeFromTypeInfo(type, out)) !== TENSOR_TYPE) {
      throw new UserError(`'${name}' of the model is not a tensor; only models over tensors are supported`);
    }
    const info = created<Pointer>((out) => api.CastTypeInfoToTensorInfo(type, out)); // belongs to `type`
    const rank = Number(created((out) => api.GetDimensionsCount(info, out)));
    const dims = new BigInt64Array(rank);
    const symbols = new BigUint64Array(rank);
    api.GetDimensions(info, dims, rank);
    api.GetSymbolicDimensions(info, symbols, rank);
    return {
      name,
      dtype: dtypeOfOnnx(created((out) => api.GetTensorElementType(info, out))),
      dims: Array.from(dims, (dim, axis) => (dim >= 0n ? Number(dim) : readString(symbols[axis]))),
    };
  } finally {
    api.ReleaseTypeInfo(type);
  }
}
