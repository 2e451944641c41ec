import { expect, it } from 'vitest';
import { TrainingSession } from '../../src/optim/index.ts';
import { positionScores } from '../../src/reward/index.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { tinySession, trainingArtifacts } from '../fixtures/training.ts';
import { Reference } from '../rollout/reference.ts';

const DOCUMENTS = [
  [3, 14, 15, 9, 26, 5, 35, 8],
  [27, 18],
  [2, 7, 1, 8, 2, 8],
];

it.each(['entropy', 'surprise'] as const)('%s is that of the whole table of next tokens', async (kind) => {
  using session = await tinySession();
  using reference = await Reference.create(TINY_MODEL, randomWeights(TINY_MODEL));
  const scores = await positionScores((batch) => session.runEvalStep(batch), DOCUMENTS, kind, 16);
  expect(scores.map(({ length }) => length)).toEqual([8, 2, 6]);
  for (const [d, tokens] of DOCUMENTS.entries()) {
    const table = await reference.logProbs(tokens);
    expect(scores[d][0]).toBe(0);
    for (let t = 1; t < tokens.length; t++) {
      const before = table[t - 1];
      const entropy = -before.reduce((sum, logProb) => sum + Math.exp(logProb) * logProb, 0);
      expect(scores[d][t]).toBeCloseTo(kind === 'entropy' ? entropy : -before[tokens[t]], 4);
    }
  }
});

// 48 tokens: 100 are all of them.
it.each([2, 16, 100])(
  'entropy of the %i likeliest tokens is that of their probabilities, made to sum to 1',
  async (k) => {
    const artifacts = trainingArtifacts(TINY_MODEL, { entropyTopK: k });
    using session = await TrainingSession.create(artifacts, randomWeights(TINY_MODEL, 1));
    using reference = await Reference.create(TINY_MODEL, randomWeights(TINY_MODEL));
    const measured: number[] = [];
    const scores = await positionScores(
      async (batch) => {
        const result = await session.runEvalStep(batch);
        measured.push(...result.logProbs);
        return result;
      },
      DOCUMENTS,
      'entropy',
      16,
    );
    const logProbs: number[] = [];
    for (const [d, tokens] of DOCUMENTS.entries()) {
      const table = await reference.logProbs(tokens);
      for (let t = 1; t < tokens.length; t++) {
        const likeliest = [...table[t - 1]]
          .sort((a, b) => b - a)
          .slice(0, k)
          .map(Math.exp);
        const sum = likeliest.reduce((a, b) => a + b);
        const entropy = -likeliest.reduce((total, p) => total + (p / sum) * Math.log(p / sum), 0);
        expect(scores[d][t]).toBeCloseTo(entropy, 5);
        expect(scores[d][t]).toBeLessThanOrEqual(Math.log(Math.min(k, TINY_MODEL.vocabSize)) + 1e-6);
        logProbs.push(table[t - 1][tokens[t]]);
      }
    }
    // Of the documents in the order in which they went through: nothing else has changed.
    expect(measured.map((value) => value.toFixed(4)).sort()).toEqual(logProbs.map((value) => value.toFixed(4)).sort());
  },
);

it('the training graph has the entropy of all tokens whatever the evaluation graph has', () => {
  const plain = trainingArtifacts(TINY_MODEL);
  const filtering = trainingArtifacts(TINY_MODEL, { entropyTopK: 16 });
  expect(filtering.trainingModel).toEqual(plain.trainingModel);
  expect(filtering.evalModel).not.toEqual(plain.evalModel);
});
