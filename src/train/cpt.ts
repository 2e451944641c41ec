import {
  checkTokenizerFits,
  type DataCursor,
  DataLoader,
  fingerprint,
  loadTokenizer,
  packDocuments,
  readDocuments,
  tokenizeDocuments,
} from '../data/index.ts';
import { UserError } from '../errors.ts';
import { microBatches } from '../micro-batches.ts';
import { cptDocument } from '../optim/index.ts';
import { buildTreeBatch } from '../tree-batch.ts';
import type { Objective, OpenObjective, TrainContext } from './objective.ts';

const EVAL_TOKENS = 8192;

/** Continued pretraining: next-token loss over blocks packed from the documents, the mean over a step's targets. */
export const openCpt: OpenObjective = async (config, model) => {
  if (config.blockLength > model.config.maxPositions) {
    throw new UserError(`--block-length ${config.blockLength}: the model has ${model.config.maxPositions} positions`);
  }
  const tokenizer = await loadTokenizer(model.directory);
  checkTokenizerFits(tokenizer, model.config.vocabSize);
  const read = async (files: readonly string[]) => {
    const { documents } = await tokenizeDocuments(readDocuments(files, { limit: config.limit }), tokenizer);
    const tokens = documents.map((document) => document.tokens);
    const blocks = packDocuments(tokens, { length: config.blockLength, eosId: tokenizer.eosId });
    const data = { documents: documents.length, skipped: 0, truncated: 0 };
    return { blocks, data, dataHash: fingerprint(documents) };
  };
  const { blocks, data, dataHash } = await read(config.data);
  const heldOut = config.evalData && (await read(config.evalData)).blocks;
  const blocksPerStep = Math.max(1, Math.floor(config.batchTokens / config.blockLength));
  const loaderOptions = {
    seed: config.seed,
    names: { items: 'blocks of text', flag: '--batch-tokens', unit: config.blockLength },
  };
  let loader = new DataLoader(blocks, loaderOptions);
  loader.checkBatchSize(blocksPerStep);

  const targetsOf = (batch: readonly Int32Array[]) => batch.reduce((sum, block) => sum + block.length - 1, 0);
  const lossOf = (batch: readonly Int32Array[]) => batch.map((block) => cptDocument(block, targetsOf(batch)));

  const makeObjective = ({ session, hooks }: TrainContext): Objective => ({
    emaDecay: 1,
    async prepare() {
      return { documents: lossOf(loader.nextBatch(blocksPerStep)), metrics: {} };
    },
    afterUpdate() {},
    async evaluate() {
      if (heldOut === undefined) return undefined;
      let crossEntropy = 0;
      for (const batch of microBatches(lossOf(heldOut), EVAL_TOKENS)) {
        hooks.signal?.throwIfAborted();
        crossEntropy += (await session.runEvalStep(buildTreeBatch(batch))).loss;
      }
      return { 'eval/cross_entropy': crossEntropy, 'eval/perplexity': Math.exp(crossEntropy) };
    },
    state: (): DataCursor => loader.cursor,
    restore(state) {
      loader = new DataLoader(blocks, { ...loaderOptions, cursor: state as DataCursor });
    },
  });
  return { dataHash, data, makeObjective };
};
