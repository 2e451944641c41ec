import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import * as ort from 'onnxruntime-node';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type TrainConfig, trainOptionsSchema, trainSchema } from '../../src/config.ts';
import { settingsToYaml } from '../../src/config-resolve.ts';
import { RunError } from '../../src/errors.ts';
import {
  readSafetensorsHeader,
  readTensor,
  type StoredDType,
  writeCheckpointDirectory,
} from '../../src/export/index.ts';
import { parameterShapes } from '../../src/model-config.ts';
import { openModel } from '../../src/model-directory.ts';
import type { RunHooks } from '../../src/progress.ts';
import { listCheckpoints, readMetrics } from '../../src/run-folder.ts';
import { Value } from '../../src/runtime/index.ts';
import { train } from '../../src/train/train.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { TreeModel } from '../../src/tree-model.ts';
import { contentOf, refused, SHARDED, type Workplace, workplace } from '../bad-input/refused.ts';
import { runCli } from '../cli/run-cli.ts';

const TINY = 'models/tiny-qwen3';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  const rows = (from: number, count: number) =>
    Array.from(
      { length: count },
      (_, i) => `${JSON.stringify({ id: from + i, text: `${(from + i) ** 7} is a number` })}\n`,
    );
  writeFileSync(folder.in('data.jsonl'), rows(10, 9).join(''));
  writeFileSync(folder.in('held-out.jsonl'), rows(70, 3).join(''));
  const examples = (from: number, count: number) =>
    Array.from(
      { length: count },
      (_, i) => `${JSON.stringify({ prompt: `${from + i}^7=`, response: `${(from + i) ** 7}` })}\n`,
    );
  writeFileSync(folder.in('examples.jsonl'), examples(10, 7).join(''));
  writeFileSync(folder.in('held-out-examples.jsonl'), examples(70, 3).join(''));
});
afterAll(() => folder[Symbol.dispose]());
afterEach(() => {
  for (const name of ['run', 'whole']) rmSync(folder.in(name), { recursive: true, force: true });
});

const run = () => folder.in('run');

/** Five steps of a few documents, in folder/run. */
function configOf(more: Partial<TrainConfig> = {}): TrainConfig {
  return trainSchema.parse({
    ...{
      model: folder.in('model'),
      data: [folder.in('data.jsonl')],
      run: run(),
    },
    ...(!('evalData' in more) && { evalData: [folder.in('held-out.jsonl')], evalEvery: 2 }),
    ...{ steps: 5, checkpointEvery: 2, learningRate: 1e-2, schedule: 'cosine' },
    threads: 1,
    ...((more.objective !== 'cpt' || more.packing === 'none') && { documentsPerStep: 2 }),
    ...((more.objective ?? 'rlp') === 'rlp'
      ? { emaDecay: 0.9, groupSize: 3, maxThoughtTokens: 5, temperature: 1, horizon: 2, positions: 2 }
      : { blockLength: 16 }),
    ...(more.objective === 'cpt' && more.packing !== 'none' && { batchTokens: 32 }),
    ...(more.objective === 'sft' && {
      ...{ data: [folder.in('examples.jsonl')], evalData: [folder.in('held-out-examples.jsonl')] },
      blockLength: 24, // holds every example whole
    }),
    ...more,
  });
}

/** Rows of metrics.jsonl without their times. */
async function figuresOf(path: string) {
  const rows = await readMetrics(path);
  return rows.map((row) =>
    Object.fromEntries(Object.entries(row).filter(([name]) => !/^(time\/|tokens_per_second\/|step_time$)/.test(name))),
  );
}

/** Runs without an interruption and puts the run aside, so that another can have its very path. */
async function runWhole(config: TrainConfig): Promise<void> {
  await train(config);
  renameSync(run(), folder.in('whole'));
}

/** The last checkpoint, the figures and the thoughts are those of the whole run. */
async function expectWhole(steps = 5): Promise<void> {
  const last = `checkpoints/step-${String(steps).padStart(6, '0')}`;
  expect(await figuresOf(run())).toEqual(await figuresOf(folder.in('whole')));
  expect(contentOf(join(run(), 'rollouts'))).toEqual(contentOf(folder.in('whole', 'rollouts')));
  expect(contentOf(join(run(), last))).toEqual(contentOf(folder.in('whole', last)));
  expect([...contentOf(run()).keys()].filter((path) => path.includes('partial'))).toEqual([]);
}

