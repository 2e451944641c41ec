import { UserError } from '../errors.ts';
import { type Binding, type Device, Session, type SessionOptions, Value } from '../runtime/index.ts';

/** The two graphs of a rollout: a path, or the bytes of a model. */
export interface RolloutGraphs {
  prefill: string | Uint8Array;
  step: string | Uint8Array;
}

/** The prefill graph ends before the final norm and has no place for these. */
const HEAD_WEIGHTS = ['model.norm.weight', 'lm_head.weight'];

/** Sizes of the caches of one wave of documents. */
export interface CacheShape {
  documents: number;
  rowsPerDocument: number;
  trunkCapacity: number;
  branchCapacity: number;
}

const int64 = (value: Value): BigInt64Array => value.data as BigInt64Array;
const float32 = (value: Value): Float32Array => value.data as Float32Array;

/** The prefill and step sessions, and what their signatures say about the model. */
export class RolloutModel implements Disposable {
  readonly prefill: Session;
  readonly step: Session;
  readonly device: Device;
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;

  private constructor(prefill: Session, step: Session, device: Device) {
    this.prefill = prefill;
    this.step = step;
    this.device = device;
    this.numLayers = step.inputs.filter(({ name }) => /^trunk\.\d+\.key$/.test(name)).length;
    const cache = step.inputs.find(({ name }) => name === 'trunk.0.key');
    const [, heads, , width] = cache?.dims ?? [];
    if (typeof heads !== 'number' || typeof width !== 'number') {
      throw new UserError(
        'the step graph has no input trunk.0.key [D, kv heads, P, head_dim]: it was not written by rlp-ort export; run it again',
      );
    }
    this.numKvHeads = heads;
    this.headDim = width;
  }

  static async create(graphs: RolloutGraphs, options: SessionOptions = {}): Promise<RolloutModel> {
    const initializers = new Map(options.initializers);
    for (const name of HEAD_WEIGHTS) initializers.delete(name);
    const prefill = await Session.create(graphs.prefill, { ...options, initializers });
    const step = await Session.create(graphs.step, options);
    return new RolloutModel(prefill, step, options.device ?? { kind: 'cpu' });
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
  dispose(): void {
    this.prefill.dispose();
    this.step.dispose();
  }
}

/** KV caches of a wave and the bindings that read and write them in place. */
export class RolloutBuffers implements Disposable {
  readonly shape: CacheShape;
  readonly #trunk = new Map<string, Value>();
  readonly #branch = new Map<string, Value>();
  readonly #step: Binding;
  readonly #prefill: Binding;
  readonly #owned: Value[] = [];
  readonly inputIds: BigInt64Array; // [D, S]
  readonly positionIds: BigInt64Array; // [D, S]
  readonly trunkLength: BigInt64Array; // [D, S]
  readonly writeIndex: BigInt64Array; // [D, S]
  readonly #heads = new Map<number, HeadBuffers>();

  constructor(model: RolloutModel, shape: CacheShape, temperature: number) {
    this.shape = shape;
    const { documents: D, rowsPerDocument: S, trunkCapacity: P, branchCapacity: L } = shape;
    const { numKvHeads: K, headDim: d, numLayers, device } = model;
    for (let layer = 0; layer < numLayers; layer++) {
      for (const kind of ['key', 'value']) {
        this.#trunk.set(`trunk.${layer}.${kind}`, Value.empty('float32', [D, K, P, d], device));
        this.#branch.set(`branch.${layer}.${kind}`, Value.empty('float32', [D * K * S, L, d], device));
      }
    }
    this.#prefill = model.prefill.bind();
    this.#step = model.step.bind();
    for (const [name, cache] of this.#trunk) {
      this.#prefill.input(name, cache).output(`${name}.out`, cache);
      this.#step.input(name, cache);
    }
    for (const [name, cache] of this.#branch) this.#step.input(name, cache).output(`${name}.out`, cache);
    const input = (name: string, dims: readonly number[]) => {
      const value = this.#own(Value.empty('int64', dims));
      this.#step.input(name, value);
      return int64(value);
    };
    this.inputIds = input('input_ids', [D, S, 1]);
    this.positionIds = input('position_ids', [D, S, 1]);
    this.trunkLength = input('trunk_length', [D, S]);
    this.writeIndex = input('write_index', [D, S]);
    this.#step.input('temperature', this.#own(Value.from('float32', [], [temperature])));
  }

  /** Bytes of trunk and branch caches. */
  get cacheBytes(): { trunk: number; branch: number } {
    const bytes = (caches: Map<string, Value>) => [...caches.values()].reduce((sum, { size }) => sum + size * 4, 0);
    return { trunk: bytes(this.#trunk), branch: bytes(this.#branch) };
  }

  /** Fills the trunk caches with the documents' tokens, `chunk` tokens of each document at a time. */
  async prefillTrunks(trunks: readonly ArrayLike<number>[], chunk: number): Promise<void> {
    const D = trunks.length;
    const longest = Math.max(...trunks.map((trunk) => trunk.length));
    for (let start = 0; start < longest; start += chunk) {
      const C = Math.min(chunk, longest - start);
      using ids = Value.empty('int64', [D, C]);
      using positions = Value.empty('int64', [D, C]);
      using writeIndex = Value.from('int64', [D], new BigInt64Array(D).fill(BigInt(start)));
      for (let d = 0; d < D; d++) {
        for (let c = 0; c < C; c++) {
          int64(ids)[d * C + c] = BigInt(trunks[d][start + c] ?? 0);
          int64(positions)[d * C + c] = BigInt(start + c);
        }
      }
      this.#prefill.input('input_ids', ids).input('position_ids', positions).input('write_index', writeIndex);
      await this.#prefill.run();
    }
  }

  /** The head's inputs and outputs for `count` rows. */
  heads(count: number): HeadBuffers {
    let heads = this.#heads.get(count);
    if (heads === undefined) {
      const value = (dtype: 'int64' | 'float32') => this.#own(Value.empty(dtype, [count]));
      heads = {
        inputs: { head_rows: value('int64'), target_ids: value('int64'), uniforms: value('float32') },
        outputs: {
          sampled_ids: value('int64'),
          sampled_log_probs: value('float32'),
          sampling_log_probs: value('float32'),
          target_log_probs: value('float32'),
        },
      };
      this.#heads.set(count, heads);
    }
    return heads;
  }

  async runStep(heads: HeadBuffers): Promise<void> {
    for (const [name, value] of Object.entries(heads.inputs)) this.#step.input(name, value);
    for (const [name, value] of Object.entries(heads.outputs)) this.#step.output(name, value);
    await this.#step.run();
  }

  #own(value: Value): Value {
    this.#owned.push(value);
    return value;
  }

  [Symbol.dispose](): void {
    this.#prefill.dispose();
    this.#step.dispose();
    for (const value of [...this.#owned, ...this.#trunk.values(), ...this.#branch.values()]) value.dispose();
  }
}

/** All of size N, the rows on which the head runs. */
export interface HeadBuffers {
  inputs: { head_rows: Value; target_ids: Value; uniforms: Value };
  outputs: { sampled_ids: Value; sampled_log_probs: Value; sampling_log_probs: Value; target_log_probs: Value };
}

export { float32, int64 };
