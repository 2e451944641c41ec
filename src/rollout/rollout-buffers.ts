import { setImmediate as nextTurn } from 'node:timers/promises';
import { bytesPerElement, type DType } from '../dtypes.ts';
import { internal } from '../errors.ts';
import { type Binding, Value } from '../runtime/index.ts';
import type { CacheShape } from './cache-shape.ts';
import type { RolloutModel } from './rollout-model.ts';
import type { Sampling } from './sampling.ts';

/** What the step graph takes and gives by live row; live views of native memory. */
export interface RowArrays {
  inputIds: BigInt64Array;
  positionIds: BigInt64Array;
  rowSlots: BigInt64Array;
  targetIds: BigInt64Array;
  uniforms: Float32Array;
  sampledIds: BigInt64Array;
  sampledLogProbs: Float32Array;
  samplingLogProbs: Float32Array;
  targetLogProbs: Float32Array;
}

interface RowBuffers {
  inputs: Record<string, Value>;
  outputs: Record<string, Value>;
  arrays: RowArrays;
  /** Where steps are captured: a binding of its own, whose tensors are copies on the device. */
  captured?: CapturedStep;
}

/** A step whose tensors all lie on the device, and the host tensors that are copied to and from them. */
interface CapturedStep {
  binding: Binding;
  toDevice: readonly (readonly [device: Value, host: Value])[];
  toHost: readonly (readonly [host: Value, device: Value])[];
}

const int64 = (value: Value): BigInt64Array => value.data as BigInt64Array;
const float32 = (value: Value): Float32Array => value.data as Float32Array;

/** Where a document of re-shaped caches has been before: its place, and the slots of its rows there. */
export interface CacheSource {
  document: number;
  rows: readonly number[];
}

/** KV caches of documents side by side, and the bindings that read and write them in place. */
export class RolloutBuffers implements Disposable {
  readonly #model: RolloutModel;
  #shape: CacheShape;
  readonly #trunk = new Map<string, Value>(); // [D, K, P, d]
  readonly #branch = new Map<string, Value>(); // [D*K*S, L, d]
  readonly #step: Binding;
  readonly #owned: Value[] = [];
  readonly #rows = new Map<number, RowBuffers>();
  /** Inputs [D, S] by slot, see the step graph. */
  readonly #bySlot = new Map<string, Value>();
  /** Inputs of the sampling. */
  readonly #scalars = new Map<string, Value>();

