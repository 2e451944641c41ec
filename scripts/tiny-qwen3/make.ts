import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { baseCorpus, writeCorpus } from './corpus.ts';
import { pretrainTiny } from './pretrain.ts';

/**
 * The recipe of models/tiny-qwen3: the tiny model, pretrained on the base corpus.
 *
 *     npx tsx scripts/tiny-qwen3/make.ts [FOLDER]
 */
const SEED = 7;
const DOCUMENTS = 160_000;

const out = process.argv[2] ?? fileURLToPath(new URL('../../models/tiny-qwen3', import.meta.url));
await pretrainTiny({
  ...{ out, seed: SEED, documents: baseCorpus(SEED, DOCUMENTS) },
  ...{ steps: 1200, batchTokens: 2048, blockLength: 64, learningRate: 2e-3 },
});
await writeCorpus(join(out, 'corpus'));