/** Interrupts `milliseconds` after step `step`; 0: right behind it, otherwise somewhere in the next. */
function interruptedAfter(step: number, milliseconds: number): RunHooks {
  const abort = new AbortController();
  if (step === 0) setTimeout(() => abort.abort(), milliseconds);
  return {
    signal: abort.signal,
    onProgress: ({ done }) => {
      if (done < step) return;
      if (milliseconds === 0) abort.abort();
      else setTimeout(() => abort.abort(), milliseconds);
    },
  };
}

describe.each(['rlp', 'cpt', 'sft'] as const)('%s', (objective) => {
  it.each([1, 2])('interrupted and resumed is the uninterrupted run, with a checkpoint every %i', async (every) => {
    const config = configOf({ objective, checkpointEvery: every });
    await runWhole(config);
    // Right behind a step, and somewhere in the next; steps of cpt are too short for that.
    for (const [step, milliseconds] of [
      [every, 0],
      [every + 1, objective === 'rlp' ? 20 : 0],
    ]) {
      rmSync(run(), { recursive: true, force: true });
      const interrupted = train(config, interruptedAfter(step, milliseconds));
      await expect(interrupted).rejects.toThrow(RunError);
      await expect(interrupted).rejects.toThrow(
        new RegExp(
          `^interrupted after step \\d of 5, which is saved; to go on: rlp-ort train --run ${run()} --resume$`,
        ),
      );
      expect((await listCheckpoints(run())).at(-1)?.step).toBeGreaterThanOrEqual(step);
      await train({ ...config, resume: true });
      await expectWhole();
    }
  });

  it('interrupted after every step is the uninterrupted run', async () => {
    const config = configOf({ objective, checkpointEvery: 0 });
    await runWhole(config);
    for (let step = 1; step < 5; step++) {
      await expect(train({ ...config, resume: step > 1 }, interruptedAfter(step, 0))).rejects.toThrow(RunError);
    }
    await train({ ...config, resume: true });
    await expectWhole();
  });
});

it.each([
  ['cpt', 2],
  ['cpt', undefined],
  ['rlp', 2],
] as const)(
  '%s with %s threads, interrupted and resumed, is the uninterrupted run, to the byte',
  async (objective, threads) => {
    // Products large enough to be shared between threads.
    const config = configOf({
      ...{ model: TINY, data: [`${TINY}/corpus/train.jsonl`], evalData: undefined, limit: 64 },
      ...{ objective, threads, steps: 2, checkpointEvery: 1 },
      ...(objective === 'cpt' ? { blockLength: 128, batchTokens: 512 } : { positions: 1, positionStrategy: 'column' }),
    });
    await runWhole(config);
    await expect(train(config, interruptedAfter(1, 0))).rejects.toThrow(RunError);
    await train({ ...config, resume: true });
    await expectWhole(2);
  },
);

const start = (args: readonly string[]) =>
  spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', ...args], { stdio: ['ignore', 'ignore', 'pipe'] });

/** Starts or resumes a run in another process, and waits until it has written more than `rows` rows of metrics. */
async function startUntil(config: TrainConfig, rows: number): Promise<ChildProcess> {
  const file = folder.in('settings.yaml');
  writeFileSync(file, settingsToYaml(trainOptionsSchema, config));
  const child = start(['train', ...(existsSync(run()) ? ['--run', run(), '--resume'] : ['--config', file])]);
  const metrics = join(run(), 'metrics.jsonl');
  for (;;) {
    const found = existsSync(metrics) ? readFileSync(metrics, 'utf8').split('\n').length - 1 : 0;
    if (found > rows) return child;
    if (child.exitCode !== null) throw new Error(`the run has ended: ${child.stderr?.read()}`);
    await sleep(5);
  }
}

