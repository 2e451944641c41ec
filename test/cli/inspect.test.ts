import { mkdir, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { RolloutWriter } from '../../src/arrow.ts';
import { trainSchema } from '../../src/config.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { RunFolder } from '../../src/run-folder.ts';
import { runCli, withTemporaryFolder } from './run-cli.ts';

function record(rollout: number, reward: number): RolloutRecord {
  return {
    step: 0,
    documentId: 'sums',
    position: 5,
    rollout,
    context: '2 + 3 = ',
    thought: `thought ${rollout}`,
    thoughtTokens: Int32Array.from([1, 2, 3]),
    thoughtLogProbs: Float32Array.from([-1, -2, -3]),
    samplingLogProbs: Float32Array.from([-1, -2, -3]),
    target: '5',
    targetTokens: Int32Array.from([9]),
    reasonedLogProbs: Float32Array.from([reward - 2]),
    baselineLogProbs: Float32Array.from([-2]),
    reward,
    advantage: reward,
    finishReason: 'closed',
    policyVersion: 0,
    baselineVersion: 0,
  };
}

async function writeRollouts(path: string, rewards: readonly number[]): Promise<void> {
  await using writer = await RolloutWriter.open(path, { config: { seed: 0 }, modelHash: 'abc' });
  await writer.append(rewards.map((reward, rollout) => record(rollout, reward)));
  await writer.finish();
}

test('a batch of any size', async () => {
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, 'large.arrow');
    const [one, two] = [record(0, 1), record(1, 2)];
    await using writer = await RolloutWriter.open(path, { config: { seed: 0 }, modelHash: 'abc' });
    await writer.append(Array.from({ length: 140_000 }, (_, i) => (i % 2 === 0 ? one : two)));
    await writer.finish();
    const { code, out, err } = await runCli(['inspect', path, '--json']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(JSON.parse(out).statistics).toMatchObject({ rows: 140_000, reward: { mean: 1.5, std: 0.5 } });
  });
});

test('a rollout file: statistics and thoughts in context', async () => {
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, 'thoughts.arrow');
    await writeRollouts(path, [0.5, -1, 2, 0.25]);
    const { code, out, err } = await runCli(['inspect', path, '--count', '1']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out.replace(path, 'FILE')).toMatchInlineSnapshot(`
      "FILE
      rows                   4
      documents              1
      positions              1
      reward mean            0.4375
      reward std             1.066
      reward min             -1
      reward max             2
      share positive         0.7500
      share without spread   0
      thought length mean    3
      thought length std     0
      thought length min     3
      thought length max     3
      finish reasons closed  4
      finish reasons length  0
      finish reasons eos     0
      model hash             abc

      Best
        reward +2.000  advantage +2.000  sums @ 5  step 0
          text    2 + 3 = 
          thought thought 2
          then    5

      Worst
        reward -1.000  advantage -1.000  sums @ 5  step 0
          text    2 + 3 = 
          thought thought 1
          then    5

      Random
        reward +0.500  advantage +0.500  sums @ 5  step 0
          text    2 + 3 = 
          thought thought 0
          then    5
      "
    `);
    const colours = await runCli(['inspect', path], { outIsTerminal: true });
    expect(colours.out).toContain('\u001b[32m+2.000\u001b[39m');
    const json = await runCli(['inspect', path, '--json', '--count', '1']);
    expect(JSON.parse(json.out)).toMatchObject({
      complete: true,
      metadata: { modelHash: 'abc' },
      statistics: { rows: 4, sharePositive: 0.75 },
      best: [{ thought: 'thought 2' }],
      worst: [{ thought: 'thought 1' }],
    });
  });
});

