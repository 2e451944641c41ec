import type { TrainConfig } from '../config.ts';
import {
  checkTokenizerFits,
  type DataCursor,
  heldOutSettings,
  loadChatTemplate,
  loadTokenizer,
  SftData,
  type SftOptions,
  type SftSample,
} from '../data/index.ts';
import type { OpenModel } from '../model-directory.ts';
import { sftDocuments } from '../optim/index.ts';
import { promptText } from '../prompt.ts';
import { dataMetrics } from './data-metrics.ts';
import type { OpenObjective } from './objective.ts';
import { supervisedObjective } from './supervised.ts';

/** Sets how many examples a step takes. */
const EXAMPLES_FLAG = '--documents-per-step';

/**
 * Supervised fine-tuning on prompts with responses, on conversations, or on texts with given thoughts (a warm start): next-token
 * loss on the responses, the mean over a step's response tokens.
 */
export const openSft: OpenObjective = async (config, model) => {
  const options = await sftOptions(config, model);
  const data = await SftData.open(config.data, options, config);
  const heldOutData = config.evalData && (await SftData.open(config.evalData, options, heldOutSettings(config)));
  const heldOut = await heldOutData?.all();
  await data.loader().nextBatch(config.documentsPerStep, EXAMPLES_FLAG);
  return {
    dataHash: data.hash,
    data,
    heldOut: heldOutData,
    // What is left of an epoch when it is less than a step is passed over.
    stepsPerEpoch: async () => Math.floor(data.size / config.documentsPerStep),
    makeObjective: (context) => {
      let loader = data.loader();
      return supervisedObjective<SftSample>(context, {
        next: async () => (await loader.nextBatch(config.documentsPerStep, EXAMPLES_FLAG)).flat(),
        lossOf: (samples) => sftDocuments(samples, 1 / samples.reduce((sum, { targets }) => sum + targets.length, 0)),
        heldOut,
        metrics: () => dataMetrics(data, loader.epochs),
        state: (): DataCursor => loader.cursor,
        restore(state) {
          loader = data.loader(state as DataCursor); // written by state() above, and guarded by the checkpoint's hash
        },
      });
    },
  };
};

async function sftOptions(config: TrainConfig, model: OpenModel): Promise<SftOptions> {
  const { chatTemplate, lossOn, lossOnTarget, thinkOpen, thinkClose } = config;
  const tokenizer = await loadTokenizer(model.directory);
  checkTokenizerFits(tokenizer, model.config.vocabSize);
  const file = chatTemplate === undefined || chatTemplate === 'model' ? undefined : chatTemplate;
  return {
    tokenizer,
    chatTemplate: await loadChatTemplate(model.directory, file),
    promptsAreChat: chatTemplate !== undefined,
    ...{ lossOn, lossOnTarget, thinkOpen, thinkClose },
    think: tokenizer.thinkTokens(thinkOpen, thinkClose),
    prompt: tokenizer.encode(promptText(config.prompt, thinkOpen, thinkClose)),
    maxTokens: Math.min(config.blockLength, model.config.maxPositions),
  };
}
