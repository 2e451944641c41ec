import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { trainSchema } from '../../src/config.ts';
import { cptDocument, TrainingSession } from '../../src/optim/index.ts';
import { planMemory } from '../../src/train/memory-plan.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { randomWeights } from '../../test/fixtures/tiny-model.ts';
import { trainingArtifacts } from '../../test/fixtures/training.ts';
import { MODEL_29M } from './shapes.ts';

/**
 * Peak memory of forward and backward against tokens and vocabulary, and what was planned: the process's high-water mark over
 * what was resident before the first step (Linux). A fresh process per line. `forward`: a pass without gradients.
 *
 *     npx tsx scripts/bench/train-memory.ts [--lines 4x256,1x1024:151936:recompute,...]
 */
const LINES =
  '4x256,1x1024,2x1024,4x1024,1x1024:recompute,4x1024:recompute,1x1024:151936,1x1024:151936:recompute,4x1024:151936:recompute';
const { values: args } = parseArgs({
  options: { lines: { type: 'string', default: LINES }, line: { type: 'string' } },
});
const MIB = 2 ** 20;
/** What is freed goes back to the system, and is not taken for memory that the step did not need. */
const env = { ...process.env, MALLOC_MMAP_THRESHOLD_: '65536' };

function parse(line: string) {
  const [size, ...options] = line.split(':');
  const [documents, length] = size.split('x').map(Number);
  const vocabSize = Number(options.find((option) => /^\d+$/.test(option)) ?? MODEL_29M.vocabSize);
  const dtype = options.includes('float16') ? ('float16' as const) : ('float32' as const);
  const [recompute, forward] = ['recompute', 'forward'].map((option) => options.includes(option));
  return { documents, length, recompute, forward, dtype, model: { ...MODEL_29M, vocabSize } };
}

/** Bytes resident now (VmRSS), or at most since the mark was reset (VmHWM). */
const resident = (which: 'VmRSS' | 'VmHWM'): number =>
  1024 * Number(new RegExp(`${which}:\\s+(\\d+)`).exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? Number.NaN);

/** In a process of its own: prints the bytes by which the mark rose. */
async function measure(line: string): Promise<void> {
  const { documents, length, recompute, forward, dtype, model } = parse(line);
  const artifacts = trainingArtifacts(model, { recompute, dtype, forCpu: true });
  using session = await TrainingSession.create(artifacts, randomWeights(model));
  const targets = documents * (length - 1);
  const text = (seed: number) => Array.from({ length }, (_, i) => (i * 131 + seed * 17) % model.vocabSize);
  const batch = buildTreeBatch(Array.from({ length: documents }, (_, i) => cptDocument(text(i), targets)));
  globalThis.gc?.(); // the weights as they were read
  writeFileSync('/proc/self/clear_refs', '5'); // resets the mark
  const before = resident('VmRSS');
  for (let run = 0; run < 2; run++) await (forward ? session.runEvalStep(batch) : session.runTrainStep(batch));
  console.log(resident('VmHWM') - before);
}

if (args.line !== undefined) await measure(args.line);
else {
  console.log(
    '| tokens | vocabulary | | measured | planned | error of the plan |\n| --- | --- | --- | --- | --- | --- |',
  );
  for (const line of args.lines.split(',')) {
    const { documents, length, recompute, forward, dtype, model } = parse(line);
    const self = ['--expose-gc', ...process.execArgv, fileURLToPath(import.meta.url), '--line', line];
    const measured = Number(execFileSync(process.execPath, self, { encoding: 'utf8', env }));
    const settings = {
      objective: 'cpt',
      blockLength: length,
      microBatchTokens: documents * length,
      recompute,
      dtype,
      ...(forward && { evalData: ['-'] }),
    } as const;
    const plan = planMemory(
      model,
      trainSchema.parse({ model: '-', data: ['-'], run: '-', batchTokens: documents * length, ...settings }),
    );
    const planned = forward ? plan.scoring : plan.activations + plan.head;
    const mebibytes = (bytes: number) => `${(bytes / MIB).toFixed(0)} MiB`;
    const error = `${planned >= measured ? '+' : ''}${(100 * (planned / measured - 1)).toFixed(0)}%`;
    const cells = [
      `${documents} x ${length}`,
      model.vocabSize,
      [forward && 'forward', recompute && '`--recompute`', dtype === 'float16' && dtype].filter(Boolean).join(' '),
      mebibytes(measured),
      mebibytes(planned),
      error,
    ];
    console.log(`| ${cells.join(' | ')} |`);
  }
}
