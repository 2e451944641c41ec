import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import * as ort from 'onnxruntime-node';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { armNamed } from '../../scripts/reproduce/arms.ts';
import { Clock, readCosts } from '../../scripts/reproduce/clock.ts';
import { evaluate } from '../../scripts/reproduce/evaluate.ts';
import { rawDocuments, SETTLED } from '../../scripts/reproduce/families.ts';
import { type Job, type JobResult, readResult, runJob } from '../../scripts/reproduce/job.ts';
import { WorkerPool } from '../../scripts/reproduce/pool.ts';
import { gainByKind } from '../../scripts/reproduce/positions.ts';
import { readRollouts } from '../../src/arrow.ts';
import { loadTokenizer } from '../../src/data/index.ts';
import { exportCheckpoint } from '../../src/export/index.ts';
import { openModel } from '../../src/model-directory.ts';

const BASE = fileURLToPath(new URL('../../scripts/reproduce/bases/settled', import.meta.url));

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'reproduce-run-'));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a study', () => {
  const script = fileURLToPath(new URL('reproduce-study.ts', import.meta.url));
  /** In a process group of its own, as a shell starts it. */
  const start = (out: string): ChildProcess =>
    spawn(process.execPath, ['--import', 'tsx', script, out], { stdio: ['ignore', 'pipe', 'inherit'], detached: true });

  /** Lines of a run; after `lines` of them it is killed with all its processes, if that is said. */
  async function run(out: string, lines = Number.POSITIVE_INFINITY): Promise<string[]> {
    const child = start(out);
    const closed = once(child, 'close');
    const seen: string[] = [];
    if (child.stdout === null || child.pid === undefined) throw new Error('no process');
    for await (const line of createInterface({ input: child.stdout })) {
      if (/ min, about /.test(line)) seen.push(line);
      if (seen.length === lines) process.kill(-child.pid, 'SIGKILL');
    }
    const [code, signal] = await closed;
    expect(signal ?? code).toBe(seen.length === lines ? 'SIGKILL' : 0);
    return seen;
  }

  /** The report without what the clock says, and where the files lie. */
  async function reportOf(out: string): Promise<{ json: string; text: string[]; sittings: number }> {
    const read = (name: string) => readFile(join(out, 'report', name), 'utf8');
    const json = JSON.parse(await read('reproduction.json')) as { sittings: number };
    const timed = ['minutes', 'sittings', 'seconds', 'evaluationSeconds', 'wallSeconds'];
    const kept = JSON.stringify(json, (key, value: unknown) => (timed.includes(key) ? undefined : value));
    const lines = (await read('reproduction.md')).split('\n');
    const cost = lines.findIndex((line) => line.startsWith('### Cost'));
    const text = [...lines.slice(0, cost), ...lines.slice(cost + 8)].filter((line) => !line.startsWith('Written by'));
    return { json: kept, text, sittings: json.sittings };
  }

  it('that is killed and started again makes the same report as one that is not', { timeout: 300_000 }, async () => {
    const [whole, killed] = [join(folder, 'whole'), join(folder, 'killed')];
    const lines = await run(whole);
    // Two learning rates and the one beyond the better; the arm; two starts of two stages.
    expect(lines).toHaveLength(3 + 1 + 4);
    expect(lines.at(-1)).toContain('about   0.0 left');
    await run(killed, 2);
    expect(existsSync(join(killed, 'report'))).toBe(false);
    await run(killed);
    const [expected, found] = [await reportOf(whole), await reportOf(killed)];
    expect(found.json).toBe(expected.json);
    expect(found.text).toEqual(expected.text);
    expect(expected.text.length).toBeGreaterThan(50);
    expect([expected.sittings, found.sittings]).toEqual([1, 2]);
  });
});

it('a job whose training diverges has that as its result', async () => {
  const made = join(folder, 'diverging');
  const data = join(folder, 'train.jsonl');
  await mkdir(made);
  const documents = rawDocuments(1, SETTLED[0], 'train');
  const lines = Array.from({ length: 64 }, () => `${JSON.stringify(documents.next().value)}\n`);
  await writeFile(data, lines.join(''));
  const result = await runJob(made, {
    ...{ name: 'stability/wild/1', model: BASE, evaluateAt: [9], heldOut: data, thoughts: 1, maxThoughtTokens: 4 },
    settings: { data: [data], ...armNamed('cpt').settings, learningRate: 1e30, steps: 9, seed: 1 },
    ...{ keepCheckpoint: true, made: { code: '', data: '', start: '' } },
  });
  expect(result).toMatchObject({ name: 'stability/wild/1', curve: [] });
  expect(result.diverged).toMatch(/^step \d: (loss|gradient).*(NaN|Infinity)$/);
  expect(result.checkpoint).toBeUndefined();
  expect(await readResult(made)).toEqual(result);
});