it('killed without warning at any moment and resumed is the uninterrupted run', async () => {
  const config = configOf({ steps: 16, checkpointEvery: 1, evalEvery: 8 });
  await runWhole(config);
  for (const delay of [0, 9, 21, 34, 45]) {
    const child = await startUntil(config, existsSync(run()) ? (await readMetrics(run())).length : 0);
    await sleep(delay);
    child.kill('SIGKILL');
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
  }
  expect((await readMetrics(run())).at(-1)?.step).toBeLessThan(16);
  await train({ ...config, resume: true });
  await expectWhole(16);
});

it.each(['SIGINT', 'SIGTERM'] as const)('%s saves the last whole step and says how to go on', async (signal) => {
  const child = await startUntil(configOf({ steps: 1000, checkpointEvery: 0 }), 3);
  let message = '';
  child.stderr?.on('data', (text) => {
    message += text;
  });
  // Meanwhile nobody else may have the run.
  expect(await runCli(['train', '--run', run(), '--resume'])).toMatchObject({
    ...{ code: 2, out: '' },
    err: expect.stringMatching(
      new RegExp(`^rlp-ort: run ${run()}: in use by process ${child.pid} on \\S+ since \\S+; wait until it has ended`),
    ),
  });
  child.kill(signal);
  expect(await once(child, 'close')).toEqual([1, null]);
  const [checkpoint] = await listCheckpoints(run());
  expect(checkpoint.step).toBe((await readMetrics(run())).at(-1)?.step);
  expect(message).toContain(
    `\nrlp-ort: interrupted after step ${checkpoint.step} of 1000, which is saved; to go on: rlp-ort train --run ${run()} --resume\n`,
  );
});

describe('a resume', () => {
  it('ignores a checkpoint that is not whole, and removes it', async () => {
    const config = configOf({ checkpointEvery: 1 });
    await runWhole(config);
    await expect(train(config, interruptedAfter(3, 0))).rejects.toThrow(RunError);
    const [, second, third] = await listCheckpoints(run());
    renameSync(third.path, `${third.path}.partial-123-abcd`);
    expect(second.step).toBe(2);
    await train({ ...config, resume: true });
    await expectWhole();
  });

  it('without any checkpoint starts over', async () => {
    const config = configOf();
    await runWhole(config);
    await expect(train(config, interruptedAfter(0, 0))).rejects.toThrow(
      `interrupted in the first step; to go on: rlp-ort train --run ${run()} --resume`,
    );
    expect(await listCheckpoints(run())).toEqual([]);
    await train({ ...config, resume: true });
    await expectWhole();
  });

  it('goes further when asked to, and has nothing to do when it is done', async () => {
    await train(configOf({ steps: 2 }));
    const before = contentOf(run());
    expect(await train(configOf({ steps: 2, resume: true }))).toMatchObject({ steps: 2, last: {} });
    expect(contentOf(run())).toEqual(before);
    expect(await train(configOf({ steps: 3, resume: true }))).toMatchObject({ steps: 3 });
    expect((await figuresOf(run())).map(({ step }) => step)).toEqual([0, 1, 2, 2, 3, 3]);
  });

  it('refuses other settings, another model, fewer steps and a damaged checkpoint, and leaves the run as it was', async () => {
    await train(configOf({ steps: 2, checkpointEvery: 1 }));
    const resume = (...more: string[]) => refused(folder, ['train', '--run', run(), '--resume', ...more]);

    expect(await resume('--group-size', '4', '--learning-rate', '1')).toBe(
      `run ${run()}: cannot resume with other settings:
  --group-size 4: the run has 3
  --learning-rate 1: the run has 0.01
leave them out, or start a new run`,
    );
    expect(await resume('--steps', '1')).toBe(`run ${run()}: has taken 2 steps already, --steps 1 asks for fewer`);

    renameSync(folder.in('data.jsonl'), folder.in('moved.jsonl'));
    expect(await resume('--steps', '3')).toMatch(/cannot read .*data\.jsonl: no such file or folder/);
    writeFileSync(
      folder.in('data.jsonl'),
      readFileSync(folder.in('moved.jsonl'), 'utf8').split('\n').slice(3).join('\n'),
    );
    expect(await resume('--steps', '3')).toBe(
      `data ${folder.in('data.jsonl')}: its text, or the tokenizer, is not that which run ${run()} was started with; ` +
        'put it back, or start a new run',
    );
    renameSync(folder.in('moved.jsonl'), folder.in('data.jsonl'));

    const weights = folder.in('model', 'model.safetensors');
    const original = readFileSync(weights);
    const edit = (file: string) => {
      const bytes = readFileSync(file);
      bytes[bytes.length - 2] ^= 1;
      writeFileSync(file, bytes);
    };
    edit(weights);
    expect(await resume('--steps', '3')).toBe(
      `model ${folder.in('model')}: its weights or its config.json are not those that run ${run()} was started with; ` +
        'put them back, or start a new run',
    );
    writeFileSync(weights, original);

    for (const { path } of await listCheckpoints(run())) edit(join(path, 'checkpoint', 'exp_avg.safetensors'));
    expect(await resume('--steps', '3')).toMatch(
      /none of its checkpoints is whole:\n {2}\S+step-000002\S+exp_avg\.safetensors: damaged \(SHA-256 .*\)\n {2}\S+step-000001\S+: damaged/,
    );
  });

  it.each([
    [
      'with a changed byte',
      (path: string) => appendFileSync(join(path, 'checkpoint', 'exp_avg.safetensors'), 'x'),
      'damaged',
    ],
    [
      'with other bytes in the weights for others',
      (path: string) => appendFileSync(join(path, 'model.safetensors'), 'x'),
      'damaged',
    ],
    ['without a graph', (path: string) => rmSync(join(path, 'training_model.onnx')), 'missing'],
    ['without a file', (path: string) => rmSync(join(path, 'checkpoint', 'weights.safetensors')), 'missing'],
    ['without its state', (path: string) => rmSync(join(path, 'checkpoint', 'state.json')), 'missing'],
  ] as const)('passes over a checkpoint %s, says so, and ends as the uninterrupted run', async (_, harm, how) => {
    const config = configOf({ objective: 'cpt', checkpointEvery: 1, steps: 4 });
    await runWhole(config);
    await expect(train(config, interruptedAfter(3, 0))).rejects.toThrow(RunError);
    const newest = join(run(), 'checkpoints', 'step-000003');
    harm(newest);
    const { code, err } = await runCli(['train', '--run', run(), '--resume']);
    expect(code).toBe(0);
    expect(err).toMatch(
      new RegExp(`^rlp-ort: ${newest}/\\S+: ${how}.*: set aside as ${newest}.damaged; going on from step 2$`, 'm'),
    );
    await expectWhole(4);
    expect(existsSync(`${newest}.damaged`)).toBe(true);
  });
});

