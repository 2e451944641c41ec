import { internal, UserError } from '../errors.ts';
import { type Binding, Session, type SessionOptions, type TensorInfo, Value } from '../runtime/index.ts';
import type { TreeBatch } from '../tree-batch.ts';
import { type ClipRange, TreeModel, type TreeResult, type WeightValues } from '../tree-model.ts';
import { type LossScale, LossScaler } from './loss-scaler.ts';

/** The artifacts of on-device training: paths, or the bytes of models. */
export interface TrainingArtifacts {
  trainingModel: string | Uint8Array;
  evalModel: string | Uint8Array;
  optimizerModel: string | Uint8Array;
}

/** A tensor on the host, float32, row-major. */
export interface HostTensor {
  shape: readonly number[];
  data: Float32Array;
}

/** A view of a tensor in host memory, or a copy of one on a device. */
const hostTensor = (value: Value): HostTensor => ({ shape: value.dims, data: value.read() as Float32Array });

/** The same of several, by name. */
export const hostTensors = (values: ReadonlyMap<string, Value>): Map<string, HostTensor> =>
  new Map([...values].map(([name, value]) => [name, hostTensor(value)]));

/** AdamW (Loshchilov and Hutter, arXiv 1711.05101) with global-norm clipping, and the lag of the EMA weights. */
export interface OptimizerSettings {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
  /** Decoupled; of the weights that the optimizer graph decays, by default neither norms nor embeddings. */
  weightDecay: number;
  /** Global L2 norm that gradients are clipped to; 0 clips nothing. */
  maxGradNorm: number;
  /** tau of phi <- tau phi + (1 - tau) theta, after the step. */
  emaDecay: number;
}

/** What an optimizer step did. */
export interface OptimizerResult {
  /** Global L2 norm before clipping. */
  gradNorm: number;
  /** L2 norm of EMA - weights after the step, where there is an EMA. */
  emaDistance?: number;
  /** False when the norm is not finite: then nothing was changed. */
  applied: boolean;
  /** Not applied because float16 overflowed: the loss scale has been lowered, and training can go on with the next batch. */
  overflow: boolean;
}

/** As torch.optim.AdamW and ONNX Runtime's AdamW have them; nothing is clipped. */
export const DEFAULT_OPTIMIZER_SETTINGS: OptimizerSettings = {
  learningRate: 1e-3,
  beta1: 0.9,
  beta2: 0.999,
  epsilon: 1e-8,
  weightDecay: 0.01,
  maxGradNorm: 0,
  emaDecay: 0.999,
};

/** State of each weight that is trained, in the order of a checkpoint. */
export const STATE_KINDS = ['weights', 'exp_avg', 'exp_avg_sq', 'ema'] as const;
export type StateKind = (typeof STATE_KINDS)[number];

/** Everything that an exact continuation needs from the optimizer's side. */
export interface TrainingState {
  /** Optimizer steps applied so far; t of the bias correction. */
  step: number;
  /** Of training in float16. */
  lossScale?: LossScale;
  tensors: Record<StateKind, Map<string, HostTensor>>;
}

const SUFFIX: Record<StateKind, string> = { weights: '', exp_avg: '.exp_avg', exp_avg_sq: '.exp_avg_sq', ema: '.ema' };

/**
 * Training by plain inference graphs. Weights, gradients, moments and EMA are tensors that stay where they are: the training
 * graph adds to the gradients in place, the optimizer graph updates the rest in place.
 *
 * A weight is trained if the training graph has a gradient for it; the others are frozen, and have no gradient, no
 * moments and no EMA. There is an EMA if the optimizer graph keeps one.
 *
 * Methods have the names of ONNX Runtime's on-device training API (1.17 to 1.19) where it had them; docs/library.md
 * says where they differ.
 */
export class TrainingSession implements Disposable {
  readonly #training: TreeModel;
  readonly #eval: TreeModel;
  readonly #optimizer: Session;
  /** All of them; those of #state.weights are among them. */
  readonly #weights: Map<string, Value>;
  readonly #state: Record<StateKind, Map<string, Value>>;
  readonly #gradients = new Map<string, Value>();
  readonly #optimizerBinding: Binding;
  /** Of graphs with the input loss_scale: those of training in float16. */
  readonly #lossScaler: LossScaler | undefined;
  readonly #lossScale = Value.empty('float32', []);
  readonly #scalars = new Map<string, Value>();
  readonly #gradNorm = Value.empty('float32', []);
  readonly #emaDistance = Value.empty('float32', []);
  readonly #applied = Value.empty('bool', []);
  #settings = DEFAULT_OPTIMIZER_SETTINGS;
  #step = 0;
  #resetGradients = true;

