import { expect, it } from 'vitest';
import type { FinishReason } from '../../src/records.ts';
import type { Thought } from '../../src/rollout/index.ts';
import type { PaidGroup } from '../../src/thinking.ts';
import { bestThoughtLoss } from '../../src/train/thought-documents.ts';

const OPEN = [90, 91];
const CLOSE = [92];

const thought = (tokens: number[], finishReason: FinishReason = 'closed'): Thought => ({
  ...{ document: 'a', position: 2, rollout: 0, tokens, finishReason, targets: [7, 8], reasonedLogProbs: [-1, -1] },
  ...{ logProbs: tokens.map(() => -1), samplingLogProbs: tokens.map(() => -1) },
});

const group = (thoughts: Thought[], rewards: number[], excluded = rewards.map(() => false)): PaidGroup => ({
  ...{ document: { id: 'a', tokens: [5, 6, 7, 8], positions: [2] }, position: 2, thoughts, excluded },
  ...{ rewards: Float64Array.from(rewards), advantages: new Float64Array(rewards.length), baselineLogProbs: undefined },
});

it('imitates the thought that was paid most, and the text after it', () => {
  const groups = [group([thought([1, 92]), thought([2, 3, 92]), thought([4, 92])], [0.1, 0.5, 0.5])];
  const { documents } = bestThoughtLoss(groups, { open: OPEN, close: CLOSE });
  expect(documents).toEqual([
    {
      trunk: [5, 6],
      losses: [],
      branches: [
        {
          trunkLength: 2,
          tokens: [90, 91, 2, 3, 92, 7],
          // The last opening token predicts the thought's first; 3 thought tokens and 2 targets share the loss.
          losses: [2, 3, 92, 7, 8].map((target, u) => ({ token: 1 + u, target, nllWeight: 1 / 5 })),
        },
      ],
    },
  ]);
});

it('closes a thought that did not close, and passes over excluded thoughts', () => {
  const groups = [group([thought([1, 1], 'length'), thought([2, 92])], [0.1, 0.9], [false, true])];
  const { documents } = bestThoughtLoss(groups, { open: OPEN, close: CLOSE });
  expect(documents[0].branches[0].losses.map(({ target }) => target)).toEqual([1, 1, 92, 7, 8]);
  expect(bestThoughtLoss([group([thought([1])], [1], [true])], { open: OPEN, close: CLOSE }).documents).toEqual([]);
});
