import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { readRollouts } from '../src/arrow.ts';
import { main } from '../src/cli/main.ts';
import { MARKER } from '../src/output.ts';
import type { RolloutRecord } from '../src/records.ts';
import { readMetrics } from '../src/run-folder.ts';

/**
 * The main job in small, by the commands a user would type: a Hugging Face checkpoint is exported, thinks about held-out
 * text, is trained by RLP on raw text, and thinks about the same text again.
 *
 *     npm run quickstart
 */
const ROOT = fileURLToPath(new URL('..', import.meta.url));
const path = (...parts: string[]) => relative(process.cwd(), join(ROOT, ...parts)) || '.';

const MODEL = path('models/tiny-qwen3');
const TRAIN = path('models/tiny-qwen3/corpus/train.jsonl');
const HELD_OUT = path('models/tiny-qwen3/corpus/held-out.jsonl');
const OUT = path('quickstart-out');
const EXPORTED = join(OUT, 'model');
const RUN = join(OUT, 'run');
const BEFORE = join(OUT, 'before.arrow');
const AFTER = join(OUT, 'after.arrow');
const STEPS = 60;

/** How the tiny model thinks: six running sums and the closing tag, at the places the data marks. */
const THINKING =
  '--group-size 8 --max-thought-tokens 10 --temperature 1 --position-strategy column --documents-per-batch 16';

const print = (text = '') => process.stdout.write(`${text}\n`);
const heading = (text: string) => print(`\n== ${text}`);

/** Runs a command as the terminal would; its result is shown where `show` is set. */
async function run(command: string, show = false): Promise<void> {
  print(`$ npx rlp-ort ${command}`);
  let output = '';
  const code = await main(command.split(' '), {
    out: (text) => {
      output += text;
    },
    err: (text) => process.stderr.write(text),
    outIsTerminal: false,
    errIsTerminal: process.stderr.isTTY === true,
    verbose: true,
    signal: new AbortController().signal,
  });
  if (show || code !== 0) print(output.trimEnd());
  if (code !== 0) process.exit(code);
}

async function rows(file: string): Promise<RolloutRecord[]> {
  const all: RolloutRecord[] = [];
  for await (const batch of await readRollouts(file)) all.push(...batch);
  return all;
}

/** The first thoughts of the first documents, with what each was paid. */
async function showThoughts(file: string, documents: number, thoughts: number): Promise<void> {
  const ids = new Set<string>();
  for (const row of await rows(file)) {
    ids.add(row.documentId);
    if (ids.size > documents || row.rollout >= thoughts) continue;
    const gain = `${row.reward >= 0 ? '+' : ''}${row.reward.toFixed(2)} nats`;
    print(`   ${row.context}<think>${row.thought.padEnd(14)}  then ${JSON.stringify(row.target)}   ${gain}`);
  }
}

const start = performance.now();
if (existsSync(join(EXPORTED, MARKER))) await rm(OUT, { recursive: true }); // ours, from an earlier quickstart

print(
  'A tiny Qwen3 (0.8 M parameters) has read lines such as 314159=3: six digits and their sum modulo 10. Before some',
);
print(
  'answers stood a thought: the running sums, or random digits. It cannot add six digits at once; it can, if it thinks',
);
print(
  'well. RLP pays each thought by how much it raises the log-probability of the true answer. No thought is shown to it.',
);

heading('1. Export: ONNX graphs beside the weights');
await run(`export ${MODEL} --out ${EXPORTED}`, true);

heading('2. Rollout: what it thinks about held-out lines before training');
await run(`rollout --model ${EXPORTED} --data ${HELD_OUT} --limit 64 --out ${BEFORE} ${THINKING}`);
await showThoughts(BEFORE, 2, 4);

heading(`3. Train: ${STEPS} steps of RLP on raw lines, without a single thought in them`);
await run(
  `train --model ${EXPORTED} --data ${TRAIN} --eval-data ${HELD_OUT} --run ${RUN} --objective rlp --steps ${STEPS} ` +
    `--documents-per-step 16 --learning-rate 1e-4 --eval-every 20 --checkpoint-every 0 ${THINKING}`,
);

heading('4. Rollout again: the same held-out lines, after training');
const checkpoint = join(RUN, 'checkpoints', `step-${String(STEPS).padStart(6, '0')}`);
await run(`rollout --model ${checkpoint} --data ${HELD_OUT} --limit 64 --out ${AFTER} ${THINKING}`);
await showThoughts(AFTER, 2, 4);

heading('Result on 256 held-out lines, 8 thoughts each (nats a target token)');
const evaluations = (await readMetrics(RUN)).filter((row) => 'eval/information_gain' in row);
print('   step   information gain   cross-entropy with thought   without');
for (const row of evaluations) {
  const figure = (name: string, width: number) => Number(row[`eval/${name}`]).toFixed(3).padStart(width);
  const step = String(row.step).padStart(7);
  print(
    `${step}${figure('information_gain', 19)}${figure('reasoned_cross_entropy', 29)}${figure('no_think_cross_entropy', 10)}`,
  );
}
print();
print(`   thoughts and rewards   ${BEFORE}, ${AFTER}, ${join(RUN, 'rollouts')}   (npx rlp-ort inspect FILE)`);
print(`   metrics                ${join(RUN, 'metrics.jsonl')}   (npx rlp-ort inspect ${RUN})`);
print(`   trained checkpoint     ${checkpoint}   (Hugging Face directory, with ONNX graphs)`);
print(`   took ${((performance.now() - start) / 1000).toFixed(0)} s`);
