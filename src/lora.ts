import { internal, UserError } from './errors.ts';
import { type ModelConfig, parameterShapes } from './model-config.ts';
import { type Seed, uniformStream } from './random.ts';

/**
 * Low-rank adapters: y = x W^T + (alpha / rank) (x A^T) B^T with W frozen, A [rank, in] and B [out, rank] trained.
 * Names, defaults and file layout are those of the PEFT library.
 * @see Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685
 */
export interface LoraConfig {
  rank: number;
  alpha: number;
  /** Modules by name, such as `q_proj` or `layers.0.mlp.up_proj`: the last parts of a module's path. */
  targetModules: readonly string[];
}

/** What a layer's modules are called. */
const LINEAR_LAYERS = ['q_proj', 'k_proj', 'v_proj', 'o_proj', 'gate_proj', 'up_proj', 'down_proj'];

/** PEFT's word for every linear layer but the head. */
export const ALL_LINEAR = 'all-linear';

/** A float32 tensor on the host, row-major. */
interface Tensor {
  shape: readonly number[];
  data: Float32Array;
}

/** The factor alpha / rank of B A. */
export const loraScale = ({ rank, alpha }: LoraConfig): number => alpha / rank;

const A_SUFFIX = '.lora_A.weight';

/** Names of the two adapter weights of a module. */
export const adapterNames = (module: string): { a: string; b: string } => ({
  a: `${module}${A_SUFFIX}`,
  b: `${module}.lora_B.weight`,
});

/** Whether a module has adapters; embedding and head never do. */
export const isLoraTarget = (module: string, { targetModules }: LoraConfig): boolean =>
  LINEAR_LAYERS.some((layer) => module.endsWith(`.${layer}`)) &&
  targetModules.some((target) => target === ALL_LINEAR || module === target || module.endsWith(`.${target}`));

/** Linear layers of the decoder with the shape of their weight, [out, in]. */
function linearModules(config: ModelConfig): [module: string, shape: readonly number[]][] {
  return [...parameterShapes(config)].flatMap(([name, shape]) =>
    LINEAR_LAYERS.some((layer) => name.endsWith(`.${layer}.weight`)) ? [[name.slice(0, -'.weight'.length), shape]] : [],
  );
}

/** Modules that have adapters, in the order of the forward pass. */
const loraModules = (config: ModelConfig, lora: LoraConfig): string[] =>
  linearModules(config).flatMap(([module]) => (isLoraTarget(module, lora) ? [module] : []));

/** @throws UserError when a target is the name of no linear layer */
export function checkLora(config: ModelConfig, lora: LoraConfig): void {
  for (const target of lora.targetModules) {
    if (loraModules(config, { ...lora, targetModules: [target] }).length > 0) continue;
    throw new UserError(
      `--lora-target-modules ${target}: the model has no linear layer of that name; ` +
        `it has ${LINEAR_LAYERS.join(', ')}; ${ALL_LINEAR} stands for all of them`,
    );
  }
}

/** The targets without PEFT's word for all of them. */
export const targetNames = ({ targetModules }: LoraConfig): string[] => [
  ...new Set(targetModules.flatMap((target) => (target === ALL_LINEAR ? LINEAR_LAYERS : [target]))),
];

/** For a person; the same for the same adapters. */
export const describeLora = (lora: LoraConfig): string =>
  `rank ${lora.rank}, alpha ${lora.alpha}, ${targetNames(lora).sort().join(' ')}`;

/** Every adapter weight by its name with its shape, in the order of the forward pass. */
export function adapterShapes(config: ModelConfig, lora: LoraConfig): Map<string, readonly number[]> {
  const shapes = new Map<string, readonly number[]>();
  for (const [module, [out, width]] of linearModules(config)) {
    if (!isLoraTarget(module, lora)) continue;
    const { a, b } = adapterNames(module);
    shapes.set(a, [lora.rank, width]);
    shapes.set(b, [out, lora.rank]);
  }
  return shapes;
}

/** Numbers in the weights that adapters are merged into. */
export const mergedCount = (config: ModelConfig, lora: LoraConfig): number =>
  linearModules(config).reduce(
    (sum, [module, [out, width]]) => sum + (isLoraTarget(module, lora) ? out * width : 0),
    0,
  );

/** What training changes: every weight, or with LoRA the adapters alone. */
export const trainableShapes = (config: ModelConfig, lora: LoraConfig | undefined): Map<string, readonly number[]> =>
  lora === undefined ? parameterShapes(config) : adapterShapes(config, lora);

/**
 * Adapters to start from, under which the model is what it was: B is zero and A uniform in [-1, 1] / sqrt(in), as PEFT has
 * it (torch.nn.init.kaiming_uniform_ with a = sqrt(5)).
 */
export function initialAdapters(config: ModelConfig, lora: LoraConfig, seed: Seed): Map<string, Tensor> {
  const tensors = new Map<string, Tensor>();
  for (const module of loraModules(config, lora)) {
    const { a, b } = adapterNames(module);
    const shapes = adapterShapes(config, { ...lora, targetModules: [module] });
    for (const name of [a, b]) {
      const shape = shapes.get(name) ?? [];
      const uniform = uniformStream(seed, 'lora', name);
      const bound = name === a ? 1 / Math.sqrt(shape[1]) : 0;
      const data = Float32Array.from({ length: shape[0] * shape[1] }, (_, i) => bound * (2 * uniform(i) - 1));
      tensors.set(name, { shape, data });
    }
  }
  return tensors;
}

/**
 * W + (alpha / rank) B A in place of W and its adapters, summed in float64 and rounded once; the other weights as they are.
 * @param weights those of the model and its adapters
 */
export function mergeAdapters(weights: ReadonlyMap<string, Tensor>, lora: LoraConfig): Map<string, Tensor> {
  const merged = new Map(weights);
  const take = (name: string): Tensor => {
    const tensor = weights.get(name);
    if (tensor === undefined) throw internal(`adapters without ${name}`);
    return tensor;
  };
  for (const name of weights.keys()) {
    if (!name.endsWith(A_SUFFIX)) continue;
    const module = name.slice(0, -A_SUFFIX.length);
    const { a, b } = adapterNames(module);
    const weight = take(`${module}.weight`);
    merged.set(`${module}.weight`, {
      shape: weight.shape,
      data: addProduct(weight, take(a), take(b), loraScale(lora)),
    });
    merged.delete(a);
    merged.delete(b);
  }
  return merged;
}

/** w + scale b a; w [out, in], a [rank, in], b [out, rank]. */
function addProduct(w: Tensor, a: Tensor, b: Tensor, scale: number): Float32Array {
  const [rank, width] = a.shape;
  const sum = new Float32Array(w.data.length);
  const row = new Float64Array(width);
  for (let o = 0; o < w.shape[0]; o++) {
    row.set(w.data.subarray(o * width, (o + 1) * width));
    for (let r = 0; r < rank; r++) {
      const factor = scale * b.data[o * rank + r];
      for (let i = 0; i < width; i++) row[i] += factor * a.data[r * width + i];
    }
    sum.set(row, o * width);
  }
  return sum;
}
