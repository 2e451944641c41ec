import { expect, it } from 'vitest';
import { trainSchema } from '../../src/config.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { checkMemory, describePlan, planMemory } from '../../src/train/memory-plan.ts';

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

it('counts rollouts for RLP, and only adapters in the optimizer with LoRA', () => {
  const rlp = planMemory(QWEN, settings({ objective: 'rlp', maxThoughtTokens: 64 }));
  expect(rlp.rollouts).toBeGreaterThan(2 * 4 * 596_049_920);
  expect(rlp.optimizer).toBe(4 * 4 * 596_049_920); // and the EMA
  expect(planMemory(QWEN, settings({ loraRank: 8 })).optimizer).toBeLessThan(0.1 * GB);
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
});

it('says in a line what the memory is for', () => {
  const plan = { weights: 2e9, optimizer: 4e9, rollouts: 0, activations: 1.5e9, head: 0.25e9, total: 8e9 };
  expect(describePlan(plan)).toBe(
    'planned memory: 8.00 GB (weights 2.00 GB, optimizer 4.00 GB, activations 1.50 GB, head 0.25 GB)',
  );
});
