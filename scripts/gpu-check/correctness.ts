import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { trainSchema } from '../../src/config.ts';
import { loadTokenizer } from '../../src/data/index.ts';
import type { ComputeDType } from '../../src/export/index.ts';
import { openModel } from '../../src/model-directory.ts';
import { TrainingSession } from '../../src/optim/index.ts';
import { type RolloutDocument, RolloutEngine, type RolloutOptions } from '../../src/rollout/index.ts';
import { type Device, Value } from '../../src/runtime/index.ts';
import { train } from '../../src/train/train.ts';
import { buildTreeBatch, type TreeDocument } from '../../src/tree-batch.ts';
import { TreeModel } from '../../src/tree-model.ts';
import { chiSquareDeviate } from '../../test/fixtures/distribution.ts';
import { relativeDistance } from '../../test/fixtures/training.ts';
import { atMost, type Finding, measured, type Setup } from './part.ts';

const TINY = fileURLToPath(new URL('../../models/tiny-qwen3', import.meta.url));
const corpus = (name: string) => join(TINY, 'corpus', name);

/**
 * How far log-probs (nats, the largest difference) and gradients (distance over norm, all weights as one vector) may be from those
 * of float32 on the CPU. The unit roundoff is 6e-8, 5e-4 and 4e-3; some tens of products follow each other.
 */
const TOLERANCE: Record<ComputeDType, { logProb: number; gradient: number }> = {
  float32: { logProb: 1e-3, gradient: 1e-3 },
  float16: { logProb: 0.03, gradient: 0.03 },
  bfloat16: { logProb: 0.2, gradient: 0.1 },
};

async function documents(count: number): Promise<number[][]> {
  const tokenizer = await loadTokenizer(TINY);
  const lines = (await readFile(corpus('held-out.jsonl'), 'utf8')).trimEnd().split('\n').slice(0, count);
  return lines.map((line) => Array.from(tokenizer.encode((JSON.parse(line) as { text: string }).text)));
}

/** Text with a loss on every token, and a branch whose tokens have both kinds of loss. */
function treeOf(tokens: readonly number[], index: number): TreeDocument {
  const rows = (from: readonly number[], more: object) =>
    from.slice(1).map((target, token) => ({ token, target, ...more }));
  const branch = tokens.slice(0, 6).map((token, i) => tokens[(i + index) % tokens.length] ?? token);
  return {
    trunk: tokens,
    losses: rows(tokens, { nllWeight: 0.01 }),
    branches: [
      {
        trunkLength: Math.ceil(tokens.length / 2),
        tokens: branch,
        losses: rows(branch, { oldLogProb: -3, advantage: index % 2 === 0 ? 1 : -1, policyWeight: 0.01 }),
      },
    ],
  };
}

async function tinySession(device: Device, dtype: ComputeDType): Promise<TrainingSession> {
  const model = await openModel(TINY, { dtype });
  return TrainingSession.create(model.trainingArtifacts, await model.loadWeights(), { device });
}

/** Log-probs, entropies and gradients on the device against float32 on the CPU. */
export async function accuracy({ device, dtypes }: Setup): Promise<Finding[]> {
  const batch = buildTreeBatch((await documents(8)).map(treeOf));
  using reference = await tinySession({ kind: 'cpu' }, 'float32');
  const expected = await reference.runTrainStep(batch);
  const { weights } = reference.state().tensors;
  const gradient = (session: TrainingSession) =>
    Float32Array.from([...weights.keys()].flatMap((name) => [...session.gradient(name)]));
  const expectedGradient = gradient(reference);
  const findings: Finding[] = [];
  for (const dtype of dtypes) {
    using session = await tinySession(device, dtype);
    const found = await session.runTrainStep(batch);
    const worst = (key: 'logProbs' | 'entropy') =>
      found[key].reduce((most, value, i) => Math.max(most, Math.abs(value - expected[key][i])), 0);
    const { logProb, gradient: gradientLimit } = TOLERANCE[dtype];
    findings.push(
      atMost('accuracy', `${dtype}: log-probs, largest difference`, worst('logProbs'), logProb, 'nats'),
      atMost('accuracy', `${dtype}: entropies, largest difference`, worst('entropy'), logProb, 'nats'),
      atMost(
        'accuracy',
        `${dtype}: gradient, relative distance`,
        relativeDistance(gradient(session), expectedGradient),
        gradientLimit,
        '',
      ),
    );
  }
  return findings;
}

const OPTIONS: Omit<RolloutOptions, 'open' | 'close'> = {
  ...{ endOfText: [], maxThoughtTokens: 12, groupSize: 8, horizon: 1, temperature: 1, seed: 0, step: 0 },
  ...{ documentsPerBatch: 8, rowsPerDocument: Number.POSITIVE_INFINITY },
};

