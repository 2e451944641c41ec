import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GraphBuilder } from '../../src/export/builder.ts';
import { buildPortableModel, PORTABLE_OPSET } from '../../src/export/portable-graph.ts';
import { serializeGraph } from '../../src/export/serialize.ts';
import { RolloutEngine } from '../../src/rollout/index.ts';
import { inlineWeights, randomWeights, rolloutGraphs } from '../../test/fixtures/tiny-model.ts';
import { MODEL_29M as CONFIG } from './model-29m.ts';

/**
 * Sampled tokens a second against transformers.js's generate(): the same weights, prompts and number of tokens, both on
 * onnxruntime-node, in turns. transformers.js runs our portable model.onnx (operators of the default domain).
 *
 *     npm install --prefix PEER @huggingface/transformers
 *     npx tsx scripts/bench/versus-transformers-js.ts PEER
 */
const [peer] = process.argv.slice(2);
if (peer === undefined) {
  console.error('usage: npx tsx scripts/bench/versus-transformers-js.ts FOLDER_WITH_TRANSFORMERS_JS');
  process.exit(2);
}
const PREFIX = 128;
const NEW_TOKENS = 64;
const ROUNDS = 5;
const WORKLOADS = [
  { documents: 1, rollouts: 8 },
  { documents: 4, rollouts: 8 },
  { documents: 4, rollouts: 32 },
];

const weights = randomWeights(CONFIG);
const prompt = (document: number) =>
  Array.from({ length: PREFIX }, (_, t) => (document * 131 + t * 17) % CONFIG.vocabSize);

interface Timed {
  ms: number;
  tokens: number;
}

/** This project: thoughts and their scores. By chance one thought in a hundred or so ends early. */
async function ours(engine: RolloutEngine, documents: number, rollouts: number): Promise<Timed> {
  const texts = Array.from({ length: documents }, (_, d) => ({
    id: String(d),
    tokens: [...prompt(d), 0],
    positions: [PREFIX],
  }));
  const rules = { open: 1, close: 2, endOfText: [], maxThoughtTokens: NEW_TOKENS };
  const options = { groupSize: rollouts, horizon: 1, temperature: 1, seed: 0, step: 0, documentsPerBatch: documents };
  const start = performance.now();
  let tokens = 0;
  for await (const { thoughts } of engine.generate(texts, { ...rules, ...options, rowsPerDocument: rollouts })) {
    for (const thought of thoughts) tokens += thought.tokens.length;
  }
  return { ms: performance.now() - start, tokens };
}

interface Peer {
  version: string;
  generate(documents: number, rollouts: number): Promise<Timed>;
}

async function openPeer(folder: string, models: string): Promise<Peer> {
  const require = createRequire(join(resolve(folder), 'node_modules', 'x.js'));
  const module = await import(pathToFileURL(require.resolve('@huggingface/transformers')).href);
  const { AutoModelForCausalLM, Tensor, env } = module;
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: models });
  const model = await AutoModelForCausalLM.from_pretrained('bench', {
    dtype: 'fp32',
    device: 'cpu',
    local_files_only: true,
  });
  return {
    version: env.version,
    async generate(documents, rollouts) {
      const rows = Array.from({ length: documents * rollouts }, (_, row) => prompt(Math.floor(row / rollouts)));
      const dims = [rows.length, PREFIX];
      const int64 = (data: number[]) => new Tensor('int64', BigInt64Array.from(data, BigInt), dims);
      const start = performance.now();
      const output = await model.generate({
        inputs: int64(rows.flat()),
        attention_mask: int64(rows.flat().map(() => 1)),
        ...{ do_sample: true, temperature: 1, top_k: 0, max_new_tokens: NEW_TOKENS, min_new_tokens: NEW_TOKENS },
      });
      const took = performance.now() - start;
      const [, length] = output.dims;
      if (length !== PREFIX + NEW_TOKENS) throw new Error(`transformers.js made ${length - PREFIX} tokens`);
      return { ms: took, tokens: rows.length * NEW_TOKENS };
    },
  };
}

/** A folder as transformers.js wants it; the weights inside the graph. */
async function writePeerModel(models: string): Promise<void> {
  const builder = new GraphBuilder('model');
  const weight = inlineWeights(builder, weights);
  buildPortableModel({ builder, config: CONFIG, weight, flavor: 'portable' });
  const folder = join(models, 'bench');
  await mkdir(join(folder, 'onnx'), { recursive: true });
  await writeFile(join(folder, 'onnx', 'model.onnx'), serializeGraph(builder.graph, { opset: PORTABLE_OPSET }));
  const { vocabSize, hiddenSize, intermediateSize, numLayers, numHeads, numKvHeads, headDim } = CONFIG;
  const config = {
    ...{ model_type: 'qwen3', architectures: ['Qwen3ForCausalLM'], vocab_size: vocabSize, hidden_size: hiddenSize },
    ...{ intermediate_size: intermediateSize, num_hidden_layers: numLayers, num_attention_heads: numHeads },
    ...{ num_key_value_heads: numKvHeads, head_dim: headDim, eos_token_id: vocabSize + 1, pad_token_id: 0 },
  };
  await writeFile(join(folder, 'config.json'), JSON.stringify(config));
  await writeFile(join(folder, 'generation_config.json'), JSON.stringify({ pad_token_id: 0 }));
}

const median = (values: number[]) => values.sort((a, b) => a - b)[Math.floor(values.length / 2)];

const models = await mkdtemp(join(tmpdir(), 'rlp-ort-bench-'));
try {
  await writePeerModel(models);
  const theirs = await openPeer(peer, models);
  using engine = await RolloutEngine.create(rolloutGraphs(CONFIG, weights));
  console.log(
    `29 M parameters, prefix ${PREFIX}, ${NEW_TOKENS} new tokens; transformers.js ${theirs.version}; median of ${ROUNDS}`,
  );
  for (const { documents, rollouts } of WORKLOADS) {
    await ours(engine, documents, rollouts);
    await theirs.generate(documents, rollouts);
    const rounds: { mine: number; peer: number }[] = [];
    const rate = ({ ms, tokens }: Timed) => (1000 * tokens) / ms;
    for (let i = 0; i < ROUNDS; i++) {
      const mine = rate(await ours(engine, documents, rollouts));
      rounds.push({ mine, peer: rate(await theirs.generate(documents, rollouts)) });
    }
    console.log(
      `${documents} documents x ${rollouts} rollouts: ${median(rounds.map(({ mine }) => mine)).toFixed(0)} tokens/s, scored; ` +
        `transformers.js ${median(rounds.map(({ peer }) => peer)).toFixed(0)} tokens/s, not scored: ` +
        `${median(rounds.map(({ mine, peer }) => mine / peer)).toFixed(1)}x`,
    );
  }
} finally {
  await rm(models, { recursive: true, force: true });
}
