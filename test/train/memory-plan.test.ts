import { expect, it } from 'vitest';
import { trainSchema } from '../../src/config.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { checkMemory, describeNeeds, describePlan, planMemory } from '../../src/train/memory-plan.ts';

/** Qwen3-0.6B. */
const QWEN: ModelConfig = {
  modelType: 'qwen3',
  vocabSize: 151_936,
  hiddenSize: 1024,
  intermediateSize: 3072,
  numLayers: 28,
  numHeads: 16,
  numKvHeads: 8,
  headDim: 128,
  rmsNormEps: 1e-6,
  ropeTheta: 1_000_000,
  maxPositions: 40_960,
  tieWordEmbeddings: true,
  attentionBias: false,
};
const settings = (options: object) =>
  trainSchema.parse({ model: 'm', data: ['d'], run: 'r', objective: 'cpt', ...options });
const GB = 1e9;

it('counts weights, optimizer and the chunk of logits by their shapes', () => {
  const plan = planMemory(QWEN, settings({ blockLength: 2048, microBatchTokens: 2048 }));
  const count = 596_049_920; // parameters of Qwen3-0.6B
  expect(plan.weights).toBe(2 * 4 * count);
  expect(plan.optimizer).toBe(4 * 3 * count); // gradients and moments
  expect(plan.rollouts).toBe(0);
  // 2^28 bytes of logits are 441 rows; their softmax as much; three copies of the table's gradient.
  expect(plan.head).toBe(4 * 151_936 * (2 * 441 + 3 * 1024));
  const { total: _total, ...parts } = plan;
  expect(plan.total).toBeGreaterThan(Object.values(parts).reduce((a, b) => a + b));
});

it('grows with the micro-batch, and less where layers are computed again', () => {
  const activations = (options: object) => planMemory(QWEN, settings({ blockLength: 1024, ...options })).activations;
  const at2048 = activations({ microBatchTokens: 2048 });
  expect(activations({ microBatchTokens: 4096 })).toBe(2 * at2048);
  expect(activations({ microBatchTokens: 2048, recompute: true })).toBeLessThan(at2048 / 8);
});

it('counts an EMA where one is kept', () => {
  const copies = (options: object) => planMemory(QWEN, settings(options)).optimizer / 4 / 596_049_920;
  expect(copies({ objective: 'cpt' })).toBe(3);
  expect(copies({ objective: 'cpt', emaDecay: 0.99 })).toBe(4);
  expect(copies({ objective: 'rlp' })).toBe(4);
  expect(copies({ objective: 'rlp', baseline: 'none' })).toBe(3);
  expect(copies({ objective: 'rlp', baseline: 'none', klCoefficient: 0.1 })).toBe(4);
  expect(copies({ objective: 'rpt' })).toBe(4); // the proxy: the weights of the start
  expect(copies({ objective: 'rpt', proxyModel: 'p' })).toBe(3);
  expect(copies({ objective: 'grpo' })).toBe(3);
  expect(copies({ objective: 'grpo', klCoefficient: 0.1 })).toBe(4);
});

it('counts rollouts for RLP, and only adapters in the optimizer with LoRA', () => {
  const rlp = planMemory(QWEN, settings({ objective: 'rlp', maxThoughtTokens: 64 }));
  expect(rlp.rollouts).toBeGreaterThan(2 * 4 * 596_049_920);
  expect(rlp.optimizer).toBe(4 * 4 * 596_049_920); // and the EMA
  expect(planMemory(QWEN, settings({ loraRank: 8 })).optimizer).toBeLessThan(0.1 * GB);
});

it('plans SFT like text: no rollouts, attention over a block at most, an example as long as a block whatever the budget', () => {
  const sft = (options: object) => planMemory(QWEN, settings({ objective: 'sft', ...options }));
  const cpt = (options: object) => planMemory(QWEN, settings(options));
  expect(sft({ blockLength: 2048 })).toEqual(cpt({ blockLength: 2048 }));
  expect(sft({}).rollouts).toBe(0);
  expect(sft({ blockLength: 4096 }).activations).toBeGreaterThan(sft({ blockLength: 1024 }).activations);
  const long = { blockLength: 4096 };
  expect(sft({ ...long, microBatchTokens: 512 })).toEqual(sft({ ...long, microBatchTokens: 4096 }));
  // An example cannot be longer than what the model has positions for.
  const short = { ...QWEN, maxPositions: 1024 };
  expect(planMemory(short, settings({ objective: 'sft', microBatchTokens: 1024 })).activations).toBe(
    planMemory(short, settings({ objective: 'sft', microBatchTokens: 1024, blockLength: 1024 })).activations,
  );
});

it('takes a thought with its prefix for the least that goes through the graph', () => {
  const rlp = (options: object) => planMemory(QWEN, settings({ objective: 'rlp', maxThoughtTokens: 2048, ...options }));
  expect(rlp({ microBatchTokens: 256 }).activations).toBe(rlp({ microBatchTokens: 1024 + 2048 }).activations);
});

it('counts 16-bit copies of the weights, of training and of rollouts, and caches in that type', () => {
  const of = (dtype: string, options: object = {}) => planMemory(QWEN, settings({ dtype, ...options }));
  const count = 596_049_920;
  expect(of('float16').weights - of('float32').weights).toBe(2 * count);
  const rlp = { objective: 'rlp', maxThoughtTokens: 64 };
  // Of keys and values 2 bytes less: 28 layers, 8 heads of 128; 4 documents of 1,024 tokens and 16 thoughts of 64.
  const caches = 28 * 2 * 8 * 128 * 4 * (1024 + 16 * 64);
  expect(of('float16', rlp).rollouts - of('float32', rlp).rollouts).toBe(2 * count - 2 * caches);
});

