import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

/**
 * All benchmarks that need nothing but this repository, a process each. What they claim are ratios, measured in turns: the
 * rates beside them belong to this machine and to what else runs on it.
 *
 *     npm run bench
 */
const BENCHMARKS = [
  ['Matrix products: the limit of this machine', 'gemm-roofline.ts'],
  ['Rollouts: decoding', 'rollout.ts'],
  ['Rollouts: sampling beside the LM head', 'sampling.ts'],
  ['Training: forward, backward, optimizer', 'train.ts'],
] as const;

console.log(`Node.js ${process.versions.node}, ${cpus().length} threads of ${cpus()[0]?.model.trim()}`);
for (const [title, file] of BENCHMARKS) {
  console.log(`\n== ${title} (scripts/bench/${file})`);
  const script = fileURLToPath(new URL(file, import.meta.url));
  // execArgv has what lets this process read TypeScript.
  const { status } = spawnSync(process.execPath, [...process.execArgv, script], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