describe('a pool', () => {
  const job: Job = {
    ...{ name: 'arms/a/1', model: 'nowhere', settings: { steps: 1, data: ['none'] }, evaluateAt: [1] },
    ...{ heldOut: 'none', thoughts: 1, maxThoughtTokens: 1, keepCheckpoint: false },
    made: { code: 'c', data: 'd', start: 's' },
  };
  const result: JobResult = {
    ...{ name: 'arms/a/1', curve: [], trainedTokens: 0, sampledTokens: 0 },
    ...{ seconds: 1, evaluationSeconds: 1, wallSeconds: 1 },
  };
  async function doneFolder(name: string): Promise<string> {
    const made = join(folder, name);
    await mkdir(made, { recursive: true });
    await writeFile(join(made, 'job.json'), `${JSON.stringify(job, null, 2)}\n`);
    await writeFile(join(made, 'result.json'), JSON.stringify(result));
    return made;
  }

  it('does not run again what is done', async () => {
    using pool = new WorkerPool(1);
    const told: unknown[] = [];
    await pool.run([{ job, folder: await doneFolder('done') }], (...args) => told.push(args.slice(1)));
    expect(told).toEqual([[result, false]]);
  });

  it('runs again what is of another code, text or start, and names what failed', async () => {
    using pool = new WorkerPool(1);
    for (const of of ['code', 'data', 'start'] as const) {
      const made = await doneFolder(`other-${of}`);
      const other = { ...job, made: { ...job.made, [of]: 'other' } };
      const run = pool.run([{ job: other, folder: made }], () => undefined);
      await expect(run).rejects.toThrow(`job arms/a/1 failed, in ${made}: `);
      expect(existsSync(join(made, 'result.json'))).toBe(false);
    }
  });
});

describe('an evaluation', () => {
  let exported: string;
  let session: ort.InferenceSession;
  let data: string;
  const documents = SETTLED.flatMap((family) => {
    const made = rawDocuments(77, family, 'held-out');
    return [made.next().value, made.next().value];
  });
  beforeAll(async () => {
    exported = join(folder, 'exported');
    await exportCheckpoint({ checkpoint: BASE, out: exported });
    session = await ort.InferenceSession.create(join(exported, 'model.onnx'), { logSeverityLevel: 3 });
    data = join(folder, 'documents.jsonl');
    await writeFile(data, documents.map((document) => `${JSON.stringify(document)}\n`).join(''));
  });
  afterAll(() => session.release());

  /** log p of every token of the vocabulary after each token, by model.onnx in plain onnxruntime-node. */
  async function logProbs(tokens: readonly number[]): Promise<number[][]> {
    const int64 = (values: readonly number[]) => new ort.Tensor('int64', values.map(BigInt), [1, tokens.length]);
    const { numKvHeads, headDim, vocabSize } = (await openModel(exported)).config;
    const past = session.inputNames.filter((name) => name.startsWith('past_key_values'));
    const { logits } = await session.run({
      input_ids: int64(tokens),
      attention_mask: int64(tokens.map(() => 1)),
      position_ids: int64(tokens.map((_, i) => i)),
      ...Object.fromEntries(past.map((name) => [name, new ort.Tensor('float32', [], [1, numKvHeads, 0, headDim])])),
    });
    return tokens.map((_, i) => {
      const row = Array.from((logits.data as Float32Array).subarray(i * vocabSize, (i + 1) * vocabSize));
      const most = Math.max(...row);
      const norm = most + Math.log(row.reduce((sum, x) => sum + Math.exp(x - most), 0));
      return row.map((x) => x - norm);
    });
  }
  const bytes = (text: string) => [...Buffer.from(text)];
  const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
  const options = (out: string) => ({
    ...{ data, out: join(folder, out), thoughts: 2, maxThoughtTokens: 4, threads: 1 },
  });

  it('agrees with model.onnx in plain onnxruntime', async () => {
    const tokenizer = await loadTokenizer(BASE);
    const { open, close } = tokenizer.thinkTokens();
    const found = await evaluate(BASE, options('thoughts.arrow'));
    const rows = [];
    for await (const batch of await readRollouts(join(folder, 'thoughts.arrow'))) rows.push(...batch);
    const text: number[] = [];
    const unopened: number[] = [];
    for (const document of documents) {
      const tokens = bytes(document.text);
      expect(Array.from(tokenizer.encode(document.text))).toEqual(tokens);
      const after = await logProbs(tokens);
      const own = tokens.slice(1).map((token, i) => after[i][token]);
      text.push(...own.map((logProb) => -logProb));
      unopened.push(...own.map((logProb, i) => Math.log(1 - Math.exp(after[i][open[0]])) - logProb));
    }
    expect(found.textCrossEntropy).toBeCloseTo(mean(text), 4);
    expect(found.textCrossEntropyUnopened).toBeCloseTo(mean(unopened), 4);

    for (const { name } of SETTLED) {
      const scores = found.families[name];
      const questions: number[] = [];
      const figures = { direct: [] as number[], opens: [] as number[], gain: [] as number[], unopened: [] as number[] };
      for (const { id, prompt, answer } of documents.filter((document) => document.id.startsWith(name))) {
        const [right] = bytes(answer);
        const last = (await logProbs(bytes(prompt))).at(-1) as number[];
        const opens = Math.exp(last[open[0]]);
        const exact: number[] = [];
        for (const { thoughtTokens, finishReason } of rows.filter(({ documentId }) => documentId === id)) {
          const thought = [...open, ...thoughtTokens, ...(finishReason === 'closed' ? [] : close)];
          const reasoned = ((await logProbs([...bytes(prompt), ...thought])).at(-1) as number[])[right];
          exact.push(Math.exp(reasoned));
          figures.gain.push(reasoned - last[right]);
          figures.unopened.push(reasoned - (last[right] - Math.log(1 - opens)));
        }
        expect(exact).toHaveLength(2);
        questions.push(mean(exact));
        figures.direct.push(Math.exp(last[right]) / (1 - opens));
        figures.opens.push(opens);
      }
      expect(scores.questions).toHaveLength(2);
      for (const [i, question] of scores.questions.entries()) expect(question).toBeCloseTo(questions[i], 4);
      expect(scores.thinking).toBeCloseTo(mean(questions), 4);
      expect(scores.direct).toBeCloseTo(mean(figures.direct), 4);
      expect(scores.opens).toBeCloseTo(mean(figures.opens), 4);
      expect(scores.gain).toBeCloseTo(mean(figures.gain), 3);
      expect(scores.gainUnopened).toBeCloseTo(mean(figures.unopened), 3);
    }
  });

  it('tells the gain apart by what characters say', async () => {
    const diary = documents.filter(({ id }) => id.startsWith('diary')).slice(0, 1);
    const [{ text }] = diary;
    const file = join(folder, 'diary.jsonl');
    await writeFile(file, `${JSON.stringify(diary[0])}\n`);
    const kinds = await gainByKind(BASE, { ...options('everywhere.arrow'), data: file }, SETTLED);
    expect(kinds.reduce((sum, { count }) => sum + count, 0)).toBe(text.length - 1);
    // One character has no thought before it: the first, of the sentence before.
    const labels = SETTLED.find(({ name }) => name === 'diary')?.kinds?.(text) ?? [];
    for (const { kind, count } of kinds)
      expect(count, kind).toBe(labels.slice(1).filter((label) => label === kind).length);
    const { open } = (await loadTokenizer(BASE)).thinkTokens();
    const after = await logProbs(bytes(text));
    const at = labels.indexOf('the answer');
    const surprise = Math.log(1 - Math.exp(after[at - 1][open[0]])) - after[at - 1][bytes(text)[at]];
    expect(kinds.find(({ kind }) => kind === 'the answer')?.surprise).toBeCloseTo(surprise, 4);
  });
});

