import { fileURLToPath } from 'node:url';
import { pretrainTiny } from '../tiny-qwen3/pretrain.ts';
import { baseDocuments } from './families.ts';
import { STUDIES } from './plan.ts';

/**
 * The recipe of scripts/reproduce/bases, the checkpoints that the arms start from: the tiny model, pretrained on text of a
 * study's families in which thoughts of mixed quality stand before some answers.
 *
 *     npx tsx scripts/reproduce/base.ts settled|open [FOLDER]
 */
const SEED = 11;
/** Thoughts before four of five answers; half of them right. */
const MIX = { thoughts: 0.8, goodThoughts: 0.5 };

const [name, folder] = process.argv.slice(2);
const study = STUDIES.find((one) => one.name === name);
if (study === undefined) throw new Error(`which base? ${STUDIES.map((one) => one.name).join(' or ')}`);
const { documents, steps } = study.baseRecipe;

await pretrainTiny({
  out: folder ?? fileURLToPath(new URL(`bases/${study.name}`, import.meta.url)),
  ...{ seed: SEED, documents: baseDocuments(SEED, study.families, documents, MIX) },
  ...{ steps, batchTokens: 2048, blockLength: 128, learningRate: 2e-3 },
});
