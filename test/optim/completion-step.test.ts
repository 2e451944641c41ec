import { describe, expect, test } from 'vitest';
import { rlpDocument, type ScoredThought, type TrainingSession } from '../../src/optim/index.ts';
import { groupAdvantages } from '../../src/reward/index.ts';
import { buildTreeBatch, type LossRow, type TreeDocument } from '../../src/tree-batch.ts';
import { relativeDistance, tinySession } from '../fixtures/training.ts';

const PROMPT = [10, 11, 12, 13];
const OPEN = [5, 6];
const CLOSE = [7, 8];

type Completion = ScoredThought & { answer: NonNullable<ScoredThought['answer']> };
const logProbs = (count: number) => Array.from({ length: count }, (_, i) => -3 - (i % 3) / 2);
const completion = (tokens: number[], forced: number[], answer: number[], advantage: number): Completion => ({
  ...{ position: PROMPT.length, tokens, logProbs: logProbs(tokens.length), advantage },
  answer: { forced, tokens: answer, logProbs: logProbs(answer.length) },
});
const COMPLETIONS = [
  completion([20, 7, 8], [], [30, 31], 0.5),
  completion([20, 21, 22, 23], CLOSE, [30], -1.5), // closed by force
  completion([20, 3], [], [], 1), // the thought ended the text
];

/** Every completion as a text of its own: prompt, delimiters, thought and answer one after the other. */
function flat({ tokens, logProbs: ofThought, answer, advantage }: Completion, begin: readonly number[]): TreeDocument {
  const trunk = [...begin, ...tokens, ...answer.forced, ...answer.tokens];
  const policyWeight = 1 / ((tokens.length + answer.tokens.length) * COMPLETIONS.length);
  const rows = (start: number, targets: readonly number[], old: readonly number[]) =>
    targets.map(
      (target, i): LossRow => ({
        ...{ token: start + i - 1, target, oldLogProb: old[i], advantage, policyWeight },
      }),
    );
  const thoughtRows = rows(begin.length, tokens, ofThought);
  const answerRows = rows(begin.length + tokens.length + answer.forced.length, answer.tokens, answer.logProbs);
  return { trunk, losses: [...thoughtRows, ...answerRows], branches: [] };
}

async function gradientOf(session: TrainingSession, documents: readonly TreeDocument[]) {
  session.lazyResetGrad();
  const { loss } = await session.runTrainStep(buildTreeBatch(documents), { low: 0.2, high: 0.2 });
  return { loss, gradient: [...session.weights.keys()].flatMap((name) => [...session.gradient(name)]) };
}

describe('the loss of completions', () => {
  test('has the gradient of the same sequences one by one', async () => {
    using session = await tinySession();
    const tree = await gradientOf(session, [rlpDocument(PROMPT, COMPLETIONS, OPEN, COMPLETIONS.length)]);
    const one = await gradientOf(
      session,
      COMPLETIONS.map((each) => flat(each, [...PROMPT, ...OPEN])),
    );
    expect(tree.loss).toBeCloseTo(one.loss, 5);
    expect(Math.hypot(...one.gradient)).toBeGreaterThan(0.01);
    expect(relativeDistance(tree.gradient, one.gradient)).toBeLessThan(1e-5);
  });

  test('without a thought begins behind the prompt', async () => {
    using session = await tinySession();
    const answers = COMPLETIONS.slice(0, 2).map((each) => ({ ...each, tokens: [], logProbs: [] }));
    const [first] = rlpDocument(PROMPT, answers, [], COMPLETIONS.length).branches;
    expect(first).toMatchObject({ trunkLength: 3, tokens: [13, 30] });
    const bare = answers.map((each) => ({ ...each, answer: { ...each.answer, forced: [] } }));
    const tree = await gradientOf(session, [rlpDocument(PROMPT, bare, [], COMPLETIONS.length)]);
    const one = await gradientOf(
      session,
      bare.map((each) => flat(each, PROMPT)),
    );
    expect(relativeDistance(tree.gradient, one.gradient)).toBeLessThan(1e-5);
  });

  test('is the loss of RLP where thought and answer are one', () => {
    const { answer, ...thought } = COMPLETIONS[0];
    const whole = {
      ...thought,
      tokens: [...thought.tokens, ...answer.tokens],
      logProbs: [...thought.logProbs, ...answer.logProbs],
    };
    expect(rlpDocument(PROMPT, [COMPLETIONS[0]], OPEN, 3)).toEqual(rlpDocument(PROMPT, [whole], OPEN, 3));
  });
});

test('advantages of GRPO: (r - mean) / (std + 1e-4), by hand', () => {
  // Rewards 1, 0, 0, 0: mean 1/4, variance (9/16 + 3/16) / 3 = 1/4, std 1/2.
  const [advantages, none] = groupAdvantages(
    [
      { document: 0, rewards: [1, 0, 0, 0] },
      { document: 1, rewards: [1, 1, 1, 1] },
    ],
    {
      scale: 'group',
      leaveOneOut: false,
    },
  );
  const expected = [0.75, -0.25, -0.25, -0.25].map((difference) => difference / 0.5001);
  for (const [i, value] of expected.entries()) expect(advantages[i]).toBeCloseTo(value, 12);
  expect([...none]).toEqual([0, 0, 0, 0]);
});