  constructor(model: RolloutModel, shape: CacheShape, sampling: Sampling) {
    this.#shape = shape;
    this.#model = model;
    const { documents: D, rowsPerDocument: S, trunkCapacity: P, branchCapacity: L } = shape;
    const { numKvHeads: K, headDim: d, numLayers, device, cacheDtype } = model;
    this.#step = model.bind('step');
    for (let layer = 0; layer < numLayers; layer++) {
      for (const kind of ['key', 'value']) {
        // What nobody has written yet is masked, and must be finite all the same.
        this.#trunk.set(`trunk.${layer}.${kind}`, Value.zeros([D, K, P, d], device, cacheDtype));
        this.#branch.set(`branch.${layer}.${kind}`, Value.zeros([D * K * S, L, d], device, cacheDtype));
      }
    }
    for (const [name, cache] of this.#trunk) this.#step.input(name, cache);
    for (const [name, cache] of this.#branch) this.#step.input(name, cache).output(`${name}.out`, cache);
    this.#makeSlots();
    const { temperature, topK = 0, topP = 1, minP = 0 } = sampling;
    const scalar = (name: string, dtype: DType, value: number) =>
      this.#scalars.set(name, this.#own(Value.from(dtype, [], [value])));
    scalar('temperature', 'float32', temperature);
    if (model.truncation === true) {
      scalar('top_k', 'int64', topK);
      scalar('top_p', 'float32', topP);
      scalar('min_p', 'float32', minP);
    }
    for (const [name, value] of this.#scalars) this.#step.input(name, value);
  }

  get shape(): CacheShape {
    return this.#shape;
  }

  /** Arrays [D, S] by slot, see the step graph; of this shape, so to be asked for anew after `reshape`. */
  get slots(): { rows: BigInt64Array; trunkLength: BigInt64Array; writeIndex: BigInt64Array } {
    const array = (name: string) => int64(this.#bySlot.get(name) ?? missing(name));
    return { rows: array('slot_rows'), trunkLength: array('trunk_length'), writeIndex: array('write_index') };
  }

  /** Bytes of the trunk and branch caches as they are now. */
  get cacheBytes(): { trunk: number; branch: number } {
    const width = bytesPerElement(this.#model.cacheDtype);
    const bytes = (caches: Map<string, Value>) => [...caches.values()].reduce((sum, { size }) => sum + size * width, 0);
    return { trunk: bytes(this.#trunk), branch: bytes(this.#branch) };
  }

  /** Writes a trunk into the cache of document `index`, `chunk` tokens a run; the other documents' caches stay. */
  async prefill(index: number, trunk: ArrayLike<number>, chunk: number): Promise<void> {
    const slices: Value[] = [];
    using binding = this.#model.bind('prefill');
    try {
      for (const [name, cache] of this.#trunk) {
        const slice = cache.slice(index, 1);
        slices.push(slice);
        binding.input(name, slice).output(`${name}.out`, slice);
      }
      for (let start = 0; start < trunk.length; start += chunk) {
        const positions = Array.from({ length: Math.min(chunk, trunk.length - start) }, (_, c) => start + c);
        const tokens = positions.map((position) => trunk[position]);
        using ids = Value.from('int64', [1, tokens.length], tokens);
        using positionIds = Value.from('int64', [1, tokens.length], positions);
        using writeIndex = Value.from('int64', [1], [start]);
        binding.input('input_ids', ids).input('position_ids', positionIds).input('write_index', writeIndex);
        await binding.run();
      }
    } finally {
      binding.dispose();
      for (const slice of slices) slice.dispose();
    }
  }

  /** Inputs and outputs for `count` live rows, or more: those after them count for nothing. One token each; the head runs on all. */
  rows(count: number): RowArrays {
    return this.#rowBuffers(this.#rowsFor(count)).arrays;
  }

  /** Steps of few different shapes are captured: numbers of rows that are powers of two. */
  #rowsFor(count: number): number {
    if (!this.#model.capturesSteps) return count;
    return Math.min(2 ** Math.ceil(Math.log2(count)), this.#shape.documents * this.#shape.rowsPerDocument);
  }

  /** One step of `count` rows, whose inputs stand in `rows(count)` and by slot. */
  async step(count: number): Promise<void> {
    const { inputs, outputs, captured } = this.#rowBuffers(this.#rowsFor(count));
    if (captured !== undefined) {
      for (const [device, host] of captured.toDevice) device.copyFrom(host);
      await captured.binding.run();
      for (const [host, device] of captured.toHost) host.copyFrom(device);
      return;
    }
    for (const [name, value] of Object.entries(inputs)) this.#step.input(name, value);
    for (const [name, value] of Object.entries(outputs)) this.#step.output(name, value);
    await this.#step.run();
  }

  #rowBuffers(count: number): RowBuffers {
    let buffers = this.#rows.get(count);
    if (buffers === undefined) {
      const value = (dtype: DType, dims: readonly number[]) => this.#own(Value.empty(dtype, dims));
      const inputs = {
        input_ids: value('int64', [count, 1]),
        position_ids: value('int64', [count, 1]),
        row_slots: value('int64', [count]),
        head_rows: value('int64', [count]),
        target_ids: value('int64', [count]),
        uniforms: value('float32', [count]),
      };
      const outputs = {
        sampled_ids: value('int64', [count]),
        sampled_log_probs: value('float32', [count]),
        sampling_log_probs: value('float32', [count]),
        target_log_probs: value('float32', [count]),
      };
      int64(inputs.head_rows).forEach((_, row, headRows) => {
        headRows[row] = BigInt(row);
      });
      const arrays = {
        inputIds: int64(inputs.input_ids),
        positionIds: int64(inputs.position_ids),
        rowSlots: int64(inputs.row_slots),
        targetIds: int64(inputs.target_ids),
        uniforms: float32(inputs.uniforms),
        sampledIds: int64(outputs.sampled_ids),
        sampledLogProbs: float32(outputs.sampled_log_probs),
        samplingLogProbs: float32(outputs.sampling_log_probs),
        targetLogProbs: float32(outputs.target_log_probs),
      };
      buffers = { inputs, outputs, arrays };
      if (this.#model.capturesSteps) buffers.captured = this.#capturedStep(inputs, outputs);
      this.#rows.set(count, buffers);
    }
    return buffers;
  }

  #capturedStep(inputs: Record<string, Value>, outputs: Record<string, Value>): CapturedStep {
    const binding = this.#model.bind('step');
    for (const [name, cache] of [...this.#trunk, ...this.#branch]) binding.input(name, cache);
    for (const [name, cache] of this.#branch) binding.output(`${name}.out`, cache);
    const onDevice = ({ dtype, dims }: Value) => this.#own(Value.empty(dtype, dims, this.#model.device));
    const toDevice = [...this.#bySlot, ...this.#scalars, ...Object.entries(inputs)].map(([name, host]) => {
      const device = onDevice(host);
      binding.input(name, device);
      return [device, host] as const;
    });
    const toHost = Object.entries(outputs).map(([name, host]) => {
      const device = onDevice(host);
      binding.output(name, device);
      return [host, device] as const;
    });
    return { binding: binding.captureAsGraph(), toDevice, toHost };
  }

  /**
   * Changes the caches' shape: document i of the new ones is `sources[i]`, its row j what was in slot `rows[j]`, with as many of
   * their tokens as the new capacities hold. On the CPU only: elsewhere caches would have to cross.
   */
  async reshape(shape: CacheShape, sources: readonly CacheSource[]): Promise<void> {
    const { numKvHeads: K, headDim: d } = this.#model;
    const { rowsPerDocument } = this.#shape;
    const { documents: D, rowsPerDocument: S, trunkCapacity: P, branchCapacity: L } = shape;
    const trunks: (number | undefined)[] = []; // (document, kv head)
    const branches: (number | undefined)[] = []; // (document, kv head, row)
    for (let i = 0; i < D; i++) {
      for (let k = 0; k < K; k++) {
        const head = sources[i] && sources[i].document * K + k;
        trunks.push(head);
        for (let j = 0; j < S; j++) {
          const row = sources[i]?.rows[j];
          branches.push(head === undefined || row === undefined ? undefined : head * rowsPerDocument + row);
        }
      }
    }
    for (const name of this.#trunk.keys()) await this.#rearrange(this.#trunk, name, [D, K, P, d], trunks);
    for (const name of this.#branch.keys()) await this.#rearrange(this.#branch, name, [D * K * S, L, d], branches);
    this.#shape = shape;
    this.#makeSlots();
  }

  async #rearrange(
    caches: Map<string, Value>,
    name: string,
    dims: readonly number[],
    entries: readonly (number | undefined)[],
  ): Promise<void> {
    const cache = caches.get(name) ?? missing(name);
    const stays = entries.every((entry, i) => entry === undefined || entry === i);
    if (stays && dims.every((dim, axis) => dim === cache.dims[axis])) return;
    const moved = rearranged(cache, dims, entries);
    caches.set(name, moved);
    this.#step.input(name, moved);
    if (caches === this.#branch) this.#step.output(`${name}.out`, moved);
    cache.dispose();
    await nextTurn(); // the caches of a large model take as long as a step
  }

  #makeSlots(): void {
    const { documents, rowsPerDocument } = this.#shape;
    for (const name of ['slot_rows', 'trunk_length', 'write_index']) {
      const value = Value.empty('int64', [documents, rowsPerDocument]);
      this.#step.input(name, value);
      this.#bySlot.get(name)?.dispose();
      this.#bySlot.set(name, value);
    }
  }

  #own(value: Value): Value {
    this.#owned.push(value);
    return value;
  }

  [Symbol.dispose](): void {
    this.#step.dispose();
    for (const { captured } of this.#rows.values()) captured?.binding.dispose();
    for (const values of [this.#owned, this.#bySlot.values(), this.#trunk.values(), this.#branch.values()]) {
      for (const value of values) value.dispose();
    }
  }
}

function missing(name: string): never {
  throw internal(`no cache or input ${name}`);
}

/**
 * A copy of a cache [.., L, d] on the CPU with other dims [.., L', d]: its i-th matrix has the first tokens of the cache's matrix
 * `entries[i]`, and zeros where there are none.
 */
function rearranged(cache: Value, dims: readonly number[], entries: readonly (number | undefined)[]): Value {
  const moved = Value.empty(cache.dtype, dims);
  const sizeOf = (value: Value) => value.dims.slice(-2).reduce((a, b) => a * b, bytesPerElement(value.dtype));
  const bytesOf = ({ data }: Value) => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
  const [from, to] = [sizeOf(cache), sizeOf(moved)];
  const [source, target] = [bytesOf(cache), bytesOf(moved)];
  entries.forEach((entry, i) => {
    if (entry !== undefined) target.set(source.subarray(entry * from, entry * from + Math.min(from, to)), i * to);
  });
  return moved;
}
