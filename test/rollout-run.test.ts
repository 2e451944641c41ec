import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partialPath, readRollouts } from '../src/arrow.ts';
import { type RolloutConfig, rolloutSchema } from '../src/config.ts';
import { RunError } from '../src/errors.ts';
import type { Progress } from '../src/progress.ts';
import type { RolloutRecord } from '../src/records.ts';
import { runRollout } from '../src/rollout-run.ts';
import { contentOf, type Workplace, workplace } from './bad-input/refused.ts';
import { runCli } from './cli/run-cli.ts';

const DOCUMENTS = 20;
let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  const texts = Array.from(
    { length: DOCUMENTS },
    (_, i) => `${i} times ${i} is ${i * i}${' and so on'.repeat(i % 4)}.`,
  );
  // Random numbers are drawn by the ids: without them every run of the tests would think other thoughts.
  const rows = texts.map((text, i) => `${JSON.stringify({ text, id: `line:${i + 1}` })}\n`);
  writeFileSync(folder.in('data.jsonl'), rows.join(''));
});
afterAll(() => folder[Symbol.dispose]());

const SETTINGS = { groupSize: 3, positions: 2, maxThoughtTokens: 6, horizon: 2, temperature: 1, threads: 1 };

function configOf(name: string, more: Partial<RolloutConfig> = {}): RolloutConfig {
  const files = { model: folder.in('model'), data: [folder.in('data.jsonl')], out: folder.in(name) };
  return rolloutSchema.parse({ ...files, ...SETTINGS, ...more });
}

async function rowsOf(path: string): Promise<RolloutRecord[]> {
  const rows: RolloutRecord[] = [];
  for await (const batch of await readRollouts(path)) rows.push(...batch);
  return rows;
}

/** The file of a run that nothing disturbed. */
let whole: Buffer;
beforeAll(async () => {
  await runRollout(configOf('whole.arrow'));
  whole = readFileSync(folder.in('whole.arrow'));
});

/** Rows of the undisturbed run: the same thoughts, and scores up to rounding, since other documents may have stood beside them. */
async function expectWhole(path: string, undisturbed = folder.in('whole.arrow')): Promise<void> {
  const [rows, expected] = [await rowsOf(path), await rowsOf(undisturbed)];
  expect(thoughtsIn(rows)).toEqual(thoughtsIn(expected));
  const scores = (of: readonly RolloutRecord[]) =>
    of.flatMap((row) => [...row.thoughtLogProbs, ...row.reasonedLogProbs, ...row.baselineLogProbs, row.reward]);
  const [actual, wanted] = [scores(rows), scores(expected)];
  expect(actual).toHaveLength(wanted.length);
  expect(Math.max(...actual.map((score, i) => Math.abs(score - wanted[i])))).toBeLessThan(1e-5);
}

const thoughtsIn = (rows: readonly RolloutRecord[]) =>
  rows.map(({ documentId, position, rollout, thoughtTokens, targetTokens, finishReason }) => ({
    ...{ documentId, position, rollout, finishReason },
    ...{ thought: [...thoughtTokens], target: [...targetTokens] },
  }));

