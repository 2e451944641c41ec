import { GraphBuilder } from '../../src/export/builder.ts';
import { likeliestTokens, logProbsOf, sampleTokens } from '../../src/export/sampling.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { Random } from '../../src/random.ts';
import type { Sampling } from '../../src/rollout/index.ts';
import { Session, Value } from '../../src/runtime/index.ts';

/**
 * What sampling a token a row costs, log-probs included, as a share of the LM head before it: both run in turns on the same
 * machine. The logits are normal; the further they spread, the fewer tokens top-p needs.
 *
 *     npx tsx scripts/bench/sampling.ts
 */
const ROWS = 32;
const HIDDEN = 1024;
const VOCABULARIES = [8192, 151_936];
const ROUNDS = 15;
const SPREADS = [4, 1];
const CASES: Sampling[] = [
  { temperature: 0 },
  { temperature: 0.7 },
  { temperature: 0.7, minP: 0.05 },
  { temperature: 0.7, topK: 50 },
  { temperature: 0.7, topK: 50, topP: 0.95 },
  { temperature: 0.7, topP: 0.95 },
];

/** A run of the LM head: hidden states [ROWS, HIDDEN] to logits. */
async function openHead(vocabulary: number, random: Random): Promise<() => void> {
  const b = new GraphBuilder('head');
  const weights = Float32Array.from({ length: vocabulary * HIDDEN }, () => random.float() - 0.5);
  const weight = b.inlineInitializer('weight', 'float32', [vocabulary, HIDDEN], new Uint8Array(weights.buffer));
  b.output('logits', b.fusedMatMul(b.input('hidden', 'float32', ['N', HIDDEN]), weight, { transB: true }));
  const session = await Session.create(serializeGraph(b.graph, { opset: 24 }));
  const hidden = Value.from('float32', [ROWS, HIDDEN], new Float32Array(ROWS * HIDDEN).fill(0.1));
  const binding = session.bind().input('hidden', hidden);
  binding.output('logits', Value.empty('float32', [ROWS, vocabulary]));
  return () => binding.runSync();
}

/** What the step graph does with its logits [ROWS, vocabulary]. */
async function openSampling(vocabulary: number) {
  const b = new GraphBuilder('sampling');
  const logits = b.input('logits', 'float32', ['N', vocabulary]);
  const uniforms = b.input('uniforms', 'float32', ['N']);
  const targets = b.input('target_ids', 'int64', ['N']);
  const likeliest = likeliestTokens(b, logits);
  const logProbs = logProbsOf(b, logits, likeliest);
  const sampled = sampleTokens(b, logits, likeliest, uniforms, {
    temperature: b.input('temperature', 'float32', []),
    truncation: {
      topK: b.input('top_k', 'int64', []),
      topP: b.input('top_p', 'float32', []),
      minP: b.input('min_p', 'float32', []),
      forCpu: true,
    },
  });
  b.output('sampled_ids', sampled.tokens);
  b.output('sampled_log_probs', logProbs(sampled.tokens));
  b.output('sampling_log_probs', sampled.logProbs);
  b.output('target_log_probs', logProbs(targets));
  const session = await Session.create(serializeGraph(b.graph, { opset: 24 }));
  return (logits: Value, { temperature, topK = 0, topP = 1, minP = 0 }: Sampling) => {
    const scalar = (value: number) => Value.from('float32', [], [value]);
    const binding = session
      .bind()
      .input('logits', logits)
      .input('uniforms', Value.from('float32', [ROWS], new Float32Array(ROWS).fill(0.5)))
      .input('target_ids', Value.empty('int64', [ROWS]))
      .input('temperature', scalar(temperature))
      .input('top_k', Value.from('int64', [], [topK]))
      .input('top_p', scalar(topP))
      .input('min_p', scalar(minP))
      .output('sampled_ids', Value.empty('int64', [ROWS]));
    for (const name of ['sampled_log_probs', 'sampling_log_probs', 'target_log_probs']) {
      binding.output(name, Value.empty('float32', [ROWS]));
    }
    return () => binding.runSync();
  };
}

/** Milliseconds of each run: the medians of rounds in which they take turns. */
function inTurns(runs: readonly (() => void)[]): number[] {
  const times = runs.map((): number[] => []);
  for (let round = 0; round <= ROUNDS; round++) {
    runs.forEach((run, i) => {
      const start = performance.now();
      run();
      if (round > 0) times[i].push(performance.now() - start); // the first round warms up
    });
  }
  return times.map((list) => list.sort((a, b) => a - b)[list.length >> 1]);
}

for (const vocabulary of VOCABULARIES) {
  const random = new Random(0, 'bench');
  const head = await openHead(vocabulary, random);
  const sampling = await openSampling(vocabulary);
  const normal = () => Math.sqrt(-2 * Math.log(1 - random.float())) * Math.cos(2 * Math.PI * random.float());
  console.log(`\n${ROWS} rows, LM head ${HIDDEN} x ${vocabulary}; median of ${ROUNDS}`);
  for (const spread of SPREADS) {
    const values = Float32Array.from({ length: ROWS * vocabulary }, () => spread * normal());
    const logits = Value.from('float32', [ROWS, vocabulary], values);
    const [base, ...times] = inTurns([head, ...CASES.map((settings) => sampling(logits, settings))]);
    console.log(`logits of standard deviation ${spread}; LM head ${base.toFixed(2)} ms`);
    times.forEach((ms, i) => {
      const share = `${((100 * ms) / base).toFixed(0)}%`;
      console.log(
        `  ${JSON.stringify(CASES[i]).padEnd(46)}${ms.toFixed(2).padStart(8)} ms ${share.padStart(6)} of the head`,
      );
    });
  }
}
