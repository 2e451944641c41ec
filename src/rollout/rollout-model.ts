import type { DType } from '../dtypes.ts';
import { internal, UserError } from '../errors.ts';
import { type Binding, type Device, Session, type SessionOptions, type Value } from '../runtime/index.ts';
import type { Cut } from './sampling.ts';

/** The two graphs of a rollout: a path, or the bytes of a model. And what their inputs are bounded by. */
export interface RolloutGraphs {
  prefill: string | Uint8Array;
  step: string | Uint8Array;
  /** Token ids are below it. */
  vocabSize: number;
  /** Tokens of the longest sequence: trunk and branch together. */
  maxPositions: number;
  /** The cuts that the step graph was built for, where they are no inputs of it. */
  cut?: Cut;
}

const CPU: Device = { kind: 'cpu' };

/**
 * Whether the prefill graph reads a weight. It ends at the keys and values of the last layer, and has no initializers of what
 * comes behind them to replace.
 */
function isInPrefill(weight: string, numLayers: number): boolean {
  if (weight === 'model.norm.weight' || weight === 'lm_head.weight') return false;
  const last = `model.layers.${numLayers - 1}.`;
  return !weight.startsWith(last) || /^(input_layernorm|self_attn\.[kv]_)/.test(weight.slice(last.length));
}

/** How the sessions of a rollout are made. */
export interface RolloutModelOptions extends SessionOptions {
  weights?: ReadonlyMap<string, Value>;
  /** Decoding steps are captured as CUDA graphs; prefill is not, since chunks of a trunk differ in shape. Default false. */
  captureSteps?: boolean;
}

/** The prefill and step sessions, and what their signatures say about the model. */
export class RolloutModel implements Disposable {
  readonly prefill: Session;
  readonly step: Session;
  readonly device: Device;
  /** Decoding steps are captured: what is bound keeps its address and its shape. */
  readonly capturesSteps: boolean;
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  /** Of the caches. */
  readonly cacheDtype: DType;
  readonly vocabSize: number;
  readonly maxPositions: number;
  /** Whether tokens can be cut by top-k, top-p and min-p, or how they always are. */
  readonly truncation: boolean | Cut;

  /** Of graphs that take their weights as inputs. */
  readonly #weights: ReadonlyMap<string, Value>;

  private constructor(
    { vocabSize, maxPositions, cut }: RolloutGraphs,
    prefill: Session,
    step: Session,
    device: Device,
    weights: ReadonlyMap<string, Value>,
    capturesSteps: boolean,
  ) {
    this.#weights = weights;
    this.capturesSteps = capturesSteps;
    this.vocabSize = vocabSize;
    this.maxPositions = maxPositions;
    this.prefill = prefill;
    this.step = step;
    this.device = device;
    assertGraph('prefill', prefill, ['input_ids', 'position_ids', 'write_index', 'trunk.0.key']);
    assertGraph('step', step, ['input_ids', 'row_slots', 'slot_rows', 'uniforms', 'trunk.0.key', 'branch.0.key']);
    this.truncation = cut ?? step.inputs.some(({ name }) => name === 'top_k');
    this.numLayers = layersOf(step);
    const cache = step.inputs.find(({ name }) => name === 'trunk.0.key');
    const [, heads, , width] = cache?.dims ?? [];
    if (typeof heads !== 'number' || typeof width !== 'number') {
      throw internal(`trunk.0.key of the step graph is [${cache?.dims.join(', ')}]`);
    }
    this.cacheDtype = cache?.dtype ?? 'float32';
    this.numKvHeads = heads;
    this.headDim = width;
  }

  /**
   * @param options `weights`: for graphs that take their weights as inputs, those that every run is to read, where they are
   * @throws UserError when a graph cannot be loaded or is not one of ours
   */
  static async create(graphs: RolloutGraphs, options: RolloutModelOptions = {}): Promise<RolloutModel> {
    const { weights = new Map<string, Value>(), captureSteps = false, ...sessionOptions } = options;
    const sessions: Session[] = [];
    try {
      const capturesSteps = captureSteps && (options.device ?? CPU).kind !== 'cpu';
      const step = await Session.create(graphs.step, {
        ...sessionOptions,
        ...(capturesSteps && { cuda: { ...sessionOptions.cuda, graphs: true } }),
      });
      sessions.push(step);
      const numLayers = layersOf(step);
      const initializers = new Map([...(options.initializers ?? [])].filter(([name]) => isInPrefill(name, numLayers)));
      const prefill = await Session.create(graphs.prefill, { ...sessionOptions, initializers });
      sessions.push(prefill);
      return new RolloutModel(graphs, prefill, step, options.device ?? CPU, weights, capturesSteps);
    } catch (error) {
      for (const session of sessions) session.dispose();
      throw error;
    }
  }

  /** A binding of one of the two sessions that has the weights already. */
  bind(which: 'prefill' | 'step'): Binding {
    const session = this[which];
    const binding = session.bind();
    const names = new Set(session.inputs.map(({ name }) => name));
    for (const [name, value] of this.#weights) if (names.has(name)) binding.input(name, value);
    return binding;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
  dispose(): void {
    this.prefill.dispose();
    this.step.dispose();
  }
}

const layersOf = (step: Session): number => step.inputs.filter(({ name }) => /^trunk\.\d+\.key$/.test(name)).length;

function assertGraph(which: 'prefill' | 'step', { inputs }: Session, names: readonly string[]): void {
  const missing = names.find((name) => inputs.every((input) => input.name !== name));
  if (missing !== undefined) {
    throw new UserError(
      `the ${which} graph has no input ${missing}: it was not written by this version of rlp-ort; export the model again`,
    );
  }
}
