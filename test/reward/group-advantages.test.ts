import { describe, expect, it } from 'vitest';
import { type AdvantageOptions, groupAdvantages, type RewardedGroup } from '../../src/reward/group-advantages.ts';
import { reward } from '../../src/reward/index.ts';

const close = (actual: readonly Float64Array[], expected: readonly (readonly number[])[]) => {
  expect(actual.map((group) => group.length)).toEqual(expected.map((group) => group.length));
  for (const [b, group] of expected.entries()) {
    for (const [g, value] of group.entries()) expect(actual[b][g], `thought ${g} of group ${b}`).toBeCloseTo(value, 12);
  }
};
const plain = (...rewards: number[]): RewardedGroup => ({ document: 'a', rewards });

describe('groups across positions', () => {
  // Two positions of document a, one of b.
  const groups: RewardedGroup[] = [
    { document: 'a', rewards: [1, 3] },
    { document: 'a', rewards: [0, 0] },
    { document: 'b', rewards: [2, 6] },
  ];

  it('by position, document and step', () => {
    close(groupAdvantages(groups), [
      [-2, 2],
      [0, 0],
      [-4, 4],
    ]);
    // a: mean 1 of four, 4/3 (r - 1).
    close(groupAdvantages(groups, { group: 'document' }), [
      [0, 8 / 3],
      [-4 / 3, -4 / 3],
      [-4, 4],
    ]);
    // All six: mean 2, 6/5 (r - 2).
    close(groupAdvantages(groups, { group: 'step' }), [
      [-1.2, 1.2],
      [-2.4, -2.4],
      [0, 4.8],
    ]);
  });
});

describe('what the baseline changes', () => {
  const thoughts = [
    [-1, -2],
    [-3, -3.5],
  ].map((group) => group.map((logProb) => ({ reasonedLogProbs: [logProb] })));
  const advantagesOf = (advantage: AdvantageOptions, baseline: number[][] | null) =>
    reward(thoughts, baseline, { advantage }).advantage;
  const low = [[-4], [-4]];
  const other = [[-1.5], [-0.5]];

  it.each([{}, { scale: 'group' }, { scale: 'step' }, { leaveOneOut: false }] as AdvantageOptions[])(
    'nothing within groups at one position: %j',
    (advantage) => {
      expect(advantagesOf(advantage, low)).toEqual(advantagesOf(advantage, null));
      expect(advantagesOf(advantage, other)).toEqual(advantagesOf(advantage, null));
    },
  );

  it.each([
    { group: 'document' },
    { group: 'step' },
    { sign: 'positive' },
    { sign: 'agree' },
    { sign: 'clip' },
  ] as AdvantageOptions[])('the gradient, under %j', (advantage) => {
    expect(advantagesOf(advantage, low)).not.toEqual(advantagesOf(advantage, other));
  });
});

describe('scale', () => {
  // Standard deviations sqrt(2) and 0; advantages -2, 2 and 0, 0.
  const groups = [plain(1, 3), plain(5, 5)];

  it('by the standard deviation of the group, by the root mean square of the step', () => {
    const byGroup = 2 / (Math.SQRT2 + 1e-4);
    close(groupAdvantages(groups, { scale: 'group' }), [
      [-byGroup, byGroup],
      [0, 0],
    ]);
    const byStep = 2 / (Math.SQRT2 + 1e-4); // sqrt((4 + 4 + 0 + 0) / 4)
    close(groupAdvantages(groups, { scale: 'step' }), [
      [-byStep, byStep],
      [0, 0],
    ]);
    close(groupAdvantages([plain(0, 4), plain(1, 1)], { scale: 'step' }), [
      [-4 / (Math.sqrt(8) + 1e-4), 4 / (Math.sqrt(8) + 1e-4)],
      [0, 0],
    ]);
  });

  it('GRPO: the inclusive mean, by the standard deviation', () => {
    const [group] = groupAdvantages([plain(0, 1, 1, 0)], { scale: 'group', leaveOneOut: false });
    const value = 0.5 / (Math.sqrt(1 / 3) + 1e-4);
    close([group], [[-value, value, value, -value]]);
  });
});

describe('sign of the reward', () => {
  // Each against the mean of the others: 1 - (-2), -2 - (-0.5) twice; and -1 - (-3).
  const mixed = plain(1, -2, -2);
  const harmful = plain(-1, -3);

  it('hand-computed', () => {
    close(groupAdvantages([mixed, harmful]), [
      [3, -1.5, -1.5],
      [2, -2],
    ]);
    close(groupAdvantages([mixed, harmful], { sign: 'positive' }), [
      [3, 0, 0],
      [0, 0],
    ]);
    close(groupAdvantages([mixed, harmful], { sign: 'agree' }), [
      [3, -1.5, -1.5],
      [0, -2],
    ]);
    close(groupAdvantages([mixed, harmful], { sign: 'clip' }), [
      [1, -0.5, -0.5],
      [0, 0],
    ]);
  });
});

describe('thoughts that take no part', () => {
  it('have advantage 0, and the others are compared among themselves', () => {
    const excluded = [false, true, false];
    close(groupAdvantages([{ ...plain(1, 100, 3), excluded }]), [[-2, 0, 2]]);
  });

  it('one that is left alone has advantage 0', () => {
    close(groupAdvantages([{ ...plain(1, 100), excluded: [false, true] }]), [[0, 0]]);
    close(groupAdvantages([{ ...plain(1, 100), excluded: [true, true] }]), [[0, 0]]);
  });
});

it('penalties lower the reward within the comparison', () => {
  const thoughts = [[{ reasonedLogProbs: [-1], penalty: 2 }, { reasonedLogProbs: [-1] }]];
  const paid = reward(thoughts, [[-1.5]]);
  close(paid.reward, [[-1.5, 0.5]]);
  close(paid.advantage, [[-2, 2]]);
});
