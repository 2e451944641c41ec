import type { GraphBuilder } from './builder.ts';
import type { Shape, Value } from './ir.ts';

/**
 * `optimizer_model.onnx`: one AdamW step (Loshchilov and Hutter, arXiv 1711.05101) with global-norm clipping, and the
 * exponential moving average of the weights after it.
 *
 * Inputs, float32: for every weight NAME, NAME.grad, NAME.exp_avg, NAME.exp_avg_sq, NAME.ema; scalars learning_rate, beta1,
 * beta2, epsilon, weight_decay, max_grad_norm (0: no clipping), bias_correction1 and 2 (1 - beta^t), ema_decay.
 * Outputs: NAME.out, NAME.exp_avg.out, NAME.exp_avg_sq.out, NAME.ema.out, to be bound onto the inputs; grad_norm float32 [],
 * the global L2 norm before clipping; ema_distance float32 [], the L2 norm of EMA - weights after the step; applied bool []:
 * false when the norm is not finite, and then every state output equals its input exactly (only the sign of a zero may
 * differ). epsilon must not be 0. Without `ema` there are none of NAME.ema, ema_decay and ema_distance.
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
  { scaledLoss = false, ema: keepsEma = true }: { scaledLoss?: boolean; ema?: boolean } = {},
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
  const parameters = [...shapes].map(([name, shape]) => {
    const input = (suffix: string) => b.input(`${name}${suffix}`, 'float32', shape);
    const state = { weight: input(''), grad: input('.grad'), m: input('.exp_avg'), v: input('.exp_avg_sq') };
    return { name, shape, ...state, ema: keepsEma ? input('.ema') : undefined };
  });

  const lossScale = scaledLoss ? scalar('loss_scale') : undefined;
  const unscaled = (value: Value) => (lossScale === undefined ? value : b.div(value, lossScale));
  const norm = unscaled(globalNorm(b, parameters));
  const applied = b.not(b.or(b.isNaN(norm), b.isInf(norm)));
  const clip = b.min(b.div(maxNorm, b.add(norm, 1e-6)), 1);
  const scale = unscaled(b.where(b.greater(maxNorm, 0), clip, 1));
  // What a step that is not applied does is decided on scalars: multiply the old by 1, add 0.
  const gate = (value: Value, otherwise: number) => b.where(applied, value, otherwise);
  const keepM = gate(beta1, 1);
  const addM = gate(b.mul(b.sub(1, beta1), scale), 0);
  const keepV = gate(beta2, 1);
  const addV = gate(b.mul(b.sub(1, beta2), b.mul(scale, scale)), 0);
  // m' / bc1 / (sqrt(v' / bc2) + epsilon) = sqrt(bc2) / bc1 * m' / (sqrt(v') + sqrt(bc2) epsilon)
  const rootCorrection2 = b.sqrt(correction2);
  const stepSize = gate(b.div(b.mul(learningRate, rootCorrection2), correction1), 0);
  const smallest = b.mul(rootCorrection2, epsilon);
  const decayed = gate(b.sub(1, b.mul(learningRate, weightDecay)), 1);
  const addEma = tau && gate(b.sub(1, tau), 0);

  const lags: Value[] = [];
  for (const { name, shape, weight, grad, m, v, ema } of parameters) {
    const safe = b.where(applied, grad, 0); // 0 * NaN is NaN
    const m1 = b.add(b.mul(m, keepM), b.mul(safe, addM));
    const v1 = b.add(b.mul(v, keepV), b.mul(b.mul(safe, safe), addV));
    const update = b.div(m1, b.add(b.sqrt(v1), smallest));
    const kept = decays(name, shape) ? b.mul(weight, decayed) : weight;
    const w1 = b.sub(kept, b.mul(update, stepSize));
    b.output(`${name}.out`, w1);
    b.output(`${name}.exp_avg.out`, m1);
    b.output(`${name}.exp_avg_sq.out`, v1);
    if (ema === undefined || addEma === undefined) continue;
    const lag = b.sub(w1, ema);
    b.output(`${name}.ema.out`, b.add(ema, b.mul(lag, addEma)));
    lags.push(b.reduceSumSquare(lag, [...shape.keys()], false));
  }
  if (addEma !== undefined) {
    const before = b.sqrt(lags.reduce((sum, square) => b.add(sum, square)));
    b.output('ema_distance', b.mul(before, b.sub(1, addEma))); // w' - ema' = tau (w' - ema)
  }
  b.output('grad_norm', norm);
  b.output('applied', applied);
}

/** Norms, biases and the embedding are not decayed. */
const decays = (name: string, shape: Shape): boolean => shape.length > 1 && !name.includes('embed_tokens');

function globalNorm(b: GraphBuilder, parameters: readonly { grad: Value; shape: Shape }[]): Value {
  const squares = parameters.map(({ grad, shape }) => b.reduceSumSquare(grad, [...shape.keys()], false));
  return b.sqrt(squares.reduce((sum, square) => b.add(sum, square)));
}