describe('checkpoints', () => {
  it('are kept as many as asked for, the newest ones, and the run can be resumed from them', async () => {
    const config = configOf({ objective: 'cpt', checkpointEvery: 1, keepCheckpoints: 2 });
    await runWhole(config);
    expect(readdirSync(folder.in('whole', 'checkpoints')).sort()).toEqual(['step-000004', 'step-000005']);
    await expect(train(config, interruptedAfter(3, 0))).rejects.toThrow(RunError);
    expect(readdirSync(join(run(), 'checkpoints')).sort()).toEqual(['step-000002', 'step-000003']);
    await train({ ...config, resume: true });
    await expectWhole();
    expect(readdirSync(join(run(), 'checkpoints')).sort()).toEqual(['step-000004', 'step-000005']);
    expect(existsSync(join(run(), 'checkpoints', 'step-000005', 'checkpoint', 'ema.safetensors'))).toBe(false);
  });

  it('are as many after a kill between the last one and the removal of the oldest', async () => {
    const config = configOf({ objective: 'cpt', checkpointEvery: 1 });
    await train(config); // keeps them all
    expect(readdirSync(join(run(), 'checkpoints'))).toHaveLength(5);
    await train({ ...config, keepCheckpoints: 2, resume: true });
    expect(readdirSync(join(run(), 'checkpoints')).sort()).toEqual(['step-000004', 'step-000005']);
  });

  it('of which one was being removed when the run was killed are no trouble', async () => {
    const config = configOf({ objective: 'cpt', checkpointEvery: 2 });
    await runWhole(config);
    await expect(train(config, interruptedAfter(3, 0))).rejects.toThrow(RunError);
    const [first] = await listCheckpoints(run());
    renameSync(first.path, `${first.path}.partial-removed`);
    await train({ ...config, resume: true });
    await expectWhole();
  });

  it('hold an average of the weights of cpt and sft on request, which is a checkpoint, too', async () => {
    const config = configOf({ objective: 'cpt', checkpointEvery: 1, steps: 3, emaDecay: 0.75 });
    await runWhole(config);
    const weightsOf = async (file: string) => {
      const { tensors } = await readSafetensorsHeader(file);
      const tensor = tensors.get('model.layers.0.mlp.up_proj.weight');
      return tensor === undefined ? [] : [...(await readTensor(tensor))];
    };
    const ofStep = (step: number, name: string) =>
      join(folder.in('whole', 'checkpoints', `step-00000${step}`), 'checkpoint', `${name}.safetensors`);
    let average = await weightsOf(folder.in('model', 'model.safetensors'));
    for (const step of [1, 2, 3]) {
      const weights = await weightsOf(ofStep(step, 'weights'));
      average = average.map((value, i) => 0.75 * value + 0.25 * weights[i]);
      const kept = await weightsOf(ofStep(step, 'ema'));
      for (const [i, value] of kept.entries()) expect(Math.abs(value - average[i])).toBeLessThan(1e-6);
      expect(kept).not.toEqual(weights);
    }
    await expect(train(config, interruptedAfter(2, 0))).rejects.toThrow(RunError);
    await train({ ...config, resume: true });
    await expectWhole(3);

    // As docs/artifacts.md has it.
    const averaged = folder.in('run', 'averaged');
    mkdirSync(averaged);
    cpSync(ofStep(3, 'ema'), join(averaged, 'model.safetensors'));
    const last = folder.in('whole', 'checkpoints', 'step-000003');
    for (const name of ['config.json', 'tokenizer.json']) cpSync(join(last, name), join(averaged, name));
    const model = await openModel(averaged);
    const { data } = (await model.loadWeights()).get('model.layers.0.mlp.up_proj.weight') ?? { data: [] };
    expect([...data]).toEqual(await weightsOf(ofStep(3, 'ema')));
  });

  it.each(['float32', 'bfloat16', 'float16'] as const)('have their weights in %s on request', async (dtype) => {
    const { checkpoint } = await train(configOf({ objective: 'cpt', steps: 1, checkpointDtype: dtype }));
    expect(new Set((await openModel(checkpoint)).dtypes.values())).toEqual(new Set([dtype]));
    expect(JSON.parse(readFileSync(join(checkpoint, 'config.json'), 'utf8'))).toMatchObject({ dtype });
    const kept = await readSafetensorsHeader(join(checkpoint, 'checkpoint', 'weights.safetensors'));
    for (const tensor of kept.tensors.values()) expect(tensor.dtype).toBe('float32');
  });
});