/** Log-probs of the CPU, float32, for the loss rows of documents. */
async function onCpu(trees: readonly TreeDocument[]): Promise<Float32Array> {
  const model = await openModel(TINY);
  using tree = await TreeModel.create(model.trainingArtifacts.evalModel);
  const loaded = [...(await model.loadWeights())];
  const weights = new Map(loaded.map(([name, { shape, data }]) => [name, Value.from('float32', shape, data)]));
  try {
    return (await tree.run(buildTreeBatch(trees), weights)).logProbs;
  } finally {
    for (const value of weights.values()) value.dispose();
  }
}

/** Thoughts written on the device: their log-probs against the CPU's, and the first tokens against the distribution. */
export async function rollouts({ device, dtypes, small }: Setup): Promise<Finding[]> {
  const { open, close } = (await loadTokenizer(TINY)).thinkTokens();
  const texts = await documents(8);
  const placed = texts.map(
    (tokens, i): RolloutDocument => ({ id: String(i), tokens, positions: [Math.ceil(tokens.length / 2)] }),
  );
  const findings: Finding[] = [];
  for (const dtype of dtypes) {
    const model = await openModel(TINY, { dtype });
    using engine = await RolloutEngine.create(model.rolloutGraphs, { device, externalDataFolder: model.directory });
    const trees: TreeDocument[] = [];
    const logProbs: number[] = [];
    for await (const { document, thoughts } of engine.generate(placed, { ...OPTIONS, open, close })) {
      trees.push({
        ...{ trunk: document.tokens, losses: [] },
        branches: thoughts.map(({ position, tokens }) => ({
          trunkLength: position,
          tokens: [...open, ...tokens.slice(0, -1)],
          losses: tokens.map((target, u) => ({ token: open.length - 1 + u, target, nllWeight: 1 })),
        })),
      });
      logProbs.push(...thoughts.flatMap((thought) => thought.logProbs));
    }
    const expected = await onCpu(trees);
    const worst = logProbs.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
    findings.push(
      atMost(
        'rollouts',
        `${dtype}: thought tokens' log-probs, largest difference`,
        worst,
        TOLERANCE[dtype].logProb,
        'nats',
      ),
    );
    if (dtype !== 'float32') continue; // rounding moves the distribution itself

    const [document] = placed;
    const [position] = document.positions;
    const vocabulary = Array.from({ length: model.config.vocabSize }, (_, target) => ({
      token: open.length - 1,
      target,
      nllWeight: 1,
    }));
    const trunk = Array.from(document.tokens);
    const [probabilities, samples] = [
      [
        ...(await onCpu([
          { trunk, losses: [], branches: [{ trunkLength: position, tokens: open, losses: vocabulary }] },
        ])),
      ].map(Math.exp),
      small ? 1000 : 10_000,
    ];
    const first: number[] = [];
    const once = { ...OPTIONS, open, close, maxThoughtTokens: 1, groupSize: samples, rowsPerDocument: 256 };
    for await (const { thoughts } of engine.generate([document], once))
      first.push(...thoughts.map(({ tokens }) => tokens[0]));
    const deviate = Math.abs(chiSquareDeviate(first, probabilities));
    findings.push(
      atMost('rollouts', `${samples} samples against softmax, chi-square as a normal deviate`, deviate, 4, 'sigma'),
    );
  }
  return findings;
}

/** Twenty steps of RLP raise the information gain on held-out text. */
export async function rlp({ deviceName, dtypes, folder, small }: Setup): Promise<Finding[]> {
  const heldOut = join(folder, 'held-out.jsonl');
  const lines = (await readFile(corpus('held-out.jsonl'), 'utf8')).split('\n').slice(0, small ? 24 : 96);
  await writeFile(heldOut, `${lines.join('\n')}\n`);
  const findings: Finding[] = [];
  for (const dtype of small ? dtypes.slice(0, 1) : dtypes) {
    const run = join(folder, `rlp-${dtype}`);
    const { before, after, last } = await train(
      trainSchema.parse({
        ...{ model: TINY, data: [corpus('train.jsonl')], evalData: [heldOut], run },
        ...{ device: deviceName, dtype, steps: 20, evalEvery: 20, checkpointEvery: 0, learningRate: 3e-4, seed: 1 },
        ...{ documentsPerStep: small ? 8 : 16, groupSize: 8, maxThoughtTokens: 10, temperature: 1 },
        ...{ positionStrategy: 'column', documentsPerBatch: 16 },
      }),
    );
    const gain = (row: Record<string, unknown> | undefined) => Number(row?.['eval/information_gain']);
    const raised = gain(after) - gain(before);
    findings.push(
      {
        ...measured('rlp', `${dtype}: information gain raised by 20 steps of RLP`, raised, 'nats'),
        limit: 0,
        ok: raised > 0,
      },
      measured(
        'rlp',
        `${dtype}: bytes to the device in the last step`,
        last['transfers/to_device_bytes'] ?? 0,
        'bytes',
      ),
      measured('rlp', `${dtype}: bytes to the host in the last step`, last['transfers/to_host_bytes'] ?? 0, 'bytes'),
    );
  }
  return findings;
}