describe('rollouts', () => {
  it('think where the likeliest tokens, or all, are least certain', async () => {
    const places = async (name: string, entropyTopK: number) => {
      await runRollout(configOf(name, { positionStrategy: 'entropy', positions: 1, limit: 8, entropyTopK }));
      return (await rowsOf(folder.in(name))).map(({ position }) => position);
    };
    expect(await places('likeliest.arrow', 2)).not.toEqual(await places('all.arrow', 0));
  });

  it('are a row a thought, in the order of the data, and the summary is about them', async () => {
    const summary = await runRollout(configOf('again.arrow'));
    const rows = await rowsOf(folder.in('again.arrow'));
    expect(rows).toHaveLength(DOCUMENTS * 2 * 3);
    const names = rows.map(({ documentId, position, rollout }) => `${documentId} ${position} ${rollout}`);
    expect(new Set(names).size).toBe(rows.length);
    const lines = rows.map(({ documentId }) => Number(documentId.split(':').at(-1)));
    expect(lines).toEqual(Array.from({ length: rows.length }, (_, i) => Math.floor(i / 6) + 1));

    const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);
    const mean = (of: (row: RolloutRecord) => number) => sum(rows.map(of)) / rows.length;
    expect(summary).toMatchObject({
      ...{ out: folder.in('again.arrow'), rows: rows.length, documents: DOCUMENTS, skipped: 0, truncated: 0 },
      tokens: sum(rows.map(({ thoughtTokens }) => thoughtTokens.length)),
      reward: expect.closeTo(
        mean(({ reward }) => reward),
        6,
      ),
      reasonedCrossEntropy: expect.closeTo(-mean((row) => sum(row.reasonedLogProbs)) / 2, 6),
      noThinkCrossEntropy: expect.closeTo(-mean((row) => sum(row.baselineLogProbs)) / 2, 6),
    });
    // What a thought is paid: log p with it minus log p without.
    for (const row of rows) {
      expect(row.reward).toBeCloseTo(sum(row.reasonedLogProbs) - sum(row.baselineLogProbs), 5);
    }
  });

  it('tell tokens/s and their progress before the first document is done', async () => {
    const reports: Progress[] = [];
    const config = configOf('progress.arrow', { limit: 1, maxThoughtTokens: 12 });
    const { tokens } = await runRollout(config, { onProgress: (progress) => void reports.push(progress) });
    expect(reports[0]).toEqual({
      ...{ stage: 'rollout', done: 0, inFlight: 0, total: 1, unit: 'documents' },
      figures: {},
    });
    const during = reports.filter(({ done, figures }) => done === 0 && figures?.['tokens/s'] !== undefined);
    expect(during.length).toBeGreaterThanOrEqual(12);
    for (const { figures } of during) expect(figures?.['tokens/s']).toBeGreaterThan(0);
    const parts = during.map(({ inFlight }) => inFlight ?? Number.NaN);
    expect(parts).toEqual([...parts].sort((a, b) => a - b));
    expect(parts.some((part) => part > 0 && part < 1)).toBe(true);
    expect(reports.at(-1)).toMatchObject({ done: 1, inFlight: 0, figures: { 'tokens/s': expect.any(Number) } });
    expect(tokens).toBe((await rowsOf(config.out)).reduce((sum, { thoughtTokens }) => sum + thoughtTokens.length, 0));
  });

  it('tell of delimiters that are no tokens of their own', async () => {
    const notices: string[] = [];
    const onNotice = (message: string) => void notices.push(message);
    await runRollout(configOf('own.arrow', { limit: 1 }), { onNotice });
    expect(notices).toEqual([]);
    await runRollout(configOf('spelled.arrow', { limit: 1, thinkOpen: '[[' }), { onNotice });
    expect(notices).toEqual([
      expect.stringMatching(
        /^--think-open "\[\[" is spelled with 2 tokens: .* It has special tokens such as <think> <\/think>$/,
      ),
    ]);
  });

  it('tell of documents that are cut, and count them', async () => {
    const long = JSON.stringify({ text: 'word '.repeat(600), id: 'long' });
    writeFileSync(
      folder.in('long.jsonl'),
      `{"text": "a short one", "id": "short"}\n${long}\n${long.replace('long', 'other')}\n`,
    );
    const args = [
      'rollout',
      '--model',
      folder.in('model'),
      '--data',
      folder.in('long.jsonl'),
      '--out',
      folder.in('cut.arrow'),
    ];
    const { code, out, err } = await runCli([...args, '--max-thought-tokens', '4', '--group-size', '2', '--json']);
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ documents: 3, truncated: 2 });
    // 512 positions less the delimiters and 4 tokens; the last token of the text is fed to no thought.
    expect(err.match(/is cut/g)).toHaveLength(1);
    expect(err).toContain(
      "rlp-ort: document long is cut to its first 507 tokens, and so are others that are longer: beside a thought of 4 the model's " +
        'positions hold no more; a smaller --max-thought-tokens leaves more of them\n',
    );
    expect(Math.max(...(await rowsOf(folder.in('cut.arrow'))).map(({ position }) => position))).toBeLessThan(507);
  });

  it('of one seed are the same bytes, of another seed or step other thoughts', async () => {
    expect(readFileSync(folder.in('again.arrow')).equals(whole)).toBe(true);
    const thoughts = thoughtsIn(await rowsOf(folder.in('whole.arrow')));
    for (const [name, more] of [
      ['seed', { seed: 1 }],
      ['step', { step: 1 }],
    ] as const) {
      await runRollout(configOf(`${name}.arrow`, more));
      expect(thoughtsIn(await rowsOf(folder.in(`${name}.arrow`)))).not.toEqual(thoughts);
    }
  });

  it.each([
    { documentsPerBatch: 1 },
    { documentsPerBatch: 7, threads: 2 },
    { documentsPerBatch: 100, slots: 1 },
    { slots: 4, threads: 2 },
  ])('are the same thoughts with the same scores with %o', async (more) => {
    const name = `${Object.values(more).join('-')}.arrow`;
    await runRollout(configOf(name, more));
    const expected = await rowsOf(folder.in('whole.arrow'));
    const rows = await rowsOf(folder.in(name));
    expect(thoughtsIn(rows)).toEqual(thoughtsIn(expected));
    for (const [i, { reward, advantage }] of rows.entries()) {
      expect(reward).toBeCloseTo(expected[i].reward, 4);
      expect(advantage).toBeCloseTo(expected[i].advantage, 4);
    }
  });

  it('with products in float16 have log-probs near those of float32; bfloat16 is refused on the CPU', async () => {
    await runRollout(configOf('half.arrow', { dtype: 'float16' }));
    const [half, full] = [await rowsOf(folder.in('half.arrow')), await rowsOf(folder.in('whole.arrow'))];
    const scores = (rows: readonly RolloutRecord[]) => rows.flatMap(({ baselineLogProbs }) => [...baselineLogProbs]);
    const differences = scores(half).map((score, i) => Math.abs(score - scores(full)[i]));
    expect((await readRollouts(folder.in('half.arrow'))).metadata.config).toMatchObject({ dtype: 'float16' });
    expect(Math.max(...differences)).toBeLessThan(0.02);
    await expect(runRollout(configOf('no.arrow', { dtype: 'bfloat16' }))).rejects.toThrow(
      /^--dtype: needs --device cuda/,
    );
    expect(existsSync(folder.in('no.arrow'))).toBe(false);
  });

  it('on a device are the same thoughts, and the summary tells what crossed', async () => {
    const summary = await runRollout(configOf('device.arrow', { device: 'mock' }));
    await expectWhole(folder.in('device.arrow'));
    const perStep = DOCUMENTS * 6 * 64; // eight values of 4 or 8 bytes a row
    expect(summary.bytesToHost).toBeLessThan(perStep * 20);
  });

  it.each<[boolean, string, () => Partial<RolloutConfig>]>([
    [false, 'the own baseline', () => ({})],
    [false, 'a prompt that it reads, too', () => ({ prompt: 'Go on:', baselinePrompt: true })],
    [true, 'a prompt that it does not read', () => ({ prompt: 'Go on:' })],
    [true, 'positions by surprise', () => ({ positionStrategy: 'surprise' })],
    [true, 'a baseline of its own', () => ({ baselineModel: folder.in('model') })],
  ])('load the weights a second time (%j): %s', async (loads, name, more) => {
    const summary = await runRollout(configOf(`${name}.arrow`, { device: 'mock', limit: 2, ...more() }));
    // The evaluation graph takes them as inputs, which cross to the device; those of the rollout graphs are in its session.
    const weights = statSync(folder.in('model/model.safetensors')).size;
    expect((summary.bytesToDevice ?? 0) > weights).toBe(loads);
  });

  it('of steps with fixed shapes and addresses, as they are captured, are the same', async () => {
    await runRollout(configOf('captured.arrow', { device: 'mock', cudaGraphs: true, gpuMemoryLimit: 4 }));
    expect(thoughtsIn(await rowsOf(folder.in('captured.arrow')))).toEqual(
      thoughtsIn(await rowsOf(folder.in('whole.arrow'))),
    );
    const { metadata } = await readRollouts(folder.in('captured.arrow'));
    expect(metadata).toEqual((await readRollouts(folder.in('whole.arrow'))).metadata);
  });

  it('are the same from a checkpoint as from its export, whatever graphs lie there', async () => {
    expect((await runCli(['export', folder.in('model'), '--out', folder.in('exported')])).code).toBe(0);
    writeFileSync(folder.in('exported', 'rollout_step.onnx'), 'not a graph');
    await runRollout(configOf('exported.arrow', { model: folder.in('exported') }));
    expect(await rowsOf(folder.in('exported.arrow'))).toEqual(await rowsOf(folder.in('whole.arrow')));
  });
});

