import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { TrainingSession } from '../../src/optim/index.ts';
import { Random } from '../../src/random.ts';
import { groupRelativeAdvantages, informationGain, noThinkLogProbs } from '../../src/reward/index.ts';
import { buildTreeBatch, type TreeBranch } from '../../src/tree-batch.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { trainingArtifacts } from '../fixtures/training.ts';

/** The identities of docs/method.md on a model, over every next token and every thought of one token. */
const V = TINY_MODEL.vocabSize;
const [OPEN, CLOSE] = [1, 2];
const PREFIX = [3, 14, 15, 9, 26];
const TOKENS = Array.from({ length: V }, (_, token) => token);
/** Apart enough that thoughts matter. */
const GAIN = 3;

let model: TrainingSession;
/** The same without attention to other tokens: what stands behind a thought does not know it. */
let blind: TrainingSession;
beforeAll(async () => {
  const weights = randomWeights(TINY_MODEL, 1, GAIN);
  const attentionless = [...weights].map(
    ([name, { shape, data }]) =>
      [name, { shape, data: name.includes('o_proj') ? new Float32Array(data.length) : data }] as const,
  );
  model = await TrainingSession.create(trainingArtifacts(TINY_MODEL), weights);
  blind = await TrainingSession.create(trainingArtifacts(TINY_MODEL), new Map(attentionless));
});
afterAll(() => {
  model.release();
  blind.release();
});

/** log p of every token where a branch ends, [branches][V]. */
async function tables(session: TrainingSession, branches: readonly (readonly number[])[]): Promise<Float32Array[]> {
  const trees = branches.map(
    (tokens): TreeBranch => ({
      trunkLength: PREFIX.length,
      tokens,
      losses: TOKENS.map((target) => ({ token: tokens.length - 1, target })),
    }),
  );
  const { logProbs } = await session.runEvalStep(buildTreeBatch([{ trunk: PREFIX, losses: [], branches: trees }]));
  return branches.map((_, i) => logProbs.subarray(i * V, (i + 1) * V));
}

/** pi(c) of every thought of one token, and log p(x | prefix, open, c, close) of every next token: [c][x]. */
async function thoughtsOf(session: TrainingSession) {
  const [policy] = await tables(session, [[OPEN]]);
  const reasoned = await tables(
    session,
    TOKENS.map((c) => [OPEN, c, CLOSE]),
  );
  return { policy: Array.from(policy, Math.exp), reasoned };
}

/** log p(x | prefix) of every next token. */
async function noThink(session: TrainingSession): Promise<number[]> {
  const requests = TOKENS.map((x) => ({ document: String(x), tokens: [...PREFIX, x], positions: [PREFIX.length] }));
  const scores = await noThinkLogProbs((batch) => session.runEvalStep(batch), requests, 1, 1000);
  return scores.map(([[logProb]]) => logProb);
}

const expectation = (p: readonly number[], value: (i: number) => number) =>
  p.reduce((sum, x, i) => sum + x * value(i), 0);

describe('identities on the tiny model, by enumeration', () => {
  it('the mean reward over next tokens is the drop in cross-entropy', async () => {
    const { reasoned } = await thoughtsOf(model);
    const baseline = await noThink(model);
    const random = new Random(1, 'truth');
    const raw = TOKENS.map(() => Math.exp(2 * random.normal()));
    const truth = raw.map((x) => x / raw.reduce((a, b) => a + b, 0));
    for (const logProbs of reasoned) {
      const meanReward = expectation(truth, (x) => informationGain([logProbs[x]], [baseline[x]]));
      const withThought = -expectation(truth, (x) => logProbs[x]);
      const without = -expectation(truth, (x) => baseline[x]);
      expect(meanReward).toBeCloseTo(without - withThought, 10);
    }
    // What the model says are distributions, so that these are cross-entropies.
    for (const logProbs of [...reasoned, baseline]) {
      expect(Array.from(logProbs).reduce((sum, logProb) => sum + Math.exp(logProb), 0)).toBeCloseTo(1, 5);
    }
  });

  it('the mean score over thoughts is below that of the mixture (Jensen)', async () => {
    const { policy, reasoned } = await thoughtsOf(model);
    expect(policy.reduce((a, b) => a + b, 0)).toBeCloseTo(1, 5);
    for (const x of TOKENS) {
      const mean = expectation(policy, (c) => reasoned[c][x]);
      const mixture = Math.log(expectation(policy, (c) => Math.exp(reasoned[c][x])));
      expect(mixture - mean, `token ${x}`).toBeGreaterThan(1e-3);
    }
  });

  it('and equals it where the predictor ignores the thought', async () => {
    const { policy, reasoned } = await thoughtsOf(blind);
    for (const x of TOKENS) {
      const mean = expectation(policy, (c) => reasoned[c][x]);
      const mixture = Math.log(expectation(policy, (c) => Math.exp(reasoned[c][x])));
      expect(Math.abs(mixture - mean), `token ${x}`).toBeLessThan(1e-5);
    }
  });

  it('the corrected inclusive mean is the mean of the others, for the scores of all thoughts', async () => {
    const { reasoned } = await thoughtsOf(model);
    const scores = reasoned.map((logProbs) => logProbs[7]);
    const total = scores.reduce((a, b) => a + b, 0);
    const advantages = groupRelativeAdvantages(scores);
    for (const [c, score] of scores.entries()) {
      expect(advantages[c]).toBeCloseTo(score - (total - score) / (V - 1), 10);
    }
  });

  it('with it the gradient of groups is unbiased: over all pairs it is that of the expected score', async () => {
    const { policy, reasoned } = await thoughtsOf(model);
    const scores = reasoned.map((logProbs) => logProbs[7]);
    // d/d logit_v of E_c[S]: sum_c pi(c) S(c) (1[c = v] - pi(v)) = pi(v) (S(v) - E[S]).
    const mean = expectation(policy, (c) => scores[c]);
    const exact = TOKENS.map((v) => policy[v] * (scores[v] - mean));
    const estimate = TOKENS.map(() => 0);
    for (const i of TOKENS) {
      for (const j of TOKENS) {
        const chance = policy[i] * policy[j];
        for (const [c, advantage] of [...groupRelativeAdvantages([scores[i], scores[j]])].entries()) {
          const thought = c === 0 ? i : j;
          for (const v of TOKENS) estimate[v] += (chance / 2) * advantage * (Number(thought === v) - policy[v]);
        }
      }
    }
    for (const v of TOKENS) expect(Math.abs(estimate[v] - exact[v])).toBeLessThan(1e-6);
    expect(Math.max(...exact.map(Math.abs))).toBeGreaterThan(1e-2);
  });
});
