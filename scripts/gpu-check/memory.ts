import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);
const PERIOD_MS = 250;

/** Memory of the GPU in use, MiB, by NVIDIA's own tool; undefined where that is not there. */
export async function gpuMemory(id: number): Promise<number | undefined> {
  try {
    const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits', `--id=${id}`];
    return Number((await run('nvidia-smi', query)).stdout);
  } catch {
    return undefined;
  }
}

/** The most that was in use while `work` ran: of the GPU, or of this process where there is none. */
export async function withPeakMemory<T>(
  gpu: number | undefined,
  work: () => Promise<T>,
): Promise<{ result: T; mebibytes: number }> {
  let peak = 0;
  const look = async () => {
    const now = gpu === undefined ? process.memoryUsage().rss / 2 ** 20 : await gpuMemory(gpu);
    peak = Math.max(peak, now ?? Number.NaN);
  };
  const timer = setInterval(look, PERIOD_MS);
  try {
    const result = await work();
    await look();
    return { result, mebibytes: peak };
  } finally {
    clearInterval(timer);
  }
}
