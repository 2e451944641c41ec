import { fileURLToPath } from 'node:url';
import { pretrainTiny } from '../tiny-qwen3/pretrain.ts';
import { baseDocuments } from './families.ts';

/**
 * The recipe of scripts/reproduce/base, the checkpoint that every arm starts from: the tiny model, pretrained on text of all families in which thoughts of
 * mixed quality stand before some answers.
 *
 *     npx tsx scripts/reproduce/base.ts [FOLDER]
 */
const SEED = 11;
const DOCUMENTS = 500_000;
/** Thoughts before four of five answers; half of them right. */
const MIX = { thoughts: 0.8, goodThoughts: 0.5 };

await pretrainTiny({
  out: process.argv[2] ?? fileURLToPath(new URL('base', import.meta.url)),
  ...{ seed: SEED, documents: baseDocuments(SEED, DOCUMENTS, MIX) },
  ...{ steps: 10_000, batchTokens: 2048, blockLength: 128, learningRate: 2e-3 },
});
