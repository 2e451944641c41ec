import koffi from 'koffi';
import { bytesPerElement } from '../dtypes.ts';
import { internal, UserError } from '../errors.ts';
import type { Pointer } from './api.ts';
import type { Device } from './environment.ts';
import { CPU, created, deviceName, environment, explain, memoryInfo, sameDevice } from './environment.ts';
import { Handle, pinned } from './handle.ts';
import type { Session, TensorInfo } from './session.ts';
import { countTransfer } from './transfers.ts';
import { describe, Value } from './value.ts';

const BINDING = 'a Binding that is not disposed of';
/** 0 and -1 have meanings of their own. */
let nextGraphId = 1;

/**
 * Inputs and outputs of a session, bound once and run many times. Bound tensors are read and written where they are.
 *
 * **In place.** Binding one Value as an input and as an output makes the run overwrite it. ONNX Runtime does not know that
 * the two are one: a node that still reads the input may run after the node that writes the output, and reads the new
 * contents. Do it only in graphs where the write of the output depends on every reader of the input, or where the
 * operator at the end is the input's one reader.
 *
 * One Binding runs once at a time; several Bindings of a session may run concurrently.
 */
export class Binding implements Disposable {
  readonly #session: Session;
  readonly #handle: Handle;
  readonly #inputs = new Map<string, Value>();
  /** In the order of first binding, which is the order in which ONNX Runtime lists them. */
  readonly #outputs = new Map<string, Value | Device>();
  #ran = false;
  /** Run options of the captured graph. */
  #graph: { options: Pointer; id: number } | undefined;