describe('rollouts that are interrupted', () => {
  it.each([1, 3, 5])('after %i batches are the same file when they are resumed', async (batches) => {
    const abort = new AbortController();
    const config = configOf(`interrupted-${batches}.arrow`);
    const interrupted = runRollout(config, {
      signal: abort.signal,
      onProgress: ({ done }) => void (done === 4 * batches && abort.abort()),
    });
    if (batches === 5)
      await interrupted; // nothing was left to do
    else {
      await expect(interrupted).rejects.toThrow(RunError);
      await expect(interrupted).rejects.toThrow(
        `interrupted; ${4 * batches} of 20 documents are kept in ${partialPath(config.out)}; to go on: the same command with --resume`,
      );
      expect(await readRollouts(partialPath(config.out))).toMatchObject({ batches, complete: false });
      expect(await runRollout({ ...config, resume: true })).toMatchObject({ documents: 20 - 4 * batches });
    }
    await expectWhole(config.out);
    expect(existsSync(partialPath(config.out))).toBe(false);
  });

  it('before the first batch leave nothing', async () => {
    const before = contentOf(folder.path);
    const config = configOf('new/folder/early.arrow');
    await expect(runRollout(config, { signal: AbortSignal.abort() })).rejects.toThrow(
      'interrupted; to go on: the same command with --resume',
    );
    expect(contentOf(folder.path)).toEqual(before);
  });

  it('within a batch finish it', async () => {
    const abort = new AbortController();
    const config = configOf('within.arrow');
    const interrupted = runRollout(config, {
      signal: abort.signal,
      onProgress: ({ done }) => void (done === 5 && abort.abort()),
    });
    await expect(interrupted).rejects.toThrow('interrupted; 8 of 20 documents are kept in');
    expect(await readRollouts(partialPath(config.out))).toMatchObject({ batches: 2 });
    await runRollout({ ...config, resume: true });
    await expectWhole(config.out);
  });

  it.each([1, 2])('by Ctrl-C, %i times', async (times) => {
    const out = folder.in(`ctrl-c-${times}.arrow`);
    const data = times === 1 ? '-' : folder.in('data.jsonl');
    const args = ['rollout', '--model', folder.in('model'), '--data', data, '--out', out];
    const flags = ['--max-thought-tokens', '200', '--group-size', '8', '--documents-per-batch', '4'];
    const program = ['--import', 'tsx', 'src/cli/main.ts', ...args, ...flags];
    const child = spawn(process.execPath, program);
    child.stdin.end(readFileSync(folder.in('data.jsonl')));
    let text = '';
    child.stderr.on('data', (data) => {
      text += data;
    });
    while (!text.includes('rollout: 0/20') && child.exitCode === null) await sleep(2);
    child.kill('SIGINT');
    const asked = 'finishing what is in flight; press Ctrl-C again to stop at once (what is on disk is kept)\n';
    if (times === 2) {
      while (!text.includes(asked) && child.exitCode === null) await sleep(2);
      child.kill('SIGINT');
      expect(await once(child, 'close')).toEqual([null, 'SIGINT']);
    } else {
      expect(await once(child, 'close')).toEqual([1, null]);
      expect(text).toContain(asked);
      expect(text).toMatch(
        /\nrlp-ort: interrupted; (4|8) of 20 documents are kept in \S+; to go on: the same command with --resume, and the same data on standard input\n/,
      );
    }
    const resume = (input: string | Buffer) =>
      spawnSync(process.execPath, [...program, '--resume'], { input, encoding: 'utf8' });
    if (times === 1) {
      const { status, stderr } = resume('{"text": "something else"}\n');
      expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringMatching(/dataHash/) });
    }
    expect(resume(readFileSync(folder.in('data.jsonl'))).status).toBe(0);
    expect(await rowsOf(out)).toHaveLength(20 * 8);
  });

  it('are not disturbed by a second process, which is told', async () => {
    const config = configOf('twice.arrow');
    let message = '';
    await runRollout(config, {
      onProgress: ({ done }) => {
        if (done !== 4 || message !== '') return;
        message = 'asked';
        runRollout({ ...config, resume: true }).catch((thrown: Error) => {
          message = thrown.message;
        });
      },
    });
    expect(message).toMatch(
      new RegExp(
        `^${config.out}: in use by process ${process.pid} on \\S+ since \\S+; wait until it has ended, or stop it$`,
      ),
    );
    await expectWhole(config.out);
  });

  it('by a kill at any moment are the same file when they are resumed', async () => {
    const out = folder.in('killed.arrow');
    const args = ['rollout', '--model', folder.in('model'), '--data', folder.in('data.jsonl'), '--out', out];
    const flags = ['--max-thought-tokens', '40', '--documents-per-batch', '1', '--group-size', '6', '--positions', '4'];
    const size = () => (existsSync(partialPath(out)) ? statSync(partialPath(out)).size : 0);
    for (const delay of [0, 5, 12, 20]) {
      const before = size();
      const command = ['--import', 'tsx', 'src/cli/main.ts', ...args, ...flags, '--resume'];
      const child = spawn(process.execPath, command, { stdio: 'ignore' });
      // Its first sign of life may be a file of no batch yet.
      while (size() <= before && child.exitCode === null) await sleep(2);
      await sleep(delay);
      child.kill('SIGKILL');
      expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
    }
    expect(existsSync(out)).toBe(false);
    expect((await runCli([...args, ...flags, '--resume'])).code).toBe(0);
    const { code } = await runCli([...args.slice(0, -1), folder.in('undisturbed.arrow'), ...flags]);
    expect(code).toBe(0);
    await expectWhole(out, folder.in('undisturbed.arrow'));
  });
});
