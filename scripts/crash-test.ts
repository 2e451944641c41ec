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
import { listCheckpoints, readMetrics } from '../src/run-folder.ts';

/**
 * Kills the program with SIGKILL at random moments, resumes it, and compares what it leaves with what an undisturbed run
 * leaves: a training run of 30 steps on the tiny model (last checkpoint, thoughts and figures), and a rollout (its file).
 *
 *     npx tsx scripts/crash-test.ts [train] [rollout] [--kills 20] [--seed 0]
 *
 * A line for every kill; exit code 1 if a resume ended otherwise than the undisturbed run.
 */
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { kills: { type: 'string', default: '20' }, seed: { type: 'string', default: '0' } },
});
const kills = Number(values.kills);
const jobs = positionals.length > 0 ? positionals : ['train', 'rollout'];

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
  /** Everything that an undisturbed run has to leave as well. */
  result: (path: string) => Promise<string>;
}

const sha256 = (bytes: Buffer | string) => createHash('sha256').update(bytes).digest('hex');

function hashFolder(path: string): string {
  const files = readdirSync(path, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).sort();
  return sha256(paths.map((file) => `${file.slice(path.length)} ${sha256(readFileSync(file))}\n`).join(''));
}

const STEPS = 30;
const trainJob: Job = {
  start: [
    ...['train', '--model', TINY, '--data', `${TINY}/corpus/train.jsonl`, '--run', run, '--limit', '32', ...THINKING],
    ...['--eval-data', `${TINY}/corpus/held-out.jsonl`, '--steps', String(STEPS), '--documents-per-step', '4'],
    ...['--group-size', '4', '--learning-rate', '1e-4', '--eval-every', '30'],
    ...['--checkpoint-every', '4', '--keep-checkpoints', '2'],
  ],
  resume: ['train', '--run', run, '--resume'],
  begun: () => existsSync(join(run, 'metrics.jsonl')),
  async state() {
    const step = (await readMetrics(run)).at(-1)?.step ?? 0;
    const checkpoint = (await listCheckpoints(run)).at(-1)?.step ?? 'none';
    const writing = readdirSync(join(run, 'checkpoints')).some((name) => name.includes('.partial-'));
    return `step ${step}, checkpoint ${checkpoint}${writing ? ', writing one' : ''}`;
  },
  async result(path) {
    const figures = (await readMetrics(path)).map((row) =>
      Object.entries(row).filter(([name]) => !/^(time\/|step_time$)|_per_second|tokens\/s/.test(name)),
    );
    const checkpoints = (await listCheckpoints(path)).map((found) => [found.step, hashFolder(found.path)]);
    const leftovers = readdirSync(path, { recursive: true }).filter((name) => /\.partial|lock/.test(String(name)));
    return JSON.stringify([checkpoints, hashFolder(join(path, 'rollouts')), figures, leftovers]);
  },
};

const rolloutArgs = [
  ...['rollout', '--model', TINY, '--data', `${TINY}/corpus/train.jsonl`, '--limit', '300', ...THINKING],
  ...['--group-size', '8', '--documents-per-batch', '3', '--out', run],
];
const rolloutJob: Job = {
  start: rolloutArgs,
  resume: [...rolloutArgs, '--resume'],
  begun: () => existsSync(partialPath(run)),
  async state() {
    const { batches, rows } = await readRollouts(existsSync(run) ? run : partialPath(run));
    return `batch ${batches}, ${rows} rows`;
  },
  result: async (path) =>
    JSON.stringify([sha256(readFileSync(path)), existsSync(partialPath(path)), existsSync(`${path}.lock`)]),
};

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
  const expected = await job.result(whole);
  print(`${name}: the undisturbed run wrote for ${duration.toFixed(2)} s`);
  const random = new Random(Number(values.seed), name);
  let differing = 0;
  for (let kill = 1; kill <= kills; ) {
    clear();
    const seconds = random.float() * duration;
    if (!(await startAndKill(job, seconds))) continue; // it was quicker this time: another moment
    const state = await job.state();
    await runToEnd(job, job.resume);
    const same = (await job.result(run)) === expected;
    if (!same) differing++;
    print(
      `${name} ${kill}: killed after ${seconds.toFixed(2)} s (${state}); resumed: ${same ? 'the same' : 'DIFFERS'}`,
    );
    kill++;
  }
  print(`${name}: ${kills - differing} of ${kills} the same\n`);
  return differing;
}

let differing = 0;
try {
  if (jobs.includes('train')) differing += await crashTest('train', trainJob);
  if (jobs.includes('rollout')) differing += await crashTest('rollout', rolloutJob);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
process.exitCode = differing === 0 ? 0 : 1;