  private constructor(
    training: TreeModel,
    evaluation: TreeModel,
    optimizer: Session,
    weights: ReadonlyMap<string, HostTensor>,
  ) {
    this.#training = training;
    this.#eval = evaluation;
    this.#optimizer = optimizer;
    const { device } = training.session;
    const copy = ({ shape, data }: HostTensor) => Value.from('float32', shape, data).movedTo(device);
    const zeros = ({ shape }: HostTensor) => Value.zeros(shape, device);
    const inputs = new Set(training.session.inputs.map(({ name }) => name));
    this.#lossScaler = inputs.has('loss_scale') ? new LossScaler() : undefined;
    const trained = <T>(all: ReadonlyMap<string, T>) => [...all].filter(([name]) => inputs.has(`${name}.grad`));
    const fresh = (make: (tensor: HostTensor) => Value) =>
      new Map(trained(weights).map(([name, tensor]) => [name, make(tensor)]));
    this.#weights = new Map([...weights].map(([name, tensor]) => [name, copy(tensor)]));
    const keepsEma = optimizer.outputs.some(({ name }) => name === 'ema_distance');
    // The EMA starts as the weights: phi = theta at the first batch.
    this.#state = {
      weights: new Map(trained(this.#weights)),
      exp_avg: fresh(zeros),
      exp_avg_sq: fresh(zeros),
      ema: keepsEma ? fresh(copy) : new Map(),
    };
    for (const [name, value] of fresh(zeros)) this.#gradients.set(`${name}.grad`, value);
    this.#optimizerBinding = this.#bindOptimizer();
  }

  /** @param weights every weight of the model by name, adapters included; copied */
  static async create(
    artifacts: TrainingArtifacts,
    weights: ReadonlyMap<string, HostTensor>,
    options: SessionOptions = {},
  ): Promise<TrainingSession> {
    const made: Disposable[] = [];
    const own = <T extends Disposable>(session: T): T => {
      made.push(session);
      return session;
    };
    try {
      const training = own(await TreeModel.create(artifacts.trainingModel, options));
      const evaluation = own(await TreeModel.create(artifacts.evalModel, options));
      const optimizer = own(await Session.create(artifacts.optimizerModel, options));
      return new TrainingSession(training, evaluation, optimizer, weights);
    } catch (error) {
      for (const session of made) session[Symbol.dispose]();
      throw error;
    }
  }

  /** Forward and backward: adds the batch's gradients to the buffers. A token may have one loss row at most. */
  async runTrainStep(batch: TreeBatch, clip?: ClipRange): Promise<TreeResult> {
    if (new Set(batch.loss_rows).size < batch.loss_rows.length) throw internal('a token with two loss rows');
    if (this.#resetGradients) for (const value of this.#gradients.values()) value.setToZeros();
    this.#resetGradients = false;
    const inputs = new Map([...this.#weights, ...this.#gradients]);
    if (this.#lossScaler !== undefined) {
      this.#lossScale.data[0] = this.#lossScaler.scale;
      inputs.set('loss_scale', this.#lossScale);
    }
    const inPlace = new Map([...this.#gradients].map(([name, value]) => [`${name}.out`, value]));
    return this.#training.run(batch, inputs, clip, inPlace);
  }

  /** Forward alone, under the policy's weights or their EMA (and what is frozen). */
  runEvalStep(batch: TreeBatch, weights: 'weights' | 'ema' = 'weights', clip?: ClipRange): Promise<TreeResult> {
    const trained = weights === 'ema' ? this.ema : this.#state.weights;
    return this.#eval.run(batch, new Map([...this.#weights, ...trained]), clip);
  }

  /**
   * Applies the gradients accumulated since lazyResetGrad.
   * @throws UserError when there are none
   * @param changed settings that differ from those of the step before; at first from DEFAULT_OPTIMIZER_SETTINGS
   */
  async runOptimizerStep(changed: Partial<OptimizerSettings> = {}): Promise<OptimizerResult> {
    if (this.#resetGradients)
      throw new UserError('runOptimizerStep: there are no gradients yet; call runTrainStep first');
    this.#settings = { ...this.#settings, ...changed };
    const settings = this.#settings;
    const t = this.#step + 1;
    const scalars: Record<string, number> = {
      learning_rate: settings.learningRate,
      beta1: settings.beta1,
      beta2: settings.beta2,
      epsilon: settings.epsilon,
      weight_decay: settings.weightDecay,
      max_grad_norm: settings.maxGradNorm,
      bias_correction1: 1 - settings.beta1 ** t,
      bias_correction2: 1 - settings.beta2 ** t,
      ema_decay: settings.emaDecay,
      loss_scale: this.lossScale,
    };
    for (const [name, value] of this.#scalars) {
      if (scalars[name] === undefined) throw internal(`the optimizer graph asks for ${name}`);
      value.data[0] = scalars[name];
    }
    await this.#optimizerBinding.run();
    const applied = this.#applied.data[0] === 1;
    if (applied) this.#step = t;
    const mended = this.#lossScaler?.update(applied) ?? false;
    // Gradients of another scale do not add to these.
    this.#resetGradients ||= this.#lossScaler !== undefined;
    const [gradNorm, emaDistance] = [this.#gradNorm, this.#emaDistance].map(({ data }) => Number(data[0]));
    const ofEma = this.#keepsEma && { emaDistance };
    return { gradNorm, ...ofEma, applied, overflow: !applied && mended };
  }

  /** The next runTrainStep starts from zero gradients. */
  lazyResetGrad(): void {
    this.#resetGradients = true;
  }

  /** Optimizer steps applied so far. */
  get step(): number {
    return this.#step;
  }

  /** Factor of the loss in the gradients being accumulated: 1, except in float16. */
  get lossScale(): number {
    return this.#lossScaler?.scale ?? 1;
  }
  /** Of the steps to come, to run one again. */
  set lossScale(scale: number) {
    if (scale === this.lossScale) return;
    if (this.#lossScaler === undefined)
      throw new UserError(`a loss scale of ${scale}: only training in float16 has one`);
    this.#lossScaler.state = { scale, goodSteps: 0 };
  }

  getLearningRate(): number {
    return this.#settings.learningRate;
  }

  /** Of the optimizer steps to come, unless they name another. */
  setLearningRate(learningRate: number): void {
    this.#settings = { ...this.#settings, learningRate };
  }

  /** What a batch puts into the training graph: its inputs but the weights and gradients, which the session owns. */
  get trainingInputNames(): readonly string[] {
    return this.#batchNames(this.#training.session.inputs);
  }
  get trainingOutputNames(): readonly string[] {
    return this.#batchNames(this.#training.session.outputs);
  }
  get evalInputNames(): readonly string[] {
    return this.#batchNames(this.#eval.session.inputs);
  }
  get evalOutputNames(): readonly string[] {
    return this.#batchNames(this.#eval.session.outputs);
  }
  #batchNames(signature: readonly TensorInfo[]): string[] {
    const owned = (name: string) =>
      this.#weights.has(name) || this.#gradients.has(name.replace(/\.out$/, '')) || name === 'loss_scale';
    return signature.map(({ name }) => name).filter((name) => !owned(name));
  }

  /** Number of parameters: of those that are trained, or of all. */
  getParametersSize(trainableOnly = true): number {
    return [...this.#parameters(trainableOnly).values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** A copy of the parameters one after the other, in the order of `weights`. */
  getContiguousParameters(trainableOnly = true): Float32Array {
    const buffer = new Float32Array(this.getParametersSize(trainableOnly));
    let offset = 0;
    for (const value of this.#parameters(trainableOnly).values()) {
      buffer.set(value.read() as Float32Array, offset);
      offset += value.size;
    }
    return buffer;
  }

  /**
   * Sets the parameters from what getContiguousParameters gave, as numbers or as their bytes. Moments and EMA stay.
   * @throws UserError when it is of another length
   */
  loadParametersBuffer(buffer: Float32Array | Uint8Array, trainableOnly = true): void {
    const size = this.getParametersSize(trainableOnly);
    if (buffer.byteLength !== 4 * size) {
      const which = trainableOnly ? 'those that are trained' : 'all of them';
      throw new UserError(
        `the buffer of parameters has ${buffer.byteLength} bytes, expected ${4 * size} for ${size} parameters (${which})`,
      );
    }
    // A copy of bytes: they may start where no float32 can.
    const values = buffer instanceof Float32Array ? buffer : new Float32Array(Uint8Array.from(buffer).buffer);
    let offset = 0;
    for (const value of this.#parameters(trainableOnly).values()) {
      value.write(values.subarray(offset, offset + value.size));
      offset += value.size;
    }
  }

  #parameters(trainableOnly: boolean): ReadonlyMap<string, Value> {
    return trainableOnly ? this.#state.weights : this.#weights;
  }

  /** The live weights, all of them: those that are trained change with every optimizer step. */
  get weights(): WeightValues {
    return this.#weights;
  }

  /** The live EMA of the weights that are trained. */
  get ema(): WeightValues {
    if (!this.#keepsEma) throw new UserError('there is no EMA: the optimizer graph was built to keep none');
    return this.#state.ema;
  }
  get #keepsEma(): boolean {
    return this.#state.ema.size > 0;
  }

  /** EMA <- weights, exactly. */
  resetEma(): void {
    for (const [name, value] of this.ema) {
      const weight = this.#state.weights.get(name);
      if (weight === undefined) throw internal(`no weight named ${name}`);
      value.copyFrom(weight);
    }
  }

  /** Accumulated gradient of a weight that is trained, a copy. */
  gradient(name: string): Float32Array {
    const value = this.#gradients.get(`${name}.grad`);
    if (value === undefined) throw internal(`no weight named ${name} is trained`);
    const scale = this.#lossScaler === undefined ? 1 : Number(this.#lossScale.data[0]); // at which they were computed
    return (value.read() as Float32Array).map((scaled) => scaled / scale);
  }

  /**
   * The state of what is trained, on the host: copied from a device, where there is one; otherwise a view, whose arrays change
   * with the next step, so write them out before it.
   */
  state(): TrainingState {
    const { weights, exp_avg, exp_avg_sq, ema } = this.#state;
    return {
      step: this.#step,
      ...(this.#lossScaler !== undefined && { lossScale: this.#lossScaler.state }),
      tensors: {
        weights: hostTensors(weights),
        exp_avg: hostTensors(exp_avg),
        exp_avg_sq: hostTensors(exp_avg_sq),
        ema: hostTensors(ema),
      },
    };
  }

  /**
   * Continues from a saved state, bit for bit. An EMA that was not kept starts as the weights; one that no more is kept is left.
   * @throws UserError when it belongs to another model; then nothing has changed
   */
  loadState({ step, lossScale, tensors: given }: TrainingState): void {
    const started = given.ema.size > 0 ? given.ema : given.weights;
    const tensors = { ...given, ema: this.#keepsEma ? started : new Map<string, HostTensor>() };
    for (const kind of STATE_KINDS) {
      const expected = new Map([...this.#state[kind]].map(([name, { dims }]) => [name, `[${dims.join(', ')}]`]));
      const found = new Map([...tensors[kind]].map(([name, { shape }]) => [name, `[${shape.join(', ')}]`]));
      for (const name of new Set([...expected.keys(), ...found.keys()])) {
        if (found.get(name) === expected.get(name)) continue;
        throw new UserError(
          `the training state does not fit the model: ${kind} of ${name} is ${found.get(name) ?? 'not there'}, ` +
            `expected ${expected.get(name) ?? 'no such weight'}; resume with the model the run was started with`,
        );
      }
    }
    for (const kind of STATE_KINDS) {
      for (const [name, value] of this.#state[kind]) {
        const tensor = tensors[kind].get(name);
        if (tensor !== undefined) value.write(tensor.data); // all are there: checked above
      }
    }
    this.#step = step;
    if (this.#lossScaler !== undefined && lossScale !== undefined) this.#lossScaler.state = lossScale;
    this.#resetGradients = true;
  }

  #bindOptimizer(): Binding {
    const binding = this.#optimizer.bind();
    const owned = new Map<string, Value>(this.#gradients);
    for (const kind of STATE_KINDS) {
      for (const [name, value] of this.#state[kind]) owned.set(`${name}${SUFFIX[kind]}`, value);
    }
    for (const { name } of this.#optimizer.inputs) {
      let value = owned.get(name);
      if (value === undefined) {
        value = Value.empty('float32', []);
        this.#scalars.set(name, value);
      }
      binding.input(name, value);
    }
    for (const { name } of this.#optimizer.outputs) {
      const value =
        name === 'grad_norm'
          ? this.#gradNorm
          : name === 'ema_distance'
            ? this.#emaDistance
            : name === 'applied'
              ? this.#applied
              : owned.get(name.replace(/\.out$/, ''));
      if (value === undefined) throw internal(`the optimizer graph has an output ${name} that belongs to no weight`);
      binding.output(name, value);
    }
    return binding;
  }

  /** Frees everything. ONNX Runtime's name for it. */
  release(): void {
    this.#optimizerBinding.dispose();
    for (const session of [this.#training, this.#eval, this.#optimizer]) session.dispose();
    const { exp_avg, exp_avg_sq, ema } = this.#state;
    const values = [this.#weights, exp_avg, exp_avg_sq, ema, this.#gradients].flatMap((map) => [...map.values()]);
    for (const value of [
      ...values,
      ...this.#scalars.values(),
      this.#gradNorm,
      this.#emaDistance,
      this.#applied,
      this.#lossScale,
    ])
      value.dispose();
  }
  [Symbol.dispose](): void {
    this.release();
  }
}
