import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { partialPath, readRollouts } from '../src/arrow.ts';
import { Random } from '../src/random.ts';
import type { RolloutRecord } from '../src/records.ts';
import { listCheckpoints, readMetrics } from '../src/run-folder.ts';

/**
 * Kills the program with SIGKILL at random moments, resumes it, and compares what it leaves with what an undisturbed run
 * leaves: of a training run of 30 steps on the tiny model the checkpoints and thoughts byte by byte and the figures, of a
 * rollout its rows.
 *
 *     npx tsx scripts/crash-test.ts [rlp] [cpt] [lora] [rollout] [--kills 20] [--seed 0] [--threads 1]
 *
 * A line for every kill; exit code 1 if a resume ended otherwise than the undisturbed run.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    kills: { type: 'string', default: '20' },
    seed: { type: 'string', default: '0' },
    threads: { type: 'string' },
  },
});
const kills = Number(values.kills);
const threads = values.threads === undefined ? [] : ['--threads', values.threads];

const TINY = 'models/tiny-qwen3';
const THINKING = ['--position-strategy', 'column', '--max-thought-tokens', '10', '--temperature', '1'];

const folder = mkdtempSync(join(tmpdir(), 'rlp-ort-crash-'));
const run = join(folder, 'run');
const whole = join(folder, 'whole');
const print = (text: string) => process.stdout.write(`${text}\n`);

/** A job: what it runs, when it has begun to write, and what it leaves. */
interface Job {
  start: readonly string[];
  resume: readonly string[];
  begun: () => boolean;
  /** Where it was killed, in words. */
  state: () => Promise<string>;
  /** How what was resumed differs from what the undisturbed run left; undefined where it does not. */
  difference: () => Promise<string | undefined>;
}

const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex');

function hashFolder(path: string): string {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return sha256(paths.map((file) => `${file.slice(path.length)} ${sha256(readFileSync(file))}\n`).join(''));
}

const STEPS = 30;
const TIMES = /^(time\/|step_time$|tokens_per_second\/)/;
const trainJob = (objective: readonly string[]): Job => ({
  start: [
    ...['train', '--model', TINY, '--data', `${TINY}/corpus/train.jsonl`, '--run', run, ...objective],
    ...['--eval-data', `${TINY}/corpus/held-out.jsonl`, '--eval-every', '30', '--eval-limit', '32'],
    ...['--steps', String(STEPS), '--learning-rate', '1e-4', '--checkpoint-every', '4', '--keep-checkpoints', '2'],
    ...threads,
  ],
  resume: ['train', '--run', run, '--resume'],
  begun: () => existsSync(join(run, 'metrics.jsonl')),
  async state() {
    const step = (await readMetrics(run)).at(-1)?.step ?? 0;
    const checkpoint = (await listCheckpoints(run)).at(-1)?.step ?? 'none';
    const writing = readdirSync(join(run, 'checkpoints')).some((name) => name.includes('.partial-'));
    return `step ${step}, checkpoint ${checkpoint}${writing ? ', writing one' : ''}`;
  },
  async difference() {
    const figures = async (path: string) =>
      JSON.stringify((await readMetrics(path)).map((row) => Object.entries(row).filter(([name]) => !TIMES.test(name))));
    const checkpoints = async (path: string) =>
      JSON.stringify((await listCheckpoints(path)).map((found) => [found.step, hashFolder(found.path)]));
    if ((await checkpoints(run)) !== (await checkpoints(whole))) return 'the checkpoints';
    if (hashFolder(join(run, 'rollouts')) !== hashFolder(join(whole, 'rollouts'))) return 'the thoughts';
    if ((await figures(run)) !== (await figures(whole))) return 'the figures';
    const leftover = readdirSync(run, { recursive: true }).find((name) => /\.partial|lock$/.test(String(name)));
    return leftover === undefined ? undefined : `${leftover} is left over`;
  },
});
const RLP = ['--limit', '16', ...THINKING, '--documents-per-step', '2', '--group-size', '4'];
const CPT = ['--objective', 'cpt', '--block-length', '64', '--batch-tokens', '512'];

