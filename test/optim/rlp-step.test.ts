import { expect, test } from 'vitest';
import { type ArtifactName, buildArtifact, locateIn } from '../../src/export/artifacts.ts';
import { loadWeights, openCheckpoint } from '../../src/export/checkpoint.ts';
import { rlpDocument, TrainingSession } from '../../src/optim/index.ts';
import { Baseline, noThinkLogProbs, reward } from '../../src/reward/index.ts';
import { buildTreeBatch, type TreeDocument } from '../../src/tree-batch.ts';
import type { TreeResult } from '../../src/tree-model.ts';
import { relativeDistance } from '../fixtures/training.ts';
import {
  floats,
  type GoldenArray,
  type GoldenRlpStep,
  type GoldenThought,
  goldenPath,
  readGolden,
  readGoldenJson,
} from '../golden/golden.ts';

/** PyTorch's own float32 differs from float64 by up to 7e-6 in log-probs (golden README). */
const LOG_PROB_TOLERANCE = 2e-5;
const GRADIENT_TOLERANCE = 1e-5;

function largestDifference(actual: Iterable<number>, expected: GoldenArray): number {
  const values = [...actual];
  expect(values).toHaveLength(expected.length);
  return values.reduce((most, value, i) => Math.max(most, Math.abs(value - Number(expected[i]))), 0);
}

/** Float32 or float64 numbers as the float32 tensors that a session takes. */
const hostTensors = (golden: ReturnType<typeof readGolden>) =>
  new Map([...golden].map(([name, { shape }]) => [name, { shape, data: Float32Array.from(floats(golden, name)) }]));

