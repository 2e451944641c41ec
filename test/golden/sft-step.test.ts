import { expect, it } from 'vitest';
import { openModel } from '../../src/model-directory.ts';
import { sftDocuments, type TargetedSequence, TrainingSession } from '../../src/optim/index.ts';
import { buildTreeBatch, type TreeDocument } from '../../src/tree-batch.ts';
import { floats, goldenPath, readGolden, readGoldenJson } from './golden.ts';

const NAME = 'sft-step/tied-gqa';
// As in rlp-step.test.ts: twice what PyTorch's float32 differs from its float64.
const TOLERANCE = 1.5e-5;

const { checkpoint, sequences } = readGoldenJson<{ checkpoint: string; sequences: TargetedSequence[] }>(NAME);
const golden = readGolden(NAME);
const targets = sequences.reduce((sum, sequence) => sum + sequence.targets.length, 0);

function largestDifference(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  expect(actual.length).toBe(expected.length);
  return Array.from(actual, (value, i) => Math.abs(value - expected[i])).reduce((a, b) => (a >= b ? a : b));
}

/** Shared contexts, and each sequence by itself. */
const WAYS: [string, (weight: number) => TreeDocument[], number][] = [
  ['as trees', (weight) => sftDocuments(sequences, weight), 3],
  ['flat', (weight) => sequences.flatMap((sequence) => sftDocuments([sequence], weight)), 6],
];

it.each(WAYS)('loss and every gradient of an SFT step %s are those of PyTorch', async (_, documentsOf, count) => {
  const model = await openModel(goldenPath(checkpoint));
  const weights = await model.loadWeights();
  using session = await TrainingSession.create(model.trainingArtifacts, weights);
  const documents = documentsOf(1 / targets);
  expect(documents).toHaveLength(count);
  const { loss, logProbs } = await session.runTrainStep(buildTreeBatch(documents));
  expect(largestDifference([loss], floats(golden, 'loss'))).toBeLessThan(TOLERANCE);
  expect(largestDifference(logProbs.toSorted(), floats(golden, 'log_probs').toSorted())).toBeLessThan(TOLERANCE);
  for (const name of weights.keys()) {
    const difference = largestDifference(session.gradient(name), floats(golden, `${name}.grad`));
    expect(difference, name).toBeLessThan(TOLERANCE);
  }
});
