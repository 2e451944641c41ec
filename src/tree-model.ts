import { type Binding, Session, type SessionOptions, Value } from './runtime/index.ts';
import { type TreeBatch, treeBatchShapes } from './tree-batch.ts';

/** Weights by Hugging Face name, float32. */
export type WeightValues = ReadonlyMap<string, Value>;

/** Clip range of the surrogate: the ratio is kept within [1 - low, 1 + high]. */
export interface ClipRange {
  low: number;
  high: number;
}

/** What the graphs say about a batch; the arrays have one entry a loss row, in the batch's order. */
export interface TreeResult {
  loss: number;
  /** log p(target) in nats at temperature 1. */
  logProbs: Float32Array;
  /** Entropy of the prediction in nats. */
  entropy: Float32Array;
  /** exp(logProbs - old log-probs). */
  ratio: Float32Array;
}

const RESULTS = ['loss', 'log_probs', 'entropy', 'ratio'] as const;
const NO_CLIP: ClipRange = { low: 0.2, high: 0.2 };

/** eval_model.onnx or training_model.onnx: runs prefix-tree batches with whichever weights it is given. */
export class TreeModel implements Disposable {
  readonly session: Session;

  private constructor(session: Session) {
    this.session = session;
  }

  static async create(model: string | Uint8Array, options: SessionOptions = {}): Promise<TreeModel> {
    // Batches differ in shape, and their activations are what fills the memory.
    return new TreeModel(await Session.create(model, { memoryPattern: false, ...options }));
  }

  /**
   * @param weights every weight input; for the training graph also its gradient buffers NAME.grad
   * @param inPlace outputs written onto Values, by output name: NAME.grad.out for the training graph
   */
  async run(
    batch: TreeBatch,
    weights: WeightValues,
    clip: ClipRange = NO_CLIP,
    inPlace: WeightValues = new Map(),
  ): Promise<TreeResult> {
    using binding: Binding = this.session.bind();
    const owned: Value[] = [];
    try {
      for (const [name, value] of weights) binding.input(name, value);
      const input = (name: string, value: Value) => {
        owned.push(value);
        binding.input(name, value);
      };
      for (const [name, dims] of Object.entries(treeBatchShapes(batch))) {
        const data = batch[name as keyof ReturnType<typeof treeBatchShapes>];
        input(name, Value.from(data instanceof BigInt64Array ? 'int64' : 'float32', dims, data));
      }
      input('clip_low', Value.from('float32', [], [clip.low]));
      input('clip_high', Value.from('float32', [], [clip.high]));
      for (const name of RESULTS) binding.outputOn(name);
      for (const [name, value] of inPlace) binding.output(name, value);
      await binding.run();
      const outputs = binding.outputs();
      owned.push(...Object.values(outputs));
      const floats = (name: (typeof RESULTS)[number]) => (outputs[name].data as Float32Array).slice();
      return {
        loss: floats('loss')[0],
        logProbs: floats('log_probs'),
        entropy: floats('entropy'),
        ratio: floats('ratio'),
      };
    } finally {
      for (const value of owned) value.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
  dispose(): void {
    this.session.dispose();
  }
}