  /** Use `session.bind()`. */
  constructor(session: Session) {
    const { api } = environment();
    const pointer = created<Pointer>((out) => api.CreateIoBinding(session.handle.pointer, out));
    // The native binding refers to the session: the session must not go first.
    session.handle.pin(BINDING);
    this.#session = session;
    this.#handle = new Handle('Binding', pointer, (released) => {
      api.ReleaseIoBinding(released);
      this.#releaseGraph();
      session.handle.unpin(BINDING);
    });
  }

  /** Binds an input; binding a name again replaces it. Throws UserError when dtype or dims do not fit the model. */
  input(name: string, value: Value): this {
    this.#handle.assertIdle('change');
    assertFits('input', name, this.#session, value);
    if (!this.#crosses(value)) this.#bindInput(name, value);
    this.#inputs.set(name, value);
    return this;
  }

  /** For another device ONNX Runtime copies a host tensor when it is bound: that is left to the run. */
  #crosses(value: Value): boolean {
    return this.#session.device.kind !== 'cpu' && value.device.kind === 'cpu';
  }

  #bindInput(name: string, value: Value): void {
    try {
      environment().api.BindInput(this.#handle.pointer, name, value.handle.pointer);
    } catch (error) {
      throw explain(`binding input '${name}'`, error);
    }
  }

  /** Binds an output to a tensor, whose dims must be exactly those the run will produce. */
  output(name: string, value: Value): this {
    this.#handle.assertIdle('change');
    assertFits('output', name, this.#session, value);
    environment().api.BindOutput(this.#handle.pointer, name, value.handle.pointer);
    this.#outputs.set(name, value);
    return this;
  }

  /** Lets ONNX Runtime allocate an output on `device` (the CPU by default) in every run; `outputs()` hands it over. */
  outputOn(name: string, device: Device = CPU): this {
    this.#handle.assertIdle('change');
    find('output', name, this.#session.outputs);
    environment().api.BindOutputToDevice(this.#handle.pointer, name, memoryInfo(device));
    this.#outputs.set(name, device);
    return this;
  }

  /**
   * For sessions with `cuda.graphs`: runs are captured as one CUDA graph after the first few, and replayed from then on. What is
   * bound, where it lies and its shape must not change any more; all of it must lie on the device.
   */
  captureAsGraph(): this {
    const { api } = environment();
    const options = created<Pointer>((out) => api.CreateRunOptions(out));
    const id = nextGraphId++;
    api.AddRunConfigEntry(options, 'gpu_graph_id', String(id));
    this.#releaseGraph();
    this.#graph = { options, id };
    return this;
  }

  #releaseGraph(): void {
    if (this.#graph === undefined) return;
    const { api } = environment();
    const { options, id } = this.#graph;
    this.#graph = undefined;
    api.ReleaseRunOptions(options);
    if (this.#session.device.kind === 'cuda') api.SessionReleaseCapturedGraph(this.#session.handle.pointer, id);
  }

  /** Runs on another thread; the event loop goes on. Bound tensors must not be touched until it settles. */
  async run(): Promise<void> {
    this.#prepare();
    const { api } = environment();
    const handles = [this.#handle, this.#session.handle];
    for (const value of this.#values()) handles.push(value.handle);
    try {
      await pinned('a run in flight', handles, () =>
        api.RunWithBinding.async(this.#session.handle.pointer, this.#graph?.options ?? null, this.#handle.pointer),
      );
    } catch (error) {
      throw explain('running the model', error);
    }
    this.#afterRun();
  }

  /** Runs on this thread and blocks it: for runs of microseconds, where going to another thread costs more. */
  runSync(): void {
    this.#prepare();
    try {
      environment().api.RunWithBinding(
        this.#session.handle.pointer,
        this.#graph?.options ?? null,
        this.#handle.pointer,
      );
    } catch (error) {
      throw explain('running the model', error);
    }
    this.#afterRun();
  }

  #afterRun(): void {
    this.#ran = true;
    for (const [name, target] of this.#outputs) if (target instanceof Value) this.#countOutput(name, target);
  }

  #countOutput(name: string, value: Value): void {
    if (value.device.kind === 'cpu' && this.#session.device.kind !== 'cpu')
      countTransfer('toHost', name, byteLength(value));
  }

  /** The tensors that the last run allocated for `outputOn`, once; the caller disposes of them. */
  outputs(): Record<string, Value> {
    this.#handle.assertIdle('read the outputs of');
    if (!this.#ran) throw internal('Binding.outputs() needs a run that has not been collected yet');
    const { api, allocator } = environment();
    const list: [Pointer | null] = [null];
    const count = Number(
      created<number>((out) => api.GetBoundOutputValues(this.#handle.pointer, allocator, list, out)),
    );
    if (list[0] === null || count !== this.#outputs.size) {
      throw internal(`${this.#outputs.size} outputs are bound, ONNX Runtime has ${count}`);
    }
    const pointers: Pointer[] = koffi.decode(list[0], koffi.array('void *', count));
    api.AllocatorFree(allocator, list[0]);
    const results: Record<string, Value> = {};
    let index = 0;
    for (const [name, target] of this.#outputs) {
      const pointer = pointers[index++];
      if (target instanceof Value) api.ReleaseValue(pointer);
      else {
        const result = Value.adopt(pointer, target);
        this.#countOutput(name, result);
        results[name] = result;
      }
    }
    this.#releaseOutputs();
    this.#ran = false;
    return results;
  }

  get disposed(): boolean {
    return this.#handle.disposed;
  }

  /**
   * Frees the binding. Tensors bound stay the caller's, though the memory of one that was disposed of is only freed now.
   * Throws while its run is in flight; does nothing the second time. */
  dispose(): void {
    this.#handle.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  *#values(): Generator<Value> {
    yield* this.#inputs.values();
    for (const target of this.#outputs.values()) if (target instanceof Value) yield target;
  }

  /**
   * A run leaves the tensors that it allocated bound: they would stay in memory, and the next run would write into them
   * though outputs() has given them away. Binding the outputs anew lets go of them.
   */
  #releaseOutputs(): void {
    const { api } = environment();
    for (const [name, target] of this.#outputs) {
      if (!(target instanceof Value)) api.BindOutputToDevice(this.#handle.pointer, name, memoryInfo(target));
    }
  }

  #prepare(): void {
    this.#handle.assertIdle('run');
    const binding = this.#handle.pointer; // throws if it was disposed of, as do those of tensors
    for (const value of this.#values()) value.handle.pointer;
    const missing = this.#session.inputs.filter((input) => !this.#inputs.has(input.name));
    if (missing.length > 0) {
      const list = missing.map((input) => `'${input.name}' ${describe(input.dtype, input.dims)}`).join(', ');
      throw new UserError(`cannot run the model: input ${list} is not bound`);
    }
    if (this.#outputs.size === 0) throw new UserError('cannot run the model: no output is bound');
    this.#releaseOutputs();
    if (this.#session.device.kind !== 'cpu') {
      for (const [name, value] of this.#inputs) {
        if (!this.#crosses(value)) continue;
        countTransfer('toDevice', name, byteLength(value));
        this.#bindInput(name, value);
      }
      environment().api.SynchronizeBoundInputs(binding);
    }
  }
}

const byteLength = ({ dtype, size }: Value): number => size * bytesPerElement(dtype);

function find(role: 'input' | 'output', name: string, infos: readonly TensorInfo[]): TensorInfo {
  const info = infos.find((candidate) => candidate.name === name);
  if (info === undefined) {
    const names = infos.map((candidate) => candidate.name).join(', ');
    throw new UserError(`the model has no ${role} '${name}'; its ${role}s are: ${names}`);
  }
  return info;
}

function assertFits(role: 'input' | 'output', name: string, session: Session, value: Value): void {
  const info = find(role, name, role === 'input' ? session.inputs : session.outputs);
  if (value.device.kind !== 'cpu' && !sameDevice(value.device, session.device)) {
    throw new UserError(
      `${role} '${name}' is on ${deviceName(value.device)}, but the session runs on ${deviceName(session.device)}; copy it`,
    );
  }
  // Rank 0 also stands for an unknown rank, so dims are compared only where the model states some.
  const dimsFit =
    info.dims.length === 0 ||
    (info.dims.length === value.dims.length &&
      info.dims.every((dim, axis) => typeof dim === 'string' || dim === value.dims[axis]));
  if (info.dtype !== value.dtype || !dimsFit) {
    throw new UserError(
      `${role} '${name}' of the model is ${describe(info.dtype, info.dims)}, but got ${describe(value.dtype, value.dims)}`,
    );
  }
}
