import { expect, it } from 'vitest';
import { positionScores } from '../../src/reward/index.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { tinySession } from '../fixtures/training.ts';
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
