import type { GraphBuilder } from './builder.ts';
import type { Shape, Value } from './ir.ts';

/**
 * Weights that are decayed: matrices alone, embeddings with them (as transformers' Trainer has it), or all, norms and biases
 * too (as torch.optim.AdamW has it by default). An untied LM head is a matrix; a tied one is the embedding.
 */
export type WeightDecayOn = 'matrices' | 'matrices-and-embeddings' | 'all';

/**
 * `optimizer_model.onnx`: one AdamW step (Loshchilov and Hutter, arXiv 1711.05101) with global-norm clipping, and the
 * exponential moving average of the weights after it.
 *
 * Inputs, float32: for every weight NAME, NAME.grad, NAME.exp_avg, NAME.exp_avg_sq, NAME.ema; scalars learning_rate, beta1,
 * beta2, epsilon, weight_decay, max_grad_norm (0: no clipping), bias_correction1 and 2 (1 - beta^t), ema_decay.
 * Outputs: NAME.out, NAME.exp_avg.out, NAME.exp_avg_sq.out, NAME.ema.out, to be bound onto the inputs; grad_norm float32 [],
 * the global L2 norm before clipping; ema_distance float32 [], the L2 norm of EMA - weights after the step; applied bool []:
 * false when the norm is not finite, and then every state output is its input, bit for bit. epsilon must not be 0. Without `ema` there are none of NAME.ema, ema_decay and ema_distance.
 *
 * With s = min(1, max_grad_norm / (norm + 1e-6)), as torch.nn.utils.clip_grad_norm_ has it:
 *   m' = beta1 m + (1 - beta1) s g          v' = beta2 v + (1 - beta2) (s g)^2
 *   w' = w (1 - lr wd) - lr / bc1 * m' / (sqrt(v' / bc2) + epsilon)
 *   ema' = tau ema + (1 - tau) w', as ema + (1 - tau) (w' - ema)
 *
 * With `scaledLoss` there is the input loss_scale float32 [], and the gradients are those of loss_scale times the loss: they are
 * divided by it before anything else.
 *
 * A node is a pass over memory, so there are as few as the formulas allow. In place is safe: whatever reads an old value feeds
 * the write of that value, and the EMA reads the new weight.
 */
export function buildOptimizer(
  b: GraphBuilder,
  shapes: ReadonlyMap<string, readonly number[]>,
  {
    scaledLoss = false,
    ema: keepsEma = true,
    weightDecayOn = 'matrices',
  }: { scaledLoss?: boolean; ema?: boolean; weightDecayOn?: WeightDecayOn } = {},
): void {
  const scalar = (name: string) => b.input(name, 'float32', []);
  const learningRate = scalar('learning_rate');
  const beta1 = scalar('beta1');
  const beta2 = scalar('beta2');
  const epsilon = scalar('epsilon');
  const weightDecay = scalar('weight_decay');
  const maxNorm = scalar('max_grad_norm');
  const correction1 = scalar('bias_correction1');
  const correction2 = scalar('bias_correction2');
  const tau = keepsEma ? scalar('ema_decay') : undefined;
  const parameters = [...shapes].map(([name, shape]): Parameter => {
    const input = (suffix: string) => b.input(`${name}${suffix}`, 'float32', shape);
    const state = { weight: input(''), grad: input('.grad'), m: input('.exp_avg'), v: input('.exp_avg_sq') };
    return { name, shape, ...state, ema: keepsEma ? input('.ema') : undefined };
  });

  const lossScale = scaledLoss ? scalar('loss_scale') : undefined;
  const unscaled = (value: Value) => (lossScale === undefined ? value : b.div(value, lossScale));
  const norm = unscaled(
    globalNorm(
      b,
      parameters.map(({ grad }) => grad),
    ),
  );
  const applied = b.not(b.or(b.isNaN(norm), b.isInf(norm)));
  const clip = b.min(b.div(maxNorm, b.add(norm, 1e-6)), 1);
  const scale = unscaled(b.where(b.greater(maxNorm, 0), clip, 1));
  const addM = b.mul(b.sub(1, beta1), scale);
  const addV = b.mul(b.sub(1, beta2), b.mul(scale, scale));
  // m' / bc1 / (sqrt(v' / bc2) + epsilon) = sqrt(bc2) / bc1 * m' / (sqrt(v') + sqrt(bc2) epsilon)
  const rootCorrection2 = b.sqrt(correction2);
  const stepSize = b.div(b.mul(learningRate, rootCorrection2), correction1);
  const smallest = b.mul(rootCorrection2, epsilon);
  const decayed = b.sub(1, b.mul(learningRate, weightDecay));
  const addEma = tau && b.sub(1, tau);

  const step = ({ name, shape, weight, grad, m, v, ema }: Parameter): State => {
    const m1 = b.add(b.mul(m, beta1), b.mul(grad, addM));
    const v1 = b.add(b.mul(v, beta2), b.mul(b.mul(grad, grad), addV));
    const update = b.div(m1, b.add(b.sqrt(v1), smallest));
    const kept = decays(name, shape, weightDecayOn) ? b.mul(weight, decayed) : weight;
    const state = { weight: b.sub(kept, b.mul(update, stepSize)), m: m1, v: v1 };
    if (ema === undefined || addEma === undefined) return state;
    return { ...state, ema: b.add(ema, b.mul(b.sub(state.weight, ema), addEma)) };
  };
  /** The state of all parameters, and the distance of the EMA where there is one. */
  const results = (states: readonly State[]): Value[] => [
    ...states.flatMap(({ weight, m, v, ema }) => [weight, m, v, ...(ema === undefined ? [] : [ema])]),
    ...(keepsEma ? [emaDistance(b, states)] : []),
  ];
  const made = b.either(
    applied,
    () => results(parameters.map(step)),
    () => results(parameters),
  );
  const suffixes = ['', '.exp_avg', '.exp_avg_sq', ...(keepsEma ? ['.ema'] : [])];
  const names = parameters.flatMap(({ name }) => suffixes.map((suffix) => `${name}${suffix}.out`));
  if (keepsEma) names.push('ema_distance');
  names.forEach((name, i) => {
    b.output(name, made[i]);
  });
  b.output('grad_norm', norm);
  b.output('applied', applied);
}

/** What an optimizer step changes of a weight. */
interface State {
  weight: Value;
  m: Value;
  v: Value;
  ema?: Value | undefined;
}

interface Parameter extends State {
  name: string;
  shape: readonly number[];
  grad: Value;
}

const decays = (name: string, shape: Shape, on: WeightDecayOn): boolean =>
  on === 'all' || (shape.length > 1 && (on === 'matrices-and-embeddings' || !name.includes('embed_tokens')));

const emaDistance = (b: GraphBuilder, states: readonly State[]): Value =>
  globalNorm(
    b,
    states.flatMap(({ weight, ema }) => (ema === undefined ? [] : [b.sub(ema, weight)])),
  );

/** The L2 norm of all of them together, []. */
function globalNorm(b: GraphBuilder, values: readonly Value[]): Value {
  const squares = values.map((value) => b.reduceSumSquare(value, [...value.shape.keys()], false));
  return b.sqrt(squares.reduce((sum, square) => b.add(sum, square)));
}
