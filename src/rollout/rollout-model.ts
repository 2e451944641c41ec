import { internal, UserError } from '../errors.ts';
import { type Device, Session, type SessionOptions } from '../runtime/index.ts';

/** The two graphs of a rollout: a path, or the bytes of a model. And what their inputs are bounded by. */
export interface RolloutGraphs {
  prefill: string | Uint8Array;
  step: string | Uint8Array;
  /** Token ids are below it. */
  vocabSize: number;
  /** Tokens of the longest sequence: trunk and branch together. */
  maxPositions: number;
}

/** The prefill graph ends before the final norm: it has no initializers of these names to replace. */
const HEAD_WEIGHTS = ['model.norm.weight', 'lm_head.weight'];

/** The prefill and step sessions, and what their signatures say about the model. */
export class RolloutModel implements Disposable {
  readonly prefill: Session;
  readonly step: Session;
  readonly device: Device;
  readonly numLayers: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly vocabSize: number;
  readonly maxPositions: number;

  private constructor({ vocabSize, maxPositions }: RolloutGraphs, prefill: Session, step: Session, device: Device) {
    this.vocabSize = vocabSize;
    this.maxPositions = maxPositions;
    this.prefill = prefill;
    this.step = step;
    this.device = device;
    assertGraph('prefill', prefill, ['input_ids', 'position_ids', 'write_index', 'trunk.0.key']);
    assertGraph('step', step, [
      'input_ids',
      'row_slots',
      'slot_rows',
      'uniforms',
      'top_k',
      'trunk.0.key',
      'branch.0.key',
    ]);
    this.numLayers = step.inputs.filter(({ name }) => /^trunk\.\d+\.key$/.test(name)).length;
    const cache = step.inputs.find(({ name }) => name === 'trunk.0.key');
    const [, heads, , width] = cache?.dims ?? [];
    if (typeof heads !== 'number' || typeof width !== 'number') {
      throw internal(`trunk.0.key of the step graph is [${cache?.dims.join(', ')}]`);
    }
    this.numKvHeads = heads;
    this.headDim = width;
  }

  /** Throws UserError when a graph cannot be loaded or is not one of ours. */
  static async create(graphs: RolloutGraphs, options: SessionOptions = {}): Promise<RolloutModel> {
    const sessions: Session[] = [];
    try {
      const initializers = new Map(options.initializers);
      for (const name of HEAD_WEIGHTS) initializers.delete(name);
      const prefill = await Session.create(graphs.prefill, { ...options, initializers });
      sessions.push(prefill);
      const step = await Session.create(graphs.step, options);
      sessions.push(step);
      return new RolloutModel(graphs, prefill, step, options.device ?? { kind: 'cpu' });
    } catch (error) {
      for (const session of sessions) session.dispose();
      throw error;
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
  dispose(): void {
    this.prefill.dispose();
    this.step.dispose();
  }
}

function assertGraph(which: 'prefill' | 'step', { inputs }: Session, names: readonly string[]): void {
  const missing = names.find((name) => inputs.every((input) => input.name !== name));
  if (missing !== undefined) {
    throw new UserError(
      `the ${which} graph has no input ${missing}: it was not written by this version of rlp-ort; export the model again`,
    );
  }
}