test('the same thought of a group is shown once, with how often it was written', async () => {
  await withTemporaryFolder(async (folder) => {
    const path = join(folder, 'thoughts.arrow');
    {
      await using writer = await RolloutWriter.open(path, { config: {}, modelHash: 'abc' });
      const rows = [2, 2, 2, -1].map((reward, i) => ({ ...record(i, reward), thought: reward > 0 ? 'good' : 'bad' }));
      await writer.append(rows);
      await writer.finish();
    }
    const { out } = await runCli(['inspect', path]);
    expect(out.match(/thought good/g)).toHaveLength(1);
    expect(out).toContain('reward +2.000  advantage +2.000  sums @ 5  step 0  3 times in its group');
    expect(out).toContain('reward -1.000  advantage -1.000  sums @ 5  step 0\n');
  });
});

test('a run folder: where it has got to, first and last figures, checkpoints, settings', async () => {
  await withTemporaryFolder(async (folder) => {
    const run = join(folder, 'run');
    const inspect = async () => (await runCli(['inspect', run])).out;
    const files = await RunFolder.create(trainSchema.parse({ model: 'm', data: ['a'], run, steps: 100 }));
    expect(await inspect()).toContain(`Run ${run}\nrunning: step 0 of 100 (process ${process.pid} on ${hostname()})`);
    expect(await inspect()).toContain('No metrics yet.\n\nNo checkpoint yet.');
    await files.appendMetrics({ step: 0, 'eval/information_gain': 0.5 });
    await files.appendMetrics({ step: 1, reward: 0.123456, step_time: 2 });
    await files.appendMetrics({ step: 50, reward: 1.5, step_time: 4, entropy: 2 });
    await files.appendMetrics({ step: 50, 'eval/information_gain': 0.75 });
    await mkdir(files.checkpointPath(50));
    await writeFile(join(files.checkpointPath(50), 'rlp-ort.json'), '{}');
    expect(await inspect()).toContain('running: step 50 of 100, about 2m30s left');
    await files.close();
    const { code, out } = await runCli(['inspect', run]);
    expect(code).toBe(0);
    expect(out).toContain(`stopped: step 50 of 100; to go on: rlp-ort train --run ${run} --resume`);
    expect(out).toMatch(/setting *\nmodel +m\n(.*\n)*group-size +16/);
    expect(out).toMatch(/training +step 1 +step 50 *\nreward +0\.12346 +1\.5 *\nstep_time +2 +4 *\nentropy +2/);
    expect(out).toMatch(/evaluation +step 0 +step 50 *\neval\/information_gain +0\.5 +0\.75/);
    expect(out).toContain(`Newest of 1 checkpoint(s): ${files.checkpointPath(50)}`);
    await mkdir(files.failedStepPath(51), { recursive: true });
    expect(await inspect()).toContain(`A step was not finite: its batch is in ${files.failedStepPath(51)}`);
    const json = JSON.parse((await runCli(['inspect', run, '--json'])).out);
    expect(json).toMatchObject({
      ...{ metricsRows: 4, settings: { 'group-size': 16 }, last: { step: 50, reward: 1.5 } },
      ...{ status: 'stopped', step: 50, steps: 100, secondsLeft: 150, lastEvaluation: { step: 50 } },
    });
    await mkdir(files.checkpointPath(100));
    await writeFile(join(files.checkpointPath(100), 'rlp-ort.json'), '{}');
    expect(await inspect()).toContain('finished: step');
  });
});

test('what is neither is refused', async () => {
  await withTemporaryFolder(async (folder) => {
    const missing = join(folder, 'missing.arrow');
    expect(await runCli(['inspect', missing])).toMatchObject({
      code: 2,
      err: `rlp-ort: cannot read ${missing}: no such file or folder (ENOENT)\n`,
    });
    expect(await runCli(['inspect', folder])).toMatchObject({
      code: 2,
      err: `rlp-ort: ${folder}: neither a rollout file nor a run folder (a run folder has a config.yaml)\n`,
    });
    const text = join(folder, 'notes.txt');
    await writeFile(text, 'not Arrow');
    const { code, err } = await runCli(['inspect', text]);
    expect(code).toBe(2);
    expect(err).toContain(text);
  });
});
