import { join } from 'node:path';
import { type Job, type JobResult, readJson, runJob } from './job.ts';

/**
 * A process that runs one job after the other, each in a folder with its job.json: what a start costs is paid once. Ends with
 * the process that started it.
 */
export type WorkerAnswer = { result: JobResult } | { error: string };

process.on('message', async (folder: string) => {
  const answer: WorkerAnswer = await readJson<Job>(join(folder, 'job.json'))
    .then((job) => runJob(folder, job))
    .then(
      (result) => ({ result }),
      (thrown) => ({ error: thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown) }),
    );
  process.send?.(answer);
});
process.on('disconnect', () => process.exit());
