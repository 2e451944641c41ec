import { describe, expect, it } from 'vitest';
import {
  adapterShapes,
  checkLora,
  initialAdapters,
  isLoraTarget,
  type LoraConfig,
  mergeAdapters,
} from '../src/lora.ts';
import { TINY_MODEL } from './fixtures/tiny-model.ts';

const LORA: LoraConfig = { rank: 3, alpha: 6, targetModules: ['q_proj', 'v_proj'] };

describe('the targets of LoRA', () => {
  it.each([
    [['q_proj'], 'model.layers.0.self_attn.q_proj', true],
    [['q_proj'], 'model.layers.0.self_attn.k_proj', false],
    [['proj'], 'model.layers.0.self_attn.q_proj', false], // a part of the path, not of a name
    [['layers.1.mlp.up_proj'], 'model.layers.1.mlp.up_proj', true],
    [['layers.1.mlp.up_proj'], 'model.layers.11.mlp.up_proj', false],
    [['all-linear'], 'model.layers.1.mlp.down_proj', true],
    [['all-linear'], 'lm_head', false],
    [['all-linear'], 'model.layers.1.self_attn.q_norm', false],
  ])('%s and %s: %s', (targetModules, module, expected) => {
    expect(isLoraTarget(module, { ...LORA, targetModules })).toBe(expected);
  });

  it('are layers of the model', () => {
    checkLora(TINY_MODEL, LORA);
    for (const target of ['c_attn', 'lm_head', 'embed_tokens', 'layers.7.self_attn.q_proj']) {
      expect(() => checkLora(TINY_MODEL, { ...LORA, targetModules: ['q_proj', target] })).toThrow(
        `--lora-target-modules ${target}: the model has no linear layer of that name; it has q_proj, k_proj, v_proj, ` +
          'o_proj, gate_proj, up_proj, down_proj; all-linear stands for all of them',
      );
    }
  });
});

describe('adapters', () => {
  it('start with B = 0 and A uniform in [-1, 1] / sqrt(in), by seed and name alone', () => {
    const adapters = initialAdapters(TINY_MODEL, { ...LORA, rank: 64 }, 7);
    expect([...adapters.keys()]).toEqual([...adapterShapes(TINY_MODEL, LORA).keys()]);
    for (const [name, { shape, data }] of adapters) {
      if (name.endsWith('lora_B.weight')) {
        expect(data.every((value) => value === 0)).toBe(true);
        continue;
      }
      const bound = 1 / Math.sqrt(shape[1]);
      const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
      const square = data.reduce((sum, value) => sum + value * value, 0) / data.length;
      expect(Math.max(...data.map(Math.abs))).toBeLessThanOrEqual(bound);
      expect(Math.abs(mean)).toBeLessThan(5 * (bound / Math.sqrt(3 * data.length))); // 5 standard errors
      expect(square / (bound ** 2 / 3)).toBeCloseTo(1, 1);
    }
    const only = initialAdapters(TINY_MODEL, { ...LORA, rank: 64, targetModules: ['v_proj'] }, 7);
    for (const [name, adapter] of only) expect(adapter).toEqual(adapters.get(name));
    const other = initialAdapters(TINY_MODEL, { ...LORA, rank: 64 }, 8);
    const [first] = adapters.keys();
    expect(other.get(first)).not.toEqual(adapters.get(first));
  });

  it('merge as W + alpha / rank B A', () => {
    // W [2, 3], A [1, 3], B [2, 1], alpha 2: W + 2 [1, 10]^T [1, 2, 3]
    const weights = new Map([
      ['x.q_proj.weight', { shape: [2, 3], data: Float32Array.of(1, 1, 1, 0, 0, 0) }],
      ['x.norm.weight', { shape: [1], data: Float32Array.of(5) }],
      ['x.q_proj.lora_A.weight', { shape: [1, 3], data: Float32Array.of(1, 2, 3) }],
      ['x.q_proj.lora_B.weight', { shape: [2, 1], data: Float32Array.of(1, 10) }],
    ]);
    const merged = mergeAdapters(weights, { rank: 1, alpha: 2, targetModules: ['q_proj'] });
    expect([...merged.keys()]).toEqual(['x.q_proj.weight', 'x.norm.weight']);
    expect([...(merged.get('x.q_proj.weight')?.data ?? [])]).toEqual([3, 5, 7, 20, 40, 60]);
    expect([...(weights.get('x.q_proj.weight')?.data ?? [])]).toEqual([1, 1, 1, 0, 0, 0]);
    weights.delete('x.q_proj.lora_B.weight');
    expect(() => mergeAdapters(weights, LORA)).toThrow('adapters without x.q_proj.lora_B.weight');
  });
});
