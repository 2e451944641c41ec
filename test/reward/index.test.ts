import { describe, expect, test } from 'vitest';
import { Random } from '../../src/random.ts';
import { reward, type ScoredThought } from '../../src/reward/index.ts';

const thought = (...logProbs: number[]): ScoredThought => ({ reasonedLogProbs: Float32Array.from(logProbs) });

describe('reward', () => {
  test('hand-computed: two groups of two', () => {
    const groups = [
      [thought(-1), thought(-2)],
      [thought(-0.5), thought(-0.5)],
    ];
    const result = reward(groups, [Float32Array.of(-1.5), Float32Array.of(-1)]);
    expect(result.reward.map((group) => [...group])).toEqual([
      [0.5, -0.5],
      [0.5, 0.5],
    ]);
    expect(result.advantage.map((group) => [...group])).toEqual([
      [1, -1],
      [0, 0],
    ]);
    // Deviations within groups: sqrt(0.5) and 0.
    expect(result.metrics.reward).toBe(0.25);
    expect(result.metrics.reward_std).toBeCloseTo(Math.SQRT1_2 / 2, 12);
    expect(result.metrics.frac_reward_zero_std).toBe(0.5);
    expect(result.metrics.information_gain).toBe(0.25);
    expect(result.metrics.information_gain_positive).toBe(0.75);
  });

  test('reward_std is the mean sample standard deviation of the rewards', () => {
    const scores = [-1, -2.5, -0.25, -4];
    const { metrics } = reward([scores.map((score) => thought(score))], [[-1]]);
    const mean = scores.reduce((a, b) => a + b, 0) / 4;
    const variance = scores.reduce((sum, score) => sum + (score - mean) ** 2, 0) / 3;
    expect(metrics.reward_std).toBeCloseTo(Math.sqrt(variance), 12);
  });

  test('the baseline cancels: the same advantages bit for bit under any', () => {
    const random = new Random(2, 'baseline');
    const horizon = 3;
    const logProbs = () => Float32Array.from({ length: horizon }, () => -Math.abs(5 * random.normal()));
    const groups = Array.from({ length: 10 }, () =>
      Array.from({ length: 4 }, () => ({ reasonedLogProbs: logProbs() })),
    );
    for (const reduction of ['sum', 'mean'] as const) {
      const none = reward(groups, null, { reduction });
      for (let time = 0; time < 5; time++) {
        const some = reward(groups, groups.map(logProbs), { reduction });
        expect(some.advantage).toEqual(none.advantage);
        expect(some.metrics.reward_std).toBe(none.metrics.reward_std);
        expect(some.reward).not.toEqual(none.reward);
      }
    }
  });

  test('without a baseline the reward is S_pred, and no gain is claimed', () => {
    const { reward: rewards, metrics } = reward([[thought(-1, -3), thought(-2, -2.5)]], null, { reduction: 'mean' });
    expect([...rewards[0]]).toEqual([-2, -2.25]);
    expect(metrics).not.toHaveProperty('information_gain');
  });

  test('names the row of a log-prob that is not finite', () => {
    const groups = [
      [thought(-1), thought(-1)],
      [thought(-1), thought(Number.NEGATIVE_INFINITY)],
    ];
    expect(() => reward(groups, null)).toThrow(
      'group 1, rollout 1: reasoned log-prob 0 is -Infinity, expected a finite number; the model has diverged',
    );
    const nameRow = (group: number) => `document d${group}`;
    expect(() => reward(groups, [[-1], [Number.NaN]], { nameRow })).toThrow('document d1: baseline log-prob 0 is NaN');
  });

  test('refuses groups of one and mismatched shapes', () => {
    expect(() => reward([[thought(-1)]], null)).toThrow('group of 1 thought: a group-relative advantage needs');
    expect(() => reward([[thought(-1), thought(-1)]], [])).toThrow('internal: 1 groups against 0 baselines');
    expect(() => reward([[thought(-1), thought(-1)]], [[-1, -2]])).toThrow('internal: 1 reasoned log-probs against 2');
    expect(() => reward([], null)).toThrow('internal: rewards of no groups');
  });
});
