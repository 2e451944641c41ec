import { appendFile, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { type TrainConfig, trainOptionsSchema, trainSchema } from '../src/config.ts';
import { resolveSettings } from '../src/config-resolve.ts';
import { UserError } from '../src/errors.ts';
import {
  checkIdle,
  checkSameSettings,
  isRunFolder,
  listCheckpoints,
  RunFolder,
  readMetrics,
  readRunSettings,
} from '../src/run-folder.ts';
import { withTemporaryFolder } from './cli/run-cli.ts';
import { deadPid, lockOf } from './fixtures/processes.ts';

function configFor(run: string, more: object = {}): TrainConfig {
  return trainSchema.parse({ model: 'm', data: ['a.txt'], run, ...more });
}

async function writeCheckpoint(folder: RunFolder, step: number, whole: boolean): Promise<void> {
  const path = folder.checkpointPath(step);
  await mkdir(path);
  await writeFile(join(path, 'model.safetensors'), '');
  if (whole) await writeFile(join(path, 'rlp-ort.json'), '{"tool":"rlp-ort"}');
}

test('a new run has its settings and its folders', async () => {
  await withTemporaryFolder(async (temporary) => {
    const run = join(temporary, 'nested', 'run');
    await using folder = await RunFolder.create(configFor(run, { groupSize: 4 }));
    expect((await readdir(run)).sort()).toEqual([
      'checkpoints',
      'config.yaml',
      'lock',
      'metrics.jsonl',
      'rlp-ort.json',
      'rollouts',
    ]);
    const settings: unknown = parse(await readFile(join(run, 'config.yaml'), 'utf8'));
    expect(settings).toMatchObject({ model: 'm', data: ['a.txt'], run, 'group-size': 4 });
    expect(settings).not.toHaveProperty('resume');
    expect(folder.checkpointPath(123)).toBe(join(run, 'checkpoints', 'step-000123'));
    expect(folder.rolloutsPath(7)).toBe(join(run, 'rollouts', 'step-000007.arrow'));
    expect(await isRunFolder(run)).toBe(true);
  });
});

test('a folder that is in use is refused, ours and others', async () => {
  await withTemporaryFolder(async (temporary) => {
    const run = join(temporary, 'run');
    await (await RunFolder.create(configFor(run))).close();
    await expect(RunFolder.create(configFor(run))).rejects.toThrow(
      `run ${run}: holds a run already; pass --resume to continue it, or choose another --run`,
    );
    const other = join(temporary, 'photos');
    await mkdir(other);
    await writeFile(join(other, 'cat.jpg'), '');
    await expect(RunFolder.create(configFor(other))).rejects.toThrow(/holds files that rlp-ort did not write/);
    await expect(RunFolder.resume(configFor(other))).rejects.toThrow(`run ${other}: not a run folder (no config.yaml)`);
    await expect(readRunSettings(join(temporary, 'nowhere'))).rejects.toThrow(UserError);
  });
});

test('a run that another process works on is left alone, one that was killed is taken over', async () => {
  await withTemporaryFolder(async (temporary) => {
    const run = join(temporary, 'run');
    const config = configFor(run);
    const folder = await RunFolder.create(config);
    const inUse = new RegExp(`^run ${run}: in use by process ${process.pid} on \\S+ since `);
    await expect(RunFolder.resume(config)).rejects.toThrow(inUse);
    await expect(checkIdle(run)).rejects.toThrow(inUse);
    await folder.close();
    await checkIdle(run);
    await writeFile(join(run, 'lock'), lockOf(await deadPid()));
    await (await RunFolder.resume(config)).folder.close();
    expect(await readdir(run)).not.toContain('lock');
  });
});

test('metrics are there line by line, a torn last line is left out, a broken one is named', async () => {
  await withTemporaryFolder(async (temporary) => {
    await using folder = await RunFolder.create(configFor(join(temporary, 'run')));
    expect(await readMetrics(folder.path)).toEqual([]);
    await folder.appendMetrics({ step: 1, reward: 0.5, kl: Number.NaN });
    const file = join(folder.path, 'metrics.jsonl');
    expect(await readFile(file, 'utf8')).toBe('{"step":1,"reward":0.5,"kl":null}\n');
    await appendFile(file, '{"step":2,"rew');
    expect(await readMetrics(folder.path)).toEqual([{ step: 1, reward: 0.5, kl: null }]);
    await appendFile(file, '\n');
    await expect(readMetrics(folder.path)).rejects.toThrow(`${file}: line 2 is not a JSON object with a step`);
  });
});

test('a resume goes on after the newest whole checkpoint and forgets what came later', async () => {
  await withTemporaryFolder(async (temporary) => {
    const config = configFor(join(temporary, 'run'));
    const before = await RunFolder.create(config);
    for (const step of [0, 1, 2, 3]) {
      await before.appendMetrics({ step, reward: step });
      await writeFile(before.rolloutsPath(step), '');
    }
    await writeFile(`${before.rolloutsPath(4)}.partial`, '');
    await writeCheckpoint(before, 1, true);
    await writeCheckpoint(before, 2, true);
    await writeCheckpoint(before, 3, false);
    await mkdir(join(before.path, 'checkpoints', 'step-000009.partial-1-ab'));
    await before.close();

    const { folder, checkpoint } = await RunFolder.resume({ ...config, steps: 400 });
    await using _ = folder;
    expect(checkpoint).toEqual({ step: 2, path: folder.checkpointPath(2) });
    expect((await listCheckpoints(folder.path)).map(({ step }) => step)).toEqual([1, 2]);
    await folder.appendMetrics({ step: 3, reward: 30 });
    expect((await readMetrics(folder.path)).map(({ reward }) => reward)).toEqual([0, 1, 2, 30]);
    expect(await readdir(join(folder.path, 'rollouts'))).toEqual([0, 1, 2].map((step) => `step-00000${step}.arrow`));
    expect((await readRunSettings(folder.path)).values.steps).toBe(400);
  });
});

test('a resume with other threads or other batches of documents says what comes of it', async () => {
  await withTemporaryFolder(async (temporary) => {
    const config = configFor(join(temporary, 'run'), { threads: 1, documentsPerBatch: 8 });
    const before = await RunFolder.create(config);
    await writeCheckpoint(before, 1, true);
    await before.close();
    const noticesOf = async (more: Partial<TrainConfig>) => {
      const { folder, notices } = await RunFolder.resume({ ...config, ...more });
      await folder.close();
      return notices;
    };
    expect(await noticesOf({})).toEqual([]);
    expect(await noticesOf({ threads: 2, documentsPerBatch: 4 })).toEqual([
      '--threads is 2, and was 1; --documents-per-batch is 4, and was 8: sums are taken in another order, and the run ends with ' +
        'other last bits than without the interruption',
    ]);
    // What it is compared with is the resume before.
    expect(await noticesOf({ threads: 2, documentsPerBatch: 4, steps: 7 })).toEqual([]);
    expect(await noticesOf({ threads: undefined, documentsPerBatch: 4 })).toEqual([
      expect.stringMatching(/^--threads is not set, and was 2: /),
    ]);
  });
});

test('figures go to TensorBoard too, to another file after a resume, and to none without figures', async () => {
  await withTemporaryFolder(async (temporary) => {
    const config = configFor(join(temporary, 'run'));
    const eventFiles = async () =>
      (await readdir(config.run)).filter((name) => name.startsWith('events.out.tfevents.'));
    await using before = await RunFolder.create(config);
    expect(await eventFiles()).toEqual([]);
    await before.appendMetrics({ step: 1, reward: 0.5, note: 'text', gap: null });
    await before.close();
    const [first] = await eventFiles();
    const bytes = await readFile(join(config.run, first), 'latin1');
    expect(bytes).toContain('reward');
    expect(bytes).not.toMatch(/note|gap/);
    await (await RunFolder.resume(config)).folder.close();
    expect(await eventFiles()).toEqual([first]);
    const { folder } = await RunFolder.resume(config);
    await using _ = folder;
    await folder.appendMetrics({ step: 1, reward: 0.5 });
    expect(await eventFiles()).toHaveLength(2);
  });
});

test('a run without a checkpoint starts over', async () => {
  await withTemporaryFolder(async (temporary) => {
    const config = configFor(join(temporary, 'run'));
    const before = await RunFolder.create(config);
    await before.appendMetrics({ step: 0, reward: 1 });
    await before.close();
    const { folder, checkpoint } = await RunFolder.resume(config);
    await using _ = folder;
    expect(checkpoint).toBeUndefined();
    expect(await readMetrics(folder.path)).toEqual([]);
  });
});

test('a resume may go further or faster but not be another run', async () => {
  await withTemporaryFolder(async (temporary) => {
    const run = join(temporary, 'run');
    await (await RunFolder.create(configFor(run, { groupSize: 4 }))).close();
    const saved = await readRunSettings(run);
    const withFlags = (values: Record<string, unknown>): TrainConfig =>
      resolveSettings(trainOptionsSchema, trainSchema, [saved, { values }]);
    expect(() => checkSameSettings(withFlags({}), saved)).not.toThrow();
    const again = { model: resolve('m'), data: ['a.txt'], run };
    expect(() => checkSameSettings(withFlags(again), saved)).not.toThrow();
    // The same file by another name would give its documents other names, and they other thoughts.
    expect(() => checkSameSettings(withFlags({ data: ['./a.txt'] }), saved)).toThrow(
      '--data ./a.txt: the run has a.txt',
    );
    expect(() => checkSameSettings(withFlags({ steps: '900', threads: '1', device: 'cuda' }), saved)).not.toThrow();
    expect(() => checkSameSettings(withFlags({ 'group-size': '8', limit: '5' }), saved)).toThrow(
      `run ${run}: cannot resume with other settings:
  --group-size 8: the run has 4
  --limit 5: the run has none
leave them out, or start a new run`,
    );
  });
});
