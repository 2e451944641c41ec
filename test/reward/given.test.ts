import { describe, expect, test } from 'vitest';
import { askReward, type RewardInput, reward, type ScoredThought } from '../../src/reward/index.ts';

const thought = (logProb: number, more: Partial<ScoredThought> = {}): ScoredThought => ({
  reasonedLogProbs: [logProb],
  ...more,
});

describe('given rewards', () => {
  test('hand-computed: they take the place of the gain, which is still measured', () => {
    const groups = [
      [thought(-1), thought(-2)],
      [thought(-3), thought(-4)],
    ];
    const given = { name: 'mine', rewards: [[1, 2], Float32Array.of(3, 6)] };
    const { reward: rewards, advantage, metrics } = reward(groups, [[-1], [-3]], { given });
    expect(rewards.map((group) => [...group])).toEqual([
      [1, 2],
      [3, 6],
    ]);
    expect(advantage.map((group) => [...group])).toEqual([
      [-1, 1],
      [-3, 3],
    ]);
    // Within groups: sqrt(1/2) and sqrt(9/2). Over all: mean 3, squares 4 + 1 + 0 + 9, divided by 3.
    expect(metrics).toEqual({
      reward: 3,
      reward_std: expect.closeTo((Math.SQRT1_2 + 3 * Math.SQRT1_2) / 2, 12),
      frac_reward_zero_std: 0,
      information_gain: -0.5,
      information_gain_positive: 0,
      'rewards/mine/mean': 3,
      'rewards/mine/std': expect.closeTo(Math.sqrt(14 / 3), 12),
    });
  });

  test('penalties and exclusion act on them, too; the metrics of the function are those before', () => {
    const group = [thought(-1), thought(-1, { penalty: 2 }), thought(-1, { excluded: true })];
    const {
      reward: rewards,
      advantage,
      metrics,
    } = reward([group], null, {
      given: { name: 'mine', rewards: [[1, 4, 7]] },
    });
    expect([...rewards[0]]).toEqual([1, 2, 7]);
    expect([...advantage[0]]).toEqual([-1, 1, 0]);
    expect(metrics['rewards/mine/mean']).toBe(4);
    expect(metrics.reward).toBeCloseTo(10 / 3, 12);
  });

  test('need no scores of targets: a completion has none', () => {
    const completion: ScoredThought = { reasonedLogProbs: [] };
    const given = { name: 'exact', rewards: [[1, 0, 0]] };
    const { reward: rewards, advantage, metrics } = reward([[completion, completion, completion]], null, { given });
    expect([...rewards[0]]).toEqual([1, 0, 0]);
    expect([...advantage[0]]).toEqual([1, -0.5, -0.5]);
    expect(metrics).not.toHaveProperty('information_gain');
  });

  test('with an information gain of one group in common, advantages are those of the gain', () => {
    const group = [thought(-1), thought(-2.5), thought(-0.25)];
    const gains = group.map(({ reasonedLogProbs }) => Number(reasonedLogProbs[0]) + 0.5);
    const own = reward([group], [[-0.5]]);
    const same = reward([group], [[-0.5]], { given: { name: 'gain', rewards: [gains] } });
    for (const [g, value] of own.advantage[0].entries()) expect(same.advantage[0][g]).toBeCloseTo(value, 12);
  });

  test.each([
    [[1, Number.NaN], 'reward mine: document d0, rollout 1: it is NaN, expected a finite number'],
    [[1, '2'], 'reward mine: document d0, rollout 1: it is "2", expected a finite number'],
    [[undefined, 1], 'reward mine: document d0, rollout 0: it is undefined, expected a finite number'],
    [[1], 'reward mine: group 0 has 2 thoughts and 1 rewards'],
  ])('%j are refused by name', (values, message) => {
    const given = { name: 'mine', rewards: [values as number[]] };
    const nameRow = (group: number, rollout: number) => `document d${group}, rollout ${rollout}`;
    expect(() => reward([[thought(-1), thought(-1)]], null, { given, nameRow })).toThrow(message);
  });
});

describe('askReward', () => {
  const input = (documentId: string, rollout: number): RewardInput => ({
    ...{ step: 1, documentId, position: 4, rollout, context: '', thought: 'a', target: 'b', document: '', prefix: '' },
    ...{ thoughtTokens: new Int32Array(1), thoughtLogProbs: new Float32Array(1), targetTokens: new Int32Array(1) },
    ...{ samplingLogProbs: new Float32Array(1), reasonedLogProbs: new Float32Array(1) },
    ...{ baselineLogProbs: new Float32Array(0), finishReason: 'closed', policyVersion: 0, baselineVersion: 0 },
    builtInReward: rollout / 2,
  });
  const groups = [
    [input('x', 0), input('x', 1)],
    [input('y', 0), input('y', 1), input('y', 2)],
  ];

  test('asks once about all thoughts, waits, and gives the values back by group', async () => {
    let calls = 0;
    const given = await askReward(
      {
        name: 'half',
        reward: async (thoughts) => {
          calls++;
          return Float64Array.from(thoughts, ({ builtInReward }) => builtInReward);
        },
      },
      groups,
    );
    expect(given).toMatchObject({
      name: 'half',
      rewards: [
        [0, 0.5],
        [0, 0.5, 1],
      ],
    });
    expect(calls).toBe(1);
  });

  const about =
    'asked about 5 thoughts, from document x, position 4, rollout 0 to document y, position 4, rollout 2, it';
  test.each<[string, () => unknown, string]>([
    ['throws', () => JSON.parse('{'), `${about} threw SyntaxError: `],
    ['rejects', () => Promise.reject(new Error('no such judge')), `${about} threw Error: no such judge`],
    ['returns nothing', () => undefined, `${about} returned undefined; expected an array of 5 numbers, one a thought`],
    ['returns too few', () => [1, 2], `${about} returned 2 values; expected an array of 5 numbers, one a thought`],
    ['returns an object', () => ({ length: 5 }), `${about} returned an object; expected`],
  ])('a function that %s', async (_, call, message) => {
    const asked = askReward({ name: 'bad', module: 'rewards/bad.mjs', reward: call as () => number[] }, groups);
    await expect(asked).rejects.toThrow(`reward module rewards/bad.mjs: ${message}`);
  });
});
