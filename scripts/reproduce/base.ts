import { fileURLToPath } from 'node:url';
import { pretrainTiny } from '../tiny-qwen3/pretrain.ts';
import { baseDocuments } from './families.ts';

/**
 * The base checkpoint that every arm starts from: the tiny model, pretrained on text of all families in which thoughts of
 * mixed quality stand before some answers.
 *
 *     npx tsx scripts/reproduce/base.ts FOLDER
 */
const SEED = 11;
const DOCUMENTS = 500_000;
/** Thoughts before four of five answers; half of them right. */
const MIX = { thoughts: 0.8, goodThoughts: 0.5 };

export async function makeBase(out: string): Promise<void> {
  await pretrainTiny({
    ...{ out, seed: SEED, documents: baseDocuments(SEED, DOCUMENTS, MIX) },
    ...{ steps: 10_000, batchTokens: 2048, blockLength: 128, learningRate: 2e-3 },
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await makeBase(process.argv[2]);
