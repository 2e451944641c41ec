import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createWriteStream, existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Job, type JobResult, readResult } from './job.ts';

const WORKER = fileURLToPath(new URL('job.ts', import.meta.url));

export interface PoolOptions {
  /** Folder of the jobs' folders. */
  out: string;
  processes: number;
  onDone?: (result: JobResult, done: number, total: number) => void;
}

/**
 * Runs jobs in processes of one thread each: matrices of a tiny model are too small to share among threads. Jobs that are
 * done already, with the same settings, are not run again; those with other settings are.
 */
export async function runJobs(jobs: readonly Job[], options: PoolOptions): Promise<Map<string, JobResult>> {
  const results = new Map<string, JobResult>();
  const waiting = [...jobs];
  const worker = async () => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) {
      const result = await runInProcess(job, join(options.out, job.name));
      results.set(job.name, result);
      options.onDone?.(result, results.size, jobs.length);
    }
  };
  await Promise.all(Array.from({ length: options.processes }, worker));
  return results;
}

async function runInProcess(job: Job, folder: string): Promise<JobResult> {
  const description = join(folder, 'job.json');
  const text = `${JSON.stringify(job, null, 2)}\n`;
  if (existsSync(description) && (await readFile(description, 'utf8')) !== text) await rm(folder, { recursive: true });
  const earlier = await readResult(folder);
  if (earlier !== undefined) return earlier;
  await mkdir(folder, { recursive: true });
  await writeFile(description, text);
  const log = createWriteStream(join(folder, 'log.txt'), { flags: 'a' });
  await once(log, 'open');
  const child = spawn(process.execPath, ['--import', 'tsx', WORKER, folder], { stdio: ['ignore', log, log] });
  const [code] = await once(child, 'close');
  log.end();
  const result = await readResult(folder);
  if (code !== 0 || result === undefined) throw new Error(`job ${job.name} failed: see ${join(folder, 'log.txt')}`);
  return result;
}