/** log p of each token but the first by `model.onnx` in plain onnxruntime-node. */
async function portableLogProbs(directory: string, tokens: readonly number[]): Promise<number[]> {
  const session = await ort.InferenceSession.create(join(directory, 'model.onnx'));
  const int64 = (values: readonly number[]) => new ort.Tensor('int64', values.map(BigInt), [1, tokens.length]);
  const { numKvHeads, headDim } = (await openModel(directory)).config;
  const past = session.inputNames.filter((name) => name.startsWith('past_key_values'));
  const { logits } = await session.run({
    input_ids: int64(tokens),
    attention_mask: int64(tokens.map(() => 1)),
    position_ids: int64(tokens.map((_, i) => i)),
    ...Object.fromEntries(past.map((name) => [name, new ort.Tensor('float32', [], [1, numKvHeads, 0, headDim])])),
  });
  const vocabulary = logits.dims[2];
  const logProbs = tokens.slice(1).map((token, i) => {
    const row = Float64Array.from((logits.data as Float32Array).subarray(i * vocabulary, (i + 1) * vocabulary));
    const most = Math.max(...row);
    return row[token] - most - Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
  });
  await session.release();
  return logProbs;
}

describe('the trained checkpoint', () => {
  it.each([{}, { loraRank: 2 }])(
    'keeps the dtype of each weight and the config.json of its source (%o)',
    async (lora) => {
      // Matrices in bfloat16 and float16, all else in float32.
      const source = folder.in('mixed');
      const { config, loadWeights } = await openModel(folder.in('model'));
      const dtypes = new Map<string, StoredDType>(
        [...parameterShapes(config)].map(([name, { length }]) => {
          const ofMatrix = name.includes('self_attn') ? 'bfloat16' : name.includes('mlp') ? 'float16' : 'float32';
          return [name, length > 1 ? ofMatrix : 'float32'];
        }),
      );
      rmSync(source, { recursive: true, force: true });
      await writeCheckpointDirectory({
        out: source,
        source: folder.in('model'),
        weights: await loadWeights(),
        dtype: dtypes,
      });
      expect((await openModel(source)).dtypes).toEqual(dtypes);
      const { checkpoint } = await train(configOf({ objective: 'cpt', model: source, steps: 1, ...lora }));
      expect((await openModel(checkpoint)).dtypes).toEqual(dtypes);
      expect(readFileSync(join(checkpoint, 'config.json'))).toEqual(readFileSync(join(source, 'config.json')));
      expect((await portableLogProbs(checkpoint, [72, 101, 108])).every(Number.isFinite)).toBe(true);
    },
  );

  it.each(['float32', 'bfloat16'] as const)('is a model of the same kind, and its graphs agree (%s)', async (dtype) => {
    const source = dtype === 'float32' ? folder.in('model') : SHARDED;
    const { checkpoint } = await train(configOf({ model: source, steps: 2 }));
    const model = await openModel(checkpoint);
    expect(new Set(model.dtypes.values())).toEqual(new Set([dtype]));
    expect(model.config).toEqual((await openModel(source)).config);
    expect(readFileSync(join(checkpoint, 'tokenizer.json')).equals(readFileSync(join(source, 'tokenizer.json')))).toBe(
      true,
    );

    const weights = await model.loadWeights();
    const before = await (await openModel(source)).loadWeights();
    for (const [name, { data }] of weights) expect(data, name).not.toEqual(before.get(name)?.data);

    using evaluation = await TreeModel.create(model.trainingArtifacts.evalModel);
    const values = new Map([...weights].map(([name, { shape, data }]) => [name, Value.from('float32', shape, data)]));
    const trunk = [72, 101, 108, 108, 111, 32, 116, 104, 101, 114, 101, 46];
    const losses = trunk.slice(1).map((target, token) => ({ token, target }));
    const { logProbs } = await evaluation.run(buildTreeBatch([{ trunk, losses, branches: [] }]), values);
    for (const value of values.values()) value.dispose();
    const portable = await portableLogProbs(checkpoint, trunk);
    for (const [i, logProb] of portable.entries()) expect(logProbs[i]).toBeCloseTo(logProb, 4);

    // And it goes on from there: as a model to roll out, to export, to train.
    const again = { model: checkpoint, data: folder.in('data.jsonl') };
    const rollout = ['rollout', '--model', again.model, '--data', again.data, '--out', folder.in('run', 'again.arrow')];
    expect((await runCli([...rollout, '--max-thought-tokens', '4', '--limit', '2'])).code).toBe(0);
    expect((await runCli(['export', checkpoint, '--out', folder.in('run', 'exported')])).code).toBe(0);
    expect(await train(configOf({ model: checkpoint, run: folder.in('run', 'second'), steps: 1 }))).toMatchObject({
      steps: 1,
    });
  });
});

