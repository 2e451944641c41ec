import { expect, it, onTestFinished } from 'vitest';
import { openModel } from '../../src/model-directory.ts';
import { rlpDocument, rowLogProbs, TrainingSession, withKl } from '../../src/optim/index.ts';
import { groupAdvantages } from '../../src/reward/index.ts';
import { Value } from '../../src/runtime/index.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { TreeModel } from '../../src/tree-model.ts';
import { floats, goldenPath, readGolden, readGoldenJson } from './golden.ts';

interface GoldenGrpoStep {
  checkpoint: string;
  think: number;
  settings: { clip_low: number; clip_high: number; kl_coefficient: number };
  prompts: {
    tokens: number[];
    completions: { thought: number[]; forced: number[]; answer: number[]; reward: number; old_log_probs: number[] }[];
  }[];
}

const NAME = 'grpo-step/tied-gqa';
const BUDGET = 1024;
// As in rlp-step.test.ts: twice what PyTorch's float32 differs from its float64.
const TOLERANCE = 1.5e-5;

function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  return Array.from(actual, (value, i) => Math.abs(value - expected[i])).reduce((a, b) => (a >= b ? a : b));
}

it('advantages, loss and every gradient of a GRPO step with KL are those of PyTorch', async () => {
  const { checkpoint, think, settings, prompts } = readGoldenJson<GoldenGrpoStep>(NAME);
  const golden = readGolden(NAME);
  const model = await openModel(goldenPath(checkpoint));
  const weights = await model.loadWeights();
  using session = await TrainingSession.create(model.trainingArtifacts, weights);

  const groups = prompts.map(({ completions }, document) => ({ document, rewards: completions.map((c) => c.reward) }));
  const advantages = groupAdvantages(groups, { scale: 'group', leaveOneOut: false });
  expect(
    largestDifference(
      advantages.flatMap((group) => [...group]),
      floats(golden, 'advantages'),
    ),
  ).toBeLessThan(1e-6);

  const count = prompts.reduce((sum, { completions }) => sum + completions.length, 0);
  const documents = prompts.map(({ tokens, completions }, p) => {
    const scored = completions.map(({ thought, forced, answer, old_log_probs: old }, i) => ({
      ...{ position: tokens.length, tokens: thought, logProbs: old.slice(0, thought.length) },
      answer: { forced, tokens: answer, logProbs: old.slice(thought.length) },
      advantage: advantages[p][i],
    }));
    return rlpDocument(tokens, scored, think, count);
  });
  const phi = readGolden('rlp-step/tied-gqa.baseline');
  const reference = new Map(
    [...weights].map(([name, { shape }]) => {
      const value = Value.from('float32', shape, floats(phi, name) as Float32Array);
      onTestFinished(() => value.dispose());
      return [name, value];
    }),
  );
  using forward = await TreeModel.create(model.trainingArtifacts.evalModel);
  const ofReference = await rowLogProbs(documents, (batch) => forward.run(batch, reference), BUDGET);
  const batch = buildTreeBatch(withKl(documents, ofReference, settings.kl_coefficient));
  const { loss, logProbs } = await session.runTrainStep(batch, { low: settings.clip_low, high: settings.clip_high });

  expect(largestDifference(logProbs, floats(golden, 'log_probs'))).toBeLessThan(TOLERANCE);
  expect(largestDifference([loss], floats(golden, 'loss'))).toBeLessThan(TOLERANCE);
  for (const name of weights.keys()) {
    const difference = largestDifference(session.gradient(name), floats(golden, `${name}.grad`));
    expect(difference, name).toBeLessThan(TOLERANCE);
  }
});
