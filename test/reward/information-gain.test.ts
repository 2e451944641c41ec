import { describe, expect, test } from 'vitest';
import { Random } from '../../src/random.ts';
import { informationGain, score } from '../../src/reward/information-gain.ts';

/** A random distribution over n outcomes. */
function distribution(random: Random, n: number): number[] {
  const weights = Array.from({ length: n }, () => Math.exp(2 * random.normal()));
  const total = weights.reduce((a, b) => a + b, 0);
  return weights.map((weight) => weight / total);
}
const expectation = (p: readonly number[], value: (i: number) => number) =>
  p.reduce((sum, probability, i) => sum + probability * value(i), 0);
const crossEntropy = (p: readonly number[], q: readonly number[]) => -expectation(p, (i) => Math.log(q[i]));

test('sums or averages the horizon', () => {
  expect(informationGain([-1, -2], [-1.5, -4])).toBe(2.5);
  expect(informationGain([-1, -2], [-1.5, -4], 'mean')).toBe(1.25);
  expect(informationGain([-1], [-1.5])).toBe(informationGain([-1], [-1.5], 'mean'));
  expect(score(Float32Array.of(-0.5, -0.25))).toBe(-0.75);
  expect(() => informationGain([-1], [-1, -2])).toThrow('internal: 1 reasoned log-probs against 2');
  expect(() => score([])).toThrow('internal:');
});

describe('identities, by enumeration', () => {
  const random = new Random(4, 'identities');
  const tokens = 7;
  const thoughts = 5;
  const truth = distribution(random, tokens);
  const baseline = distribution(random, tokens);
  /** p_theta(. | x, c) for each thought c, and the policy's pi(c). */
  const reasoned = Array.from({ length: thoughts }, () => distribution(random, tokens));
  const policy = distribution(random, thoughts);
  const gain = (p: readonly number[], token: number) =>
    informationGain([Math.log(p[token])], [Math.log(baseline[token])]);

  test('the mean over tokens is the drop in cross-entropy', () => {
    for (const p of reasoned) {
      const mean = expectation(truth, (token) => gain(p, token));
      expect(mean).toBeCloseTo(crossEntropy(truth, baseline) - crossEntropy(truth, p), 12);
    }
  });

  test('the mean over thoughts is below the gain of the mixture (Jensen)', () => {
    for (let token = 0; token < tokens; token++) {
      const mean = expectation(policy, (c) => score([Math.log(reasoned[c][token])]));
      const mixture = Math.log(expectation(policy, (c) => reasoned[c][token]));
      expect(mean).toBeLessThan(mixture);
    }
  });

  test('and equals it when the predictor ignores the thought', () => {
    for (let token = 0; token < tokens; token++) {
      const mean = expectation(policy, () => score([Math.log(reasoned[0][token])]));
      const mixture = Math.log(expectation(policy, () => reasoned[0][token]));
      expect(mean).toBeCloseTo(mixture, 12);
    }
  });

  test('over a horizon, the sum telescopes to the gain of the joint probability', () => {
    const p = [0.5, 0.25, 0.9];
    const q = [0.1, 0.3, 0.8];
    const joint = (values: readonly number[]) => Math.log(values.reduce((a, b) => a * b, 1));
    expect(informationGain(p.map(Math.log), q.map(Math.log))).toBeCloseTo(joint(p) - joint(q), 12);
  });
});
