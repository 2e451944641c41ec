import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Job, type JobResult, readResult } from './job.ts';
import type { WorkerAnswer } from './worker.ts';

const WORKER = fileURLToPath(new URL('worker.ts', import.meta.url));

/** A job and the folder that it has for itself. */
export interface Task {
  job: Job;
  folder: string;
}

/** Processes of one thread each that run jobs: matrices of a tiny model are too small to share among threads. */
export class WorkerPool implements Disposable {
  readonly #processes: number;
  readonly #workers: ChildProcess[] = [];

  constructor(processes: number) {
    this.#processes = processes;
  }

  /**
   * Runs jobs in their order, as many at a time as there are processes. What is done already, with the same settings, code, text
   * and start, is not run again; what is there of another job is removed.
   * @param onDone told of every job that is done; `fresh` if it was not before
   * @throws Error that names the first job that failed
   */
  async run<T extends Task>(
    tasks: readonly T[],
    onDone: (task: T, result: JobResult, fresh: boolean) => void,
  ): Promise<void> {
    const waiting = [...tasks];
    const lane = async (i: number) => {
      for (let task = waiting.shift(); task !== undefined; task = waiting.shift()) {
        const earlier = await prepare(task);
        onDone(task, earlier ?? (await this.#runIn(i, task)), earlier === undefined);
      }
    };
    await Promise.all(Array.from({ length: this.#processes }, (_, i) => lane(i)));
  }

  async #runIn(i: number, { job, folder }: Task): Promise<JobResult> {
    this.#workers[i] ??= fork(WORKER, [], { execArgv: ['--import', 'tsx'] });
    const worker = this.#workers[i];
    worker.send(folder);
    const abort = new AbortController();
    const { signal } = abort;
    const ended = once(worker, 'exit', { signal }).then(([code, ended]): WorkerAnswer => {
      return { error: `its process ended (${ended ?? `exit code ${code}`})` };
    });
    try {
      const answer = await Promise.race([
        once(worker, 'message', { signal }).then(([one]) => one as WorkerAnswer),
        ended,
      ]);
      if ('error' in answer) throw new Error(`job ${job.name} failed, in ${folder}: ${answer.error}`);
      return answer.result;
    } finally {
      ended.catch(() => undefined); // the end of a wait, not of the process
      abort.abort();
    }
  }

  [Symbol.dispose](): void {
    for (const worker of this.#workers) worker?.kill();
  }
}

/** Leaves the folder as the job's; returns the result if it is done. */
async function prepare({ job, folder }: Task): Promise<JobResult | undefined> {
  const description = join(folder, 'job.json');
  const text = `${JSON.stringify(job, null, 2)}\n`;
  if (existsSync(folder) && !(existsSync(description) && (await readFile(description, 'utf8')) === text)) {
    await rm(folder, { recursive: true });
  }
  const earlier = await readResult(folder);
  if (earlier !== undefined) return earlier;
  await mkdir(folder, { recursive: true });
  await writeFile(description, text);
  return undefined;
}
