import type { DType } from '../dtypes.ts';
import { type Binding, Value } from '../runtime/index.ts';
import type { RolloutModel } from './rollout-model.ts';
import type { Sampling } from './sampling.ts';

/** Sizes of the caches of one wave of documents. */
export interface CacheShape {
  documents: number;
  rowsPerDocument: number;
  /** Tokens of the longest trunk. */
  trunkCapacity: number;
  /** Tokens of the longest branch; memory is taken as branches grow. */
  branchCapacity: number;
}

/**
 * Branch caches start with this many tokens, and grow by a quarter rounded up to as many: every step reads all of a cache,
 * used or not, and that is what the attention costs.
 */
const BRANCH_BUCKET = 32;

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

/** KV caches of a wave, and the bindings that read and write them in place. */
export class RolloutBuffers implements Disposable {
  readonly shape: CacheShape;
  readonly #model: RolloutModel;
  readonly #trunk = new Map<string, Value>(); // [D, K, P, d]
  readonly #branch = new Map<string, Value>(); // [D*K*S, capacity, d]
  readonly #step: Binding;
  readonly #owned: Value[] = [];
  readonly #rows = new Map<number, RowBuffers>();
  /** Inputs that are no caches and do not depend on the number of rows: by slot, and of the sampling. */
  readonly #shared = new Map<string, Value>();
  #branchCapacity: number;
  /** By slot [D, S], see the step graph. */
  readonly slotRows: BigInt64Array;
  readonly trunkLength: BigInt64Array;
  readonly writeIndex: BigInt64Array;

  constructor(model: RolloutModel, shape: CacheShape, sampling: Sampling) {
    this.shape = shape;
    this.#model = model;
    // On a device a cache that grows would have to cross, and its address must stay for a captured graph.
    const first = model.device.kind === 'cpu' ? BRANCH_BUCKET : shape.branchCapacity;
    this.#branchCapacity = Math.min(first, shape.branchCapacity);
    const { documents: D, rowsPerDocument: S, trunkCapacity: P } = shape;
    const { numKvHeads: K, headDim: d, numLayers, device } = model;
    this.#step = model.bind('step');
    for (let layer = 0; layer < numLayers; layer++) {
      for (const kind of ['key', 'value']) {
        // What nobody has written yet is masked, and must be finite all the same.
        this.#trunk.set(`trunk.${layer}.${kind}`, Value.zeros([D, K, P, d], device));
        this.#branch.set(`branch.${layer}.${kind}`, Value.zeros([D * K * S, this.#branchCapacity, d], device));
      }
    }
    for (const [name, cache] of this.#trunk) this.#step.input(name, cache);
    this.#bindBranches();
    const bySlot = (name: string) => {
      const value = this.#own(Value.empty('int64', [D, S]));
      this.#shared.set(name, value);
      return int64(value);
    };
    this.slotRows = bySlot('slot_rows');
    this.trunkLength = bySlot('trunk_length');
    this.writeIndex = bySlot('write_index');
    const { temperature, topK = 0, topP = 1, minP = 0 } = sampling;
    const scalar = (name: string, dtype: DType, value: number) =>
      this.#shared.set(name, this.#own(Value.from(dtype, [], [value])));
    scalar('temperature', 'float32', temperature);
    if (model.truncates) {
      scalar('top_k', 'int64', topK);
      scalar('top_p', 'float32', topP);
      scalar('min_p', 'float32', minP);
    }
    for (const [name, value] of this.#shared) this.#step.input(name, value);
  }

  /** Bytes of the trunk and branch caches as they are now. */
  get cacheBytes(): { trunk: number; branch: number } {
    const bytes = (caches: Map<string, Value>) => [...caches.values()].reduce((sum, { size }) => sum + size * 4, 0);
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
    return Math.min(2 ** Math.ceil(Math.log2(count)), this.shape.documents * this.shape.rowsPerDocument);
  }

  /** One step of `count` rows, whose inputs stand in `rows(count)` and by slot; `tokens`: of the longest branch after it. */
  async step(count: number, tokens: number): Promise<void> {
    while (tokens > this.#branchCapacity) this.#growBranches();
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
    const toDevice = [...this.#shared, ...Object.entries(inputs)].map(([name, host]) => {
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

  #growBranches(): void {
    const grown = Math.ceil((1.25 * this.#branchCapacity) / BRANCH_BUCKET) * BRANCH_BUCKET;
    this.#branchCapacity = Math.min(grown, this.shape.branchCapacity);
    for (const [name, cache] of this.#branch) {
      this.#branch.set(name, lengthened(cache, this.#branchCapacity));
      cache.dispose();
    }
    this.#bindBranches();
  }

  #bindBranches(): void {
    for (const [name, cache] of this.#branch) this.#step.input(name, cache).output(`${name}.out`, cache);
  }

  #own(value: Value): Value {
    this.#owned.push(value);
    return value;
  }

  [Symbol.dispose](): void {
    this.#step.dispose();
    for (const { captured } of this.#rows.values()) captured?.binding.dispose();
    for (const value of [...this.#owned, ...this.#trunk.values(), ...this.#branch.values()]) value.dispose();
  }
}

/** A copy [B, capacity, d] of a cache [B, L, d] on the CPU, with zeros after the first L tokens. */
function lengthened(cache: Value, capacity: number): Value {
  const [rows, length, width] = cache.dims;
  const longer = Value.empty('float32', [rows, capacity, width]);
  const [source, target] = [float32(cache), float32(longer)];
  for (let row = 0; row < rows; row++) {
    target.set(source.subarray(row * length * width, (row + 1) * length * width), row * capacity * width);
  }
  return longer;
}