describe('training that diverges', () => {
  const diverge = (more: Partial<TrainConfig>) => {
    const config = configOf({ learningRate: 3e38, schedule: 'constant', evalData: undefined, ...more });
    writeFileSync(folder.in('settings.yaml'), settingsToYaml(trainOptionsSchema, config));
    return runCli(['train', '--config', folder.in('settings.yaml')]);
  };

  it.each([
    [
      'cpt',
      /\nrlp-ort: step 2: loss NaN: training has diverged; the step was not applied; its batch is kept in \S+run\/failed\/step-000002\. Start a new run with[^\n]*\n$/,
    ],
    [
      'rlp',
      /\nrlp-ort: the model's logits are not finite at token 0 of document \d+, position \d+, rollout 0: [^\n]*\n$/,
    ],
  ] as const)('%s stops before it takes a step that is not finite, with exit code 1', async (objective, message) => {
    expect(await diverge({ objective })).toMatchObject({ code: 1, out: '', err: expect.stringMatching(message) });
    expect((await readMetrics(run())).map(({ step }) => step)).toEqual([1]);
    expect(await listCheckpoints(run())).toEqual([]);
  });

  it('writes no checkpoint that is not finite', async () => {
    expect(await diverge({ objective: 'cpt', checkpointEvery: 1 })).toMatchObject({
      code: 1,
      err: expect.stringMatching(
        /\nrlp-ort: weight .*: NaN or infinity at flat index \d+: training has diverged; [^\n]*\n$/,
      ),
    });
    expect([...contentOf(folder.in('run', 'checkpoints')).keys()]).toEqual([]);
  });
});