test.each(['tied-gqa', 'untied-mha'])('%s: a whole RLP step is what PyTorch computes', async (name) => {
  const step = readGoldenJson<GoldenRlpStep>(`rlp-step/${name}`);
  const golden = readGolden(`rlp-step/${name}.float64`);
  const expected = (tensor: string) => floats(golden, tensor);
  const { settings } = step;
  const checkpoint = await openCheckpoint(goldenPath(step.checkpoint));
  const build = (artifact: ArtifactName) => buildArtifact(artifact, checkpoint.config, locateIn(checkpoint.tensors));
  using session = await TrainingSession.create(
    { trainingModel: build('trainingModel'), evalModel: build('evalModel'), optimizerModel: build('optimizerModel') },
    await loadWeights(checkpoint),
  );
  // The golden baseline is not the policy: put its weights where the EMA is kept.
  const phi = hostTensors(readGolden(`rlp-step/${name}.baseline`));
  const fresh = session.state();
  session.loadState({ ...fresh, tensors: { ...fresh.tensors, ema: phi } });

  // Reasoned log-probs: thought and target behind their prefix, the closing delimiter forced where it was not sampled.
  const groups = step.documents.flatMap(({ tokens, positions }) =>
    positions.map(({ position, thoughts }) => ({ tokens, position, thoughts })),
  );
  const closed = ({ tokens, finish_reason }: GoldenThought) =>
    finish_reason === 'closed' ? tokens : [...tokens, step.end_think];
  const scored = await session.runEvalStep(
    buildTreeBatch(
      groups.map(({ tokens, position, thoughts }) => ({
        trunk: tokens.slice(0, position),
        losses: [],
        branches: thoughts.map((thought) => ({
          trunkLength: position,
          tokens: [step.think, ...closed(thought)],
          losses: [{ token: closed(thought).length, target: tokens[position] }],
        })),
      })),
    ),
  );
  expect(largestDifference(scored.logProbs, expected('reasoned_log_probs'))).toBeLessThan(LOG_PROB_TOLERANCE);

  // Baseline, rewards, advantages.
  const baseline = new Baseline(
    { kind: 'ema', tau: settings.ema_decay },
    {
      copyFromPolicy: () => Promise.reject(new Error('phi is given')),
      score: (requests, horizon) =>
        noThinkLogProbs((batch) => session.runEvalStep(batch, 'ema'), requests, horizon, 64),
    },
    { started: true, version: 0 },
  );
  const requests = step.documents.map(({ tokens, positions }, i) => ({
    document: String(i),
    tokens,
    positions: positions.map(({ position }) => position),
  }));
  const noThink = (await baseline.score(requests, 1))?.flat() ?? [];
  expect(
    largestDifference(
      noThink.flatMap((values) => [...values]),
      expected('baseline_log_probs'),
    ),
  ).toBeLessThan(LOG_PROB_TOLERANCE);
  let row = 0;
  const thoughts = groups.map((group) =>
    group.thoughts.map(() => ({ reasonedLogProbs: scored.logProbs.subarray(row, ++row) })),
  );
  const paid = reward(thoughts, noThink);
  const flat = (values: Float64Array[]) => values.flatMap((group) => [...group]);
  expect(largestDifference(flat(paid.reward), expected('rewards'))).toBeLessThan(2 * LOG_PROB_TOLERANCE);
  expect(largestDifference(flat(paid.advantage), expected('advantages'))).toBeLessThan(2 * LOG_PROB_TOLERANCE);

  // Loss and gradients, with a micro-batch a document.
  const advantages = flat(paid.advantage);
  let n = 0;
  const documents = step.documents.map(({ tokens, positions }): TreeDocument => {
    const ofDocument = positions.flatMap((group) =>
      group.thoughts.map(({ tokens, old_log_probs }) => ({
        position: group.position,
        tokens,
        logProbs: old_log_probs,
        advantage: advantages[n++],
      })),
    );
    return rlpDocument(tokens, ofDocument, step.think, advantages.length);
  });
  const clip = { low: settings.clip_low, high: settings.clip_high };
  const results: TreeResult[] = [];
  for (const document of documents) results.push(await session.runTrainStep(buildTreeBatch([document]), clip));
  const joined = (kind: 'logProbs' | 'ratio') => results.flatMap((result) => [...result[kind]]);
  expect(largestDifference(joined('logProbs'), expected('token_log_probs'))).toBeLessThan(LOG_PROB_TOLERANCE);
  expect(largestDifference(joined('ratio'), expected('ratios'))).toBeLessThan(2 * LOG_PROB_TOLERANCE);
  const loss = results.reduce((sum, result) => sum + result.loss, 0);
  expect(Math.abs(loss - expected('loss')[0])).toBeLessThan(LOG_PROB_TOLERANCE);
  for (const weight of session.weights.keys()) {
    const distance = relativeDistance(session.gradient(weight), expected(`${weight}.grad`));
    expect(distance, `${weight}.grad`).toBeLessThan(GRADIENT_TOLERANCE);
  }

  // The optimizer's step, and the EMA behind it.
  const { gradNorm, applied } = await session.runOptimizerStep({
    learningRate: settings.learning_rate,
    beta1: settings.beta1,
    beta2: settings.beta2,
    epsilon: settings.epsilon,
    weightDecay: settings.weight_decay,
    maxGradNorm: settings.max_grad_norm,
    emaDecay: baseline.emaDecay,
  });
  baseline.afterUpdate(applied);
  expect(applied).toBe(true);
  expect(Math.abs(gradNorm / expected('grad_norm')[0] - 1)).toBeLessThan(1e-5);
  for (const [kind, suffix] of [
    ['weights', 'after'],
    ['ema', 'ema_after'],
  ] as const) {
    for (const [weight, { data }] of session.state().tensors[kind]) {
      // The first step is lr times nearly the sign of the gradient: a gradient near 0 decides with its last digits.
      const difference = largestDifference(data, expected(`${weight}.${suffix}`));
      expect(difference, `${weight}.${suffix}`).toBeLessThan(0.03 * settings.learning_rate);
    }
  }
  expect(baseline.version).toBe(1);
});