it('counts passes without gradients where there are some, as large as a micro-batch at most', () => {
  const scoring = (options: object) => planMemory(QWEN, settings(options)).scoring;
  expect(scoring({})).toBe(0);
  expect(scoring({ objective: 'grpo' })).toBe(0);
  const evaluation = { evalData: ['e'], blockLength: 512, microBatchTokens: 8192 };
  expect(scoring(evaluation)).toBeGreaterThan(0);
  expect(scoring({ ...evaluation, microBatchTokens: 1024 })).toBeLessThan(scoring(evaluation) / 2);
  expect(scoring({ ...evaluation, microBatchTokens: 65_536 })).toBe(scoring(evaluation));
  expect(scoring({ objective: 'rlp', maxThoughtTokens: 64 })).toBeGreaterThan(0);
  const grpo = { objective: 'grpo', maxThoughtTokens: 64 };
  expect(scoring({ ...grpo, klCoefficient: 0.1 })).toBeGreaterThan(0);
  expect(scoring({ ...grpo, importanceSampling: 'mismatch' })).toBeGreaterThan(0);
});

it('counts a proxy: its weights in use and as they were read, and its passes', () => {
  const rpt = settings({ objective: 'rpt', maxThoughtTokens: 64, proxyModel: 'p' });
  const proxy = { ...QWEN, numLayers: 1 };
  const count = 171_314_432; // 151,936 x 1,024, one layer and the last norm
  const own = planMemory(QWEN, rpt).scoring;
  expect(planMemory(QWEN, rpt, [proxy]).scoring).toBe(2 * own + 2 * 4 * count);
});

it('counts for LoRA what is trained, and a copy of the weights that adapters are merged into', () => {
  const lora = planMemory(QWEN, settings({ loraRank: 8, loraTargetModules: ['q_proj,v_proj'], objective: 'rlp' }));
  // A and B of both in every layer: (8 x 1,024 + 2,048 x 8) and (8 x 1,024 + 1,024 x 8).
  const adapters = 28 * (8 * (1024 + 2048) + 8 * (1024 + 1024));
  expect(lora.optimizer).toBe(4 * 4 * adapters);
  expect(lora.checkpoint).toBe(4 * 28 * (2048 * 1024 + 1024 * 1024));
  expect(planMemory(QWEN, settings({})).checkpoint).toBe(0);
});

it('plans for a device what lies there, and for the host what is read and saved, and refuses neither', () => {
  const options = settings({ objective: 'rlp', maxThoughtTokens: 64, device: 'cuda:1' });
  const plan = planMemory(QWEN, options);
  const count = 596_049_920;
  expect(plan.weights).toBe(4 * count);
  expect(plan.rollouts).toBeLessThan(4 * count); // caches: the weights are read where they are
  expect(describeNeeds(QWEN, options)).toMatch(
    /^planned memory of cuda:1: [\d.]+ GB \(weights 2\.38 GB, .*\); planned memory of the host: [\d.]+ GB \(weights 2\.38 GB, checkpoint 11\.9 GB\)$/,
  );
  expect(checkMemory(QWEN, options, 1)).toEqual(plan);
});

it('refuses with what would fit', () => {
  const refused = (available: number, options: object) => {
    try {
      checkMemory(QWEN, settings(options), available);
    } catch (thrown) {
      return String(thrown);
    }
    return 'fits';
  };
  const cpt = { blockLength: 1024, microBatchTokens: 8192 };
  expect(refused(200 * GB, cpt)).toBe('fits');
  expect(refused(40 * GB, cpt)).toMatch(
    /planned memory: [\d.]+ GB \(weights 4.77 GB, optimizer 7.15 GB, activations [\d.]+ GB, head 2.40 GB\), but 40.0 GB are free; it fits with --micro-batch-tokens 4096$/,
  );
  expect(refused(16 * GB, { ...cpt, microBatchTokens: 1024 })).toMatch(/it fits with --recompute$/);
  expect(refused(16 * GB, cpt)).toMatch(/it fits with --recompute --micro-batch-tokens \d+$/);
  expect(refused(10 * GB, cpt)).toMatch(
    /adapters instead of the weights: --lora-rank 8 --recompute --micro-batch-tokens 1024$/,
  );
  expect(refused(3 * GB, cpt)).toMatch(/no setting makes it fit: use a smaller model/);
  // The default block of CPT is as long as the paper's.
  expect(refused(40 * GB, {})).toMatch(/it fits with --recompute$/);
  expect(refused(15.5 * GB, {})).toMatch(/it fits with --recompute --block-length 1024 --micro-batch-tokens 1024$/);
  const rlp = { objective: 'rlp', maxThoughtTokens: 1024, microBatchTokens: 2048 };
  expect(refused(50 * GB, rlp)).toMatch(/it fits with --documents-per-batch 2$/);
  expect(refused(35 * GB, rlp)).toMatch(/it fits with --recompute --documents-per-batch 2$/);
  expect(refused(26 * GB, rlp)).toMatch(/it fits with --recompute --documents-per-batch 1 --slots \d$/);
});

it('says in a line what the memory is for', () => {
  const nothing = { rollouts: 0, scoring: 0, checkpoint: 0 };
  const plan = { weights: 2e9, optimizer: 4e9, ...nothing, activations: 1.5e9, head: 0.25e9, total: 8e9 };
  expect(describePlan(plan)).toBe(
    'planned memory: 8.00 GB (weights 2.00 GB, optimizer 4.00 GB, activations 1.50 GB, head 0.25 GB)',
  );
});
