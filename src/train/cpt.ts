import { CPT_BLOCK_LENGTH, type TrainConfig } from '../config.ts';
import {
  checkTokenizerFits,
  type DataCursor,
  heldOutSettings,
  loadTokenizer,
  type PackedCursor,
  PackedStream,
  packDocuments,
  type ReadSettings,
  TextData,
  type Tokenizer,
  withEnd,
} from '../data/index.ts';
import { UserError } from '../errors.ts';
import { cptDocument } from '../optim/index.ts';
import { dataMetrics } from './data-metrics.ts';
import type { OpenObjective } from './objective.ts';
import { type Supervised, supervisedObjective } from './supervised.ts';

/** Continued pretraining: next-token loss over rows of text, the mean over a step's targets. */
export const openCpt: OpenObjective = async (settings, model) => {
  const { maxPositions } = model.config;
  if (settings.blockLength > maxPositions && settings.blockLength !== CPT_BLOCK_LENGTH) {
    throw new UserError(`--block-length ${settings.blockLength}: the model has ${maxPositions} positions`);
  }
  const config = { ...settings, blockLength: Math.min(settings.blockLength, maxPositions) };
  const tokenizer = await loadTokenizer(model.directory);
  checkTokenizerFits(tokenizer, model.config.vocabSize);
  const openText = (files: readonly string[], settings: ReadSettings) =>
    TextData.open(files, tokenizer, { ...settings, positionStrategy: undefined }, tokenizeOptions(config));
  const data = await openText(config.data, config);
  const heldOutData = config.evalData && (await openText(config.evalData, heldOutSettings(config)));
  const { rows, allRows, stepsPerEpoch } = config.packing === 'wrapped' ? wrapped : separate;
  const heldOut = heldOutData && (await allRows(heldOutData, config, tokenizer));
  const makeRows = await rows(data, config, tokenizer);
  return {
    dataHash: data.hash,
    data,
    heldOut: heldOutData,
    stepsPerEpoch: () => stepsPerEpoch(data, config, tokenizer),
    makeObjective: (context) =>
      supervisedObjective(context, {
        ...makeRows(),
        heldOut,
        lossOf: (batch) => {
          const targets = batch.reduce((sum, row) => sum + row.length - 1, 0);
          return batch.map((row) => cptDocument(row, targets));
        },
      }),
  };
};

/** How documents become rows, each [at most --block-length]. */
interface Packing {
  /** Rows of the next steps; checks that there is enough for one. */
  rows(
    data: TextData,
    config: TrainConfig,
    tokenizer: Tokenizer,
  ): Promise<() => Pick<Supervised<Int32Array>, 'next' | 'metrics' | 'state' | 'restore'>>;
  allRows(data: TextData, config: TrainConfig, tokenizer: Tokenizer): Promise<Int32Array[]>;
  stepsPerEpoch(data: TextData, config: TrainConfig, tokenizer: Tokenizer): Promise<number>;
}

/** Documents follow each other and are cut into blocks; tokens attend to other documents before them in their block. */
const wrapped: Packing = {
  async rows(data, config, { eosId }) {
    const blocksPerStep = Math.max(1, Math.floor(config.batchTokens / config.blockLength));
    await checkEnough(data, blocksPerStep * config.blockLength);
    const open = (cursor?: PackedCursor) =>
      new PackedStream((from) => data.loader(from), { length: config.blockLength, eosId }, cursor);
    return () => {
      let blocks = open();
      return {
        next: () => blocks.nextBatch(blocksPerStep),
        metrics: () => dataMetrics(data, blocks.epochs),
        state: (): PackedCursor => blocks.cursor,
        restore(state) {
          blocks = open(state as PackedCursor);
        },
      };
    };
  },

  async allRows(data, { blockLength: length }, { eosId }) {
    const tokens = (await data.all()).map((document) => document.tokens);
    return packDocuments(tokens, { length, eosId });
  },

  async stepsPerEpoch(data, { batchTokens, blockLength }, { eosId }) {
    let tokens = 0;
    for await (const document of data.documents().documents) tokens += withEnd(document.tokens, eosId).length;
    // The last token of a block is also the first of the next.
    return tokens / (Math.max(1, Math.floor(batchTokens / blockLength)) * (blockLength - 1));
  },
};

/** Each document is a row of its own, and what is beyond the block is left out. */
const separate: Packing = {
  async rows(data, { documentsPerStep, blockLength }, { eosId }) {
    const flag = '--documents-per-step';
    await data.preview().nextBatch(documentsPerStep, flag);
    return () => {
      let loader = data.loader();
      return {
        async next() {
          const batch = await loader.nextBatch(documentsPerStep, flag);
          return batch.map(({ tokens }) => withEnd(tokens, eosId).subarray(0, blockLength));
        },
        metrics: () => dataMetrics(data, loader.epochs),
        state: (): DataCursor => loader.cursor,
        restore(state) {
          loader = data.loader(state as DataCursor);
        },
      };
    };
  },

  async allRows(data, { blockLength }, { eosId }) {
    return (await data.all()).map(({ tokens }) => withEnd(tokens, eosId).subarray(0, blockLength));
  },

  async stepsPerEpoch(data, { documentsPerStep }) {
    let documents = 0;
    for await (const _ of data.documents().documents) documents++;
    return Math.floor(documents / documentsPerStep);
  },
};

const tokenizeOptions = ({ packing, blockLength }: TrainConfig) =>
  packing === 'wrapped'
    ? {}
    : {
        maxContextTokens: blockLength,
        requirement: {
          holds: ({ tokens }: { tokens: Int32Array }) => tokens.length >= 2,
          text: 'has the 2 tokens that a next-token loss needs',
        },
      };

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