const rolloutArgs = [
  ...['rollout', '--model', TINY, '--data', `${TINY}/corpus/train.jsonl`, '--limit', '150', ...THINKING],
  ...['--group-size', '8', '--documents-per-batch', '3', '--out', run, ...threads],
];
const rolloutJob: Job = {
  start: rolloutArgs,
  resume: [...rolloutArgs, '--resume'],
  begun: () => existsSync(partialPath(run)),
  async state() {
    const { batches, rows } = await readRollouts(existsSync(run) ? run : partialPath(run));
    return `batch ${batches}, ${rows} rows`;
  },
  async difference() {
    const [found, expected] = [await rowsOf(run), await rowsOf(whole)];
    if (found.length !== expected.length) return `${found.length} rows instead of ${expected.length}`;
    for (const [i, row] of found.entries()) {
      if (identity(row) !== identity(expected[i]))
        return `row ${i}: ${identity(row)} instead of ${identity(expected[i])}`;
      const distance = Math.max(...numbersOf(row).map((value, n) => Math.abs(value - numbersOf(expected[i])[n])));
      if (distance > ROUNDING) return `row ${i}: a log-prob by ${distance}`;
    }
    return existsSync(partialPath(run)) || existsSync(`${run}.lock`)
      ? 'a partial file or a lock is left over'
      : undefined;
  },
};

/** Which documents are computed side by side decides the last bits of log-probs, and a resume starts with others. */
const ROUNDING = 1e-5;

async function rowsOf(path: string): Promise<RolloutRecord[]> {
  const rows: RolloutRecord[] = [];
  for await (const batch of await readRollouts(path)) rows.push(...batch);
  return rows;
}

const identity = ({ documentId, position, rollout, thoughtTokens, targetTokens, finishReason }: RolloutRecord) =>
  `${documentId} ${position} ${rollout} ${thoughtTokens.join(' ')} ${targetTokens.join(' ')} ${finishReason}`;

const numbersOf = (row: RolloutRecord): number[] => [
  ...[...row.thoughtLogProbs, ...row.samplingLogProbs, ...row.reasonedLogProbs, ...row.baselineLogProbs],
  ...[row.reward, row.advantage],
];

function start(args: readonly string[]) {
  const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let message = '';
  child.stderr.on('data', (text) => {
    message += text;
  });
  return { child, ended: once(child, 'close'), message: () => message };
}

/** Runs to the end; returns the seconds since it began to write. */
async function runToEnd(job: Job, args: readonly string[]): Promise<number> {
  const { child, ended, message } = start(args);
  while (!job.begun() && child.exitCode === null) await sleep(1);
  const from = performance.now();
  await ended;
  if (child.exitCode !== 0) throw new Error(`rlp-ort ${args.join(' ')} failed:\n${message()}`);
  return (performance.now() - from) / 1000;
}

/** Kills a fresh run `seconds` after it began to write. False if it had ended by then. */
async function startAndKill(job: Job, seconds: number): Promise<boolean> {
  const { child, ended, message } = start(job.start);
  while (!job.begun() && child.exitCode === null) await sleep(1);
  await Promise.race([sleep(1000 * seconds), ended]);
  child.kill('SIGKILL');
  const [code] = await ended;
  if (code !== null && code !== 0) throw new Error(`the run failed by itself:\n${message()}`);
  return code === null;
}

function clear(): void {
  for (const path of [run, partialPath(run), `${run}.lock`]) rmSync(path, { recursive: true, force: true });
}

async function crashTest(name: string, job: Job): Promise<number> {
  clear();
  rmSync(whole, { recursive: true, force: true });
  const duration = await runToEnd(job, job.start);
  renameSync(run, whole);
  print(`${name}: the undisturbed run wrote for ${duration.toFixed(2)} s`);
  const random = new Random(Number(values.seed), name);
  let differing = 0;
  for (let kill = 1; kill <= kills; ) {
    clear();
    const seconds = random.float() * duration;
    if (!(await startAndKill(job, seconds))) continue; // it was quicker this time: another moment
    const state = await job.state();
    await runToEnd(job, job.resume);
    const difference = await job.difference();
    if (difference !== undefined) differing++;
    const outcome = difference === undefined ? 'the same' : `DIFFERS: ${difference}`;
    print(`${name} ${kill}: killed after ${seconds.toFixed(2)} s (${state}); resumed: ${outcome}`);
    kill++;
  }
  print(`${name}: ${kills - differing} of ${kills} the same\n`);
  return differing;
}

const JOBS: Record<string, Job> = {
  rlp: trainJob(RLP),
  cpt: trainJob(CPT),
  lora: trainJob([...CPT, '--lora-rank', '4']),
  rollout: rolloutJob,
};

let differing = 0;
try {
  for (const name of positionals.length > 0 ? positionals : Object.keys(JOBS)) {
    const job = JOBS[name];
    if (job === undefined) throw new Error(`no job ${name}: ${Object.keys(JOBS).join(', ')}`);
    differing += await crashTest(name, job);
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = differing === 0 ? 0 : 1;