describe('the clock', () => {
  it('estimates from what an earlier run measured, and scales by what this one takes', async () => {
    const file = join(folder, 'reproduction.json');
    const run = (name: string, seconds: number) => ({
      ...{ name, seconds, curve: [{ step: 10 }, { step: 20 }], evaluationSeconds: 6 },
    });
    const results = { 'arms/rlp-ema/1': run('arms/rlp-ema/1', 40), 'arms/rlp-ema/2': run('arms/rlp-ema/2', 80) };
    await writeFile(file, JSON.stringify({ studies: [{ name: 'settled', results }] }));
    const costs = await readCosts(file);
    const job = (name: string) =>
      ({ name, settings: { steps: 100, objective: 'rlp' }, evaluateAt: [50, 100] }) as unknown as Job;
    // 3 s a step, 3 s an evaluation, 1.5 s to start.
    for (const name of ['arms/rlp-ema/7', 'sweep/rlp-ema/0.1', 'ablations/new/7']) {
      expect(costs('settled', job(name)), name).toBeCloseTo(1.5 + 300 + 6, 10);
    }
    expect((await readCosts(join(folder, 'nothing.json')))('settled', job('arms/rlp-ema/7'))).toBeGreaterThan(0);

    const clock = await Clock.open(join(folder, 'time.json'), 'code', 2);
    for (const name of ['a', 'b', 'c', 'd']) clock.expect(name, 60);
    expect(clock.left).toBe(2);
    clock.done('a', { wallSeconds: 30 }, false); // of an earlier sitting: says nothing of this machine's pace
    expect(clock.left).toBe(1.5);
    clock.done('b', { wallSeconds: 120 }, true);
    expect(clock.left).toBe(2);
    expect(clock.total.sittings).toBe(1);
    const again = await Clock.open(join(folder, 'time.json'), 'code', 2);
    again.done('c', { wallSeconds: 1 }, true);
    expect(again.total.sittings).toBe(2);
    expect((await Clock.open(join(folder, 'time.json'), 'other code', 2)).total).toEqual({ minutes: 0, sittings: 0 });
  });
});
