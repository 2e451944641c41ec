import { createHash } from 'node:crypto';
import { cp, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { loadWeights, openCheckpoint, writeCheckpointDirectory } from '../../src/export/index.ts';
import type { ModelConfig } from '../../src/model-config.ts';
import { openModel } from '../../src/model-directory.ts';
import { TrainingSession } from '../../src/optim/index.ts';
import { DamagedCheckpoint } from '../../src/run-folder.ts';
import { loadTrainingCheckpoint, saveTrainingCheckpoint } from '../../src/train/checkpoint.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { folderWithConfig, temporaryFolder, tinyWeights } from '../export/checkpoint-fixture.ts';
import { randomTrees, SETTINGS, trainingArtifacts } from '../fixtures/training.ts';

const STATE = { baseline: { started: true, version: 2 }, cursor: { epoch: 1, index: 5, size: 9 } };

let model: ReturnType<typeof temporaryFolder>;
let config: ModelConfig;
let session: TrainingSession;

async function trainStep(target: TrainingSession, seed: number): Promise<void> {
  target.lazyResetGrad();
  await target.runTrainStep(buildTreeBatch(randomTrees(config.vocabSize, 2, seed)));
  await target.runOptimizerStep(SETTINGS);
}

async function newSession(): Promise<TrainingSession> {
  const checkpoint = await openCheckpoint(model.path);
  return TrainingSession.create(trainingArtifacts(checkpoint.config), await loadWeights(checkpoint));
}

beforeAll(async () => {
  const parent = temporaryFolder();
  const source = folderWithConfig(parent.in('config'));
  await writeFile(join(source, 'tokenizer.json'), '{}');
  const out = parent.in('model');
  await writeCheckpointDirectory({ out, source, weights: tinyWeights(), dtype: 'bfloat16' });
  model = { ...parent, path: out };
  config = (await openCheckpoint(out)).config;
  session = await newSession();
  for (const seed of [1, 2]) await trainStep(session, seed);
});
afterAll(() => {
  session.release();
  model[Symbol.dispose]();
});

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

const save = (out: string, dtype: 'float32' | 'bfloat16' = 'bfloat16') =>
  saveTrainingCheckpoint({ out, source: model.path, dtype, session, state: STATE });

/** Bytes of every file by its path. */
async function contents(path: string): Promise<Map<string, string>> {
  const entries = await readdir(path, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return new Map(
    await Promise.all(
      files.sort().map(async (file) => [file.slice(path.length), (await readFile(file)).toString('base64')] as const),
    ),
  );
}

describe('saveTrainingCheckpoint', () => {
  it('writes a Hugging Face directory with graphs beside the weights and the training state below', async () => {
    const out = folder.in('step-000002');
    await save(out);
    expect((await readdir(out)).sort()).toEqual([
      'checkpoint',
      'config.json',
      'eval_model.onnx',
      'model.onnx',
      'model.safetensors',
      'optimizer_model.onnx',
      'rlp-ort.json',
      'rollout_prefill.onnx',
      'rollout_step.onnx',
      'tokenizer.json',
      'training_model.onnx',
    ]);
    expect((await readdir(join(out, 'checkpoint'))).sort()).toEqual([
      'ema.safetensors',
      'exp_avg.safetensors',
      'exp_avg_sq.safetensors',
      'state.json',
      'weights.safetensors',
    ]);
    // The weights for others have the dtype asked for; what the run goes on with is float32.
    const opened = await openModel(out);
    expect(new Set(opened.dtypes.values())).toEqual(new Set(['bfloat16']));
    for (const [name, { data }] of await opened.loadWeights()) {
      const master = session.weights.get(name)?.data ?? [];
      data.forEach((value, i) => {
        expect(Math.abs(value - Number(master[i]))).toBeLessThanOrEqual(Math.abs(Number(master[i])) / 256);
      });
    }
  });

  it('gives the same bytes for the same state, and leaves nothing else behind', async () => {
    await save(folder.in('1'));
    await save(folder.in('2'));
    expect(await contents(folder.in('1'))).toEqual(await contents(folder.in('2')));
    expect((await readdir(folder.path)).sort()).toEqual(['1', '2']);
  });

  it('leaves nothing behind when it fails', async () => {
    using poisoned = await newSession();
    const [weight] = poisoned.weights.values();
    weight.data[3] = Number.NaN;
    const failing = saveTrainingCheckpoint({
      out: folder.in('bad'),
      source: model.path,
      dtype: 'float32',
      session: poisoned,
      state: STATE,
    });
    await expect(failing).rejects.toThrow('weight model.embed_tokens.weight: NaN or infinity at flat index 3');
    expect(await readdir(folder.path)).toEqual([]);
  });
});

describe('loadTrainingCheckpoint', () => {
  it('gives the state back, so that training goes on bit for bit', async () => {
    await save(folder.in('saved'));
    const { training, state } = await loadTrainingCheckpoint(folder.in('saved'));
    expect(state).toEqual(STATE);
    expect(training.step).toBe(2);
    using resumed = await newSession();
    resumed.loadState(training);
    using uninterrupted = await newSession();
    for (const seed of [1, 2, 3]) await trainStep(uninterrupted, seed);
    await trainStep(resumed, 3);
    const saveOf = (name: string, of: TrainingSession) =>
      saveTrainingCheckpoint({
        out: folder.in(name),
        source: model.path,
        dtype: 'bfloat16',
        session: of,
        state: STATE,
      });
    await saveOf('resumed', resumed);
    await saveOf('uninterrupted', uninterrupted);
    expect(await contents(folder.in('resumed'))).toEqual(await contents(folder.in('uninterrupted')));
  });

  it.each([
    ...['weights', 'exp_avg', 'exp_avg_sq', 'ema'].map((kind) => `checkpoint/${kind}.safetensors`),
    ...['model.safetensors', 'config.json', 'tokenizer.json', 'model.onnx', 'training_model.onnx'],
  ])('finds one changed byte in %s', async (name) => {
    await save(folder.in('saved'));
    const file = folder.in('saved', ...name.split('/'));
    const bytes = await readFile(file);
    bytes[bytes.length - 2] ^= 1;
    await writeFile(file, bytes);
    const loading = loadTrainingCheckpoint(folder.in('saved'));
    await expect(loading).rejects.toThrow(DamagedCheckpoint);
    await expect(loading).rejects.toThrow(
      new RegExp(`${file}: damaged \\(SHA-256 \\w{12}\\.\\.\\., expected \\w{12}\\.\\.\\.\\)$`),
    );
  });

  it.each([
    ['{"step": 2, "obj', /state\.json: damaged \(.*JSON.*\)$/],
    ['{"objective": {}}', /state\.json: damaged \(no step and hashes in it\)/],
    ['null', /state\.json: damaged \(no step and hashes in it\)/],
    ['{"step": 2, "objective": {}, "sha256": {}}', /weights\.safetensors: damaged \(SHA-256 .*, expected none/],
  ])('refuses a state.json of %s', async (text, message) => {
    await save(folder.in('saved'));
    await writeFile(folder.in('saved', 'checkpoint', 'state.json'), text);
    await expect(loadTrainingCheckpoint(folder.in('saved'))).rejects.toThrow(message);
  });

  it('has a hash of every file but its own, and takes no notice of files that came later', async () => {
    await save(folder.in('saved'));
    const { sha256 } = JSON.parse(await readFile(folder.in('saved', 'checkpoint', 'state.json'), 'utf8'));
    const others = [...(await contents(folder.in('saved'))).keys()].map((name) => name.slice(1));
    expect(Object.keys(sha256).sort()).toEqual(
      others.filter((name) => name !== 'checkpoint/state.json' && name !== 'rlp-ort.json').sort(),
    );
    const bytes = await readFile(folder.in('saved', 'model.onnx'));
    expect(sha256['model.onnx']).toBe(createHash('sha256').update(bytes).digest('hex'));
    await writeFile(folder.in('saved', 'README.md'), 'mine');
    expect((await loadTrainingCheckpoint(folder.in('saved'))).training.step).toBe(2);
  });

  it('names a file that is missing', async () => {
    await expect(loadTrainingCheckpoint(model.path)).rejects.toThrow(
      `${join(model.path, 'checkpoint', 'state.json')}: missing`,
    );
    await save(folder.in('saved'));
    await cp(folder.in('saved', 'checkpoint', 'state.json'), folder.in('other', 'checkpoint', 'state.json'));
    await expect(loadTrainingCheckpoint(folder.in('other'))).rejects.toThrow(/weights\.safetensors: missing$/);
  });
});