describe('supervised objectives', () => {
  it('measure loss and perplexity on held-out data, and lower it', async () => {
    for (const objective of ['cpt', 'sft'] as const) {
      const { before, after } = await train(configOf({ objective, run: folder.in(`run-${objective}`) }));
      expect(Number(after?.['eval/loss'])).toBeLessThan(Number(before?.['eval/loss']));
      for (const figures of [before, after]) {
        expect(figures?.['eval/perplexity']).toBeCloseTo(Math.exp(Number(figures?.['eval/loss'])), 9);
      }
    }
  });

  it('measure the mean over tokens, whatever the batches', async () => {
    const held = folder.in('held-out-examples.jsonl');
    const { before } = await train(configOf({ objective: 'sft', steps: 1 }));
    // Each example alone, weighed by its response tokens (one a byte, and the end).
    let sum = 0;
    let tokens = 0;
    rmSync(run(), { recursive: true });
    const limited = await train(configOf({ objective: 'sft', steps: 1, evalLimit: 1 }));
    for (const line of readFileSync(held, 'utf8').trim().split('\n')) {
      writeFileSync(folder.in('one.jsonl'), `${line}\n`);
      rmSync(run(), { recursive: true });
      const one = await train(configOf({ objective: 'sft', steps: 1, evalData: [folder.in('one.jsonl')] }));
      const count = JSON.parse(line).response.length + 1;
      if (tokens === 0) expect(limited.before?.['eval/loss']).toBeCloseTo(Number(one.before?.['eval/loss']), 6);
      sum += Number(one.before?.['eval/loss']) * count;
      tokens += count;
    }
    expect(before?.['eval/loss']).toBeCloseTo(sum / tokens, 5);
  });

  it('take the steps of some epochs, towards the final learning rate, and resume', async () => {
    // 7 examples, 2 a step: 3 steps an epoch; 1.5 epochs are 4.5 steps, so 5.
    const more = { objective: 'sft', steps: undefined, epochs: 1.5, schedule: 'linear' } as const;
    const config = configOf({ ...more, finalLearningRate: 1e-3, checkpointEvery: 1 });
    await runWhole(config);
    const rates = (await readMetrics(folder.in('whole'))).flatMap(({ learning_rate }) => learning_rate ?? []);
    expect(rates).toHaveLength(5);
    expect(rates[4]).toBeCloseTo(1e-2 - (4 * (1e-2 - 1e-3)) / 5, 12);
    expect(rates[0]).toBeCloseTo(1e-2, 12);
    await expect(train(config, interruptedAfter(3, 0))).rejects.toThrow(RunError);
    await train({ ...config, resume: true });
    await expectWhole();
  });

  it('keep documents apart on demand: each is a row, cut to a block', async () => {
    const config = configOf({ objective: 'cpt', packing: 'none', steps: undefined, epochs: 1, checkpointEvery: 1 });
    await runWhole(config);
    const rows = (await figuresOf(folder.in('whole'))).filter((row) => 'num_tokens' in row);
    // 9 documents, 2 a step of 16 tokens each
    for (const name of ['num_tokens', 'num_input_tokens']) {
      expect(rows.map((row) => row[name])).toEqual([32, 64, 96, 128]);
    }
    await expect(train(config, interruptedAfter(2, 0))).rejects.toThrow(RunError);
    await train({ ...config, resume: true });
    await expectWhole(4);
  });
});
