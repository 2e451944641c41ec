import type { TrainConfig } from '../config.ts';
import {
  checkTokenizerFits,
  type DataCursor,
  loadTokenizer,
  type PackedCursor,
  PackedStream,
  packDocuments,
  TextData,
  type Tokenizer,
} from '../data/index.ts';
import { UserError } from '../errors.ts';
import { microBatches } from '../micro-batches.ts';
import { cptDocument } from '../optim/index.ts';
import { buildTreeBatch } from '../tree-batch.ts';
import { countsOf, dataMetrics } from './data-metrics.ts';
import type { Objective, OpenObjective, TrainContext } from './objective.ts';

const EVAL_TOKENS = 8192;

/** Continued pretraining: next-token loss over blocks packed from the documents, the mean over a step's targets. */
export const openCpt: OpenObjective = async (config, model) => {
  if (config.blockLength > model.config.maxPositions) {
    throw new UserError(`--block-length ${config.blockLength}: the model has ${model.config.maxPositions} positions`);
  }
  const tokenizer = await loadTokenizer(model.directory);
  checkTokenizerFits(tokenizer, model.config.vocabSize);
  const data = await TextData.open(config.data, tokenizer, { ...config, positionStrategy: undefined });
  const packing = { length: config.blockLength, eosId: tokenizer.eosId };
  const heldOut = config.evalData && (await readHeldOut(config.evalData, tokenizer, config));
  const blocksPerStep = Math.max(1, Math.floor(config.batchTokens / config.blockLength));
  const makeLoader = (cursor?: DataCursor) => data.loader(cursor);
  let blocks = new PackedStream(makeLoader, packing);
  await checkEnough(data, blocksPerStep * config.blockLength);

  const targetsOf = (batch: readonly Int32Array[]) => batch.reduce((sum, block) => sum + block.length - 1, 0);
  const lossOf = (batch: readonly Int32Array[]) => batch.map((block) => cptDocument(block, targetsOf(batch)));

  const makeObjective = ({ session, hooks }: TrainContext): Objective => ({
    emaDecay: 1,
    async prepare() {
      const documents = lossOf(await blocks.nextBatch(blocksPerStep));
      return { documents, metrics: dataMetrics(data, blocks.epochs) };
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
    state: (): PackedCursor => blocks.cursor,
    restore(state) {
      blocks = new PackedStream(makeLoader, packing, state as PackedCursor);
    },
  });
  return { dataHash: data.hash, data: () => countsOf(data), makeObjective };
};

/** Blocks to measure on, all of them in memory. */
async function readHeldOut(files: readonly string[], tokenizer: Tokenizer, config: TrainConfig): Promise<Int32Array[]> {
  const data = await TextData.open(files, tokenizer, {
    ...config,
    ...{ dataWeights: undefined, positionStrategy: undefined, resume: false },
  });
  const tokens = (await data.all()).map((document) => document.tokens);
  return packDocuments(tokens, { length: config.blockLength, eosId: tokenizer.eosId });
}

/** @throws UserError if a step takes more tokens than there are, so that it would see text more than once */
async function checkEnough(data: TextData, tokensPerStep: number): Promise<void> {
  const loader = data.preview();
  let tokens = 0;
  while (tokens < tokensPerStep) {
    const document = await loader.next();
    if (loader.epochs.every((epochs) => epochs > 1)) {
      throw new UserError(
        `the data has ${tokens} tokens, but a step takes ${tokensPerStep}. Lower --batch-tokens to ${tokens} or less, or ` +
          'add data',
      );
    }
    tokens += document.tokens.length + 1; // with the token that ends it
  }
}
