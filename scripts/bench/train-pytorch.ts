import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MICRO_BATCH_TOKENS, packMicroBatches } from '../../src/micro-batches.ts';
import { openModel } from '../../src/model-directory.ts';
import { cptDocument, TrainingSession } from '../../src/optim/index.ts';
import { buildTreeBatch } from '../../src/tree-batch.ts';
import { writeRandomCheckpoint } from './random-checkpoint.ts';
import { MODEL_29M } from './shapes.ts';

/**
 * The same training step here and in PyTorch, on the same cores, from the same weights, in turns: forward and backward of
 * next-token cross-entropy over all tokens, clipping, AdamW.
 *
 *     npx tsx scripts/bench/train-pytorch.ts --python PYTHON_WITH_TORCH_AND_TRANSFORMERS
 *         [--documents 4] [--length 256] [--rounds 5] [--threads 2] [--compile] [--ema]
 *
 * Ours goes in micro-batches as `train` takes them, PyTorch's as a whole. The step is that of CPT; with --ema both keep a moving average of the weights and its distance from them, as RLP does.
 */
const { values: args } = parseArgs({
  options: {
    python: { type: 'string', default: 'python3' },
    documents: { type: 'string', default: '4' },
    length: { type: 'string', default: '256' },
    rounds: { type: 'string', default: '5' },
    threads: { type: 'string', default: '2' },
    compile: { type: 'boolean', default: false },
    ema: { type: 'boolean', default: false },
  },
});
const [documents, length, rounds, threads] = [args.documents, args.length, args.rounds, args.threads].map(Number);
/** Both start from the same weights and round differently. */
const TOLERANCE = 1e-4;
const WARM_UP = 2;
const SETTINGS = { learningRate: 1e-6, beta1: 0.9, beta2: 0.95, weightDecay: 0.1, maxGradNorm: 1, emaDecay: 0.999 };

interface Step {
  loss: number;
  /** Forward and backward, milliseconds. */
  step: number;
  /** Clipping and AdamW, milliseconds. */
  optimizer: number;
}

function openPeer(checkpoint: string) {
  const script = fileURLToPath(new URL('train-pytorch.py', import.meta.url));
  const sizes = [args.threads, args.documents, args.length];
  const options = (['compile', 'ema'] as const).filter((name) => args[name]);
  const child = spawn(args.python, [script, checkpoint, ...sizes, ...options], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  return {
    async step(): Promise<Step> {
      child.stdin.write('\n');
      const { value, done } = await lines.next();
      if (done === true) throw new Error(`${args.python} ${script} ended; does it have torch and transformers?`);
      return JSON.parse(value);
    },
    close: () => child.stdin.end(),
  };
}

async function openOurs(checkpoint: string) {
  const model = await openModel(checkpoint, { ema: args.ema, forCpu: true });
  const session = await TrainingSession.create(model.trainingArtifacts, await model.loadWeights(), {
    intraOpThreads: threads,
  });
  const targets = documents * (length - 1);
  const text = (d: number) => Array.from({ length }, (_, t) => (t * 131 + d * 17) % MODEL_29M.vocabSize);
  const blocks = Array.from({ length: documents }, (_, d) => cptDocument(text(d), targets));
  const batches = packMicroBatches(blocks, MICRO_BATCH_TOKENS).map(buildTreeBatch);
  return {
    async step(): Promise<Step> {
      const start = performance.now();
      session.lazyResetGrad();
      let loss = 0;
      for (const batch of batches) loss += (await session.runTrainStep(batch)).loss;
      const middle = performance.now();
      await session.runOptimizerStep(SETTINGS);
      return { loss, step: middle - start, optimizer: performance.now() - middle };
    },
    close: () => session.release(),
  };
}

const median = (list: readonly number[]) => [...list].sort((a, b) => a - b)[list.length >> 1];

const scratch = await mkdtemp(join(tmpdir(), 'rlp-ort-bench-'));
try {
  await writeRandomCheckpoint(scratch, MODEL_29M);
  const [ours, peer] = [await openOurs(scratch), openPeer(scratch)];
  const pairs: { ours: Step; theirs: Step }[] = [];
  for (let i = 0; i < WARM_UP + rounds; i++) {
    const pair = { ours: await ours.step(), theirs: await peer.step() };
    if (Math.abs(pair.ours.loss - pair.theirs.loss) > TOLERANCE) {
      throw new Error(`step ${i}: the loss is ${pair.ours.loss} here, ${pair.theirs.loss} in PyTorch`);
    }
    if (i >= WARM_UP) pairs.push(pair);
  }
  ours.close();
  peer.close();
  const of = (get: (step: Step) => number) => {
    const [here, there] = [median(pairs.map((p) => get(p.ours))), median(pairs.map((p) => get(p.theirs)))];
    const ratio = median(pairs.map((p) => get(p.theirs) / get(p.ours)));
    return `${here.toFixed(0)} ms, in PyTorch ${there.toFixed(0)} ms: ${ratio.toFixed(2)}x`;
  };
  console.log(
    `${documents} x ${length} tokens, ${threads} threads, medians of ${rounds} steps in turns${args.compile ? ', torch.compile' : ''}${args.ema ? ', with an EMA' : ''}`,
  );
  console.log(`forward and backward: ${of(({ step }) => step)}`);
  console.log(`clipping and AdamW: ${of(({ optimizer }) => optimizer)}`);
  console.log(`whole step: ${of(({ step, optimizer }) => step + optimizer)}`);
} finally {
  await rm(scratch, { recursive: true, force: true });
}
