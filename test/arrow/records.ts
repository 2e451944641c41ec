import type { RolloutRecord } from '../../src/records.ts';

/** What test/arrow/rollouts.arrow holds; written by test/arrow/generate.ts, checked with pyarrow by test/arrow/check.py. */
export const goldenMetadata = {
  config: { seed: 7, rollout: { group_size: 2, temperature: 0.7 }, data: ['träin.jsonl'] },
  modelHash: 'sha256:5eed',
};

export function record(fields: Partial<RolloutRecord>): RolloutRecord {
  return {
    step: 3,
    documentId: 'doc-a',
    position: 17,
    rollout: 0,
    context: '2 + 2 = ',
    thought: '<think>four, naïvely 🤔',
    thoughtTokens: Int32Array.of(5, 151_642, 0),
    thoughtLogProbs: Float32Array.of(-0.1, -2.5, -0.75),
    samplingLogProbs: Float32Array.of(-0.05, -3.5, -0.5),
    target: '4.',
    targetTokens: Int32Array.of(19, 13),
    reasonedLogProbs: Float32Array.of(-0.25, -0.5),
    baselineLogProbs: Float32Array.of(-1, -0.5),
    reward: 0.75,
    advantage: 0.1,
    finishReason: 'closed',
    policyVersion: 2,
    baselineVersion: 2,
    ...fields,
  };
}

export const goldenBatches: RolloutRecord[][] = [
  [record({}), record({ rollout: 1, reward: 0.55, advantage: -0.1, finishReason: 'length' })],
  [
    record({ documentId: 'doc-b', position: 0, context: '', finishReason: 'eos' }),
    record({
      documentId: 'doc-b',
      rollout: 1,
      thought: '',
      thoughtTokens: new Int32Array(),
      thoughtLogProbs: new Float32Array(),
      samplingLogProbs: new Float32Array(),
    }),
    record({ documentId: 'тест', baselineLogProbs: new Float32Array(), baselineVersion: -1, reward: -0.75 }),
  ],
  [
    record({
      step: 4,
      targetTokens: Int32Array.of(1),
      reasonedLogProbs: Float32Array.of(-3e-8),
      baselineLogProbs: Float32Array.of(-88.5),
    }),
  ],
];
