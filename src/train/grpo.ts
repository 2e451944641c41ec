import { answerVerifier, completionThoughts, promptOptions } from '../completion-task.ts';
import { type DataCursor, heldOutSettings, PromptData, type PromptSample } from '../data/index.ts';
import { loadRewardModule } from '../reward/index.ts';
import type { RolloutDocument } from '../rollout/index.ts';
import { ThoughtData } from '../thought-data.ts';
import { completionObjective } from './completion-objective.ts';
import { dataMetrics } from './data-metrics.ts';
import type { OpenObjective } from './objective.ts';
import { StepDraw } from './step-draw.ts';

/** Sets how many prompts a step takes. */
const PROMPTS_FLAG = '--documents-per-step';

/**
 * GRPO with a verifiable reward (RLVR): the model answers prompts, and an answer is paid 1 if it equals the reference, else 0
 * (src/answer-match.ts).
 */
export const openGrpo: OpenObjective = async (config, model) => {
  const custom = config.reward === undefined ? undefined : await loadRewardModule(config.reward);
  const thoughts = await ThoughtData.open(model, completionThoughts(config));
  const options = await promptOptions(thoughts, model, config);
  const data = await PromptData.open(config.data, options, config);
  const heldOutData = config.evalData && (await PromptData.open(config.evalData, options, heldOutSettings(config)));
  const samples = await heldOutData?.all();
  await data.preview().nextBatch(config.documentsPerStep, PROMPTS_FLAG);

  const answers = new WeakMap<RolloutDocument, string>();
  const placed = ({ id, tokens, answer }: PromptSample): RolloutDocument => {
    const document = thoughts.placedAt({ id, tokens }, [tokens.length]);
    answers.set(document, answer);
    return document;
  };
  const heldOut = samples?.map(placed);
  return {
    dataHash: data.hash,
    notices: thoughts.notices,
    ...(custom !== undefined && { rewardHash: custom.hash }),
    data,
    heldOut: heldOutData,
    // What is left of an epoch when it is less than a step is passed over.
    stepsPerEpoch: async () => Math.floor(data.size / config.documentsPerStep),
    makeObjective(context) {
      let loader = data.loader();
      return completionObjective(context, {
        ...{ thoughts, custom },
        ...{ textHash: data.textHash, tokenizerHash: data.tokenizerHash },
        verifier: answerVerifier(thoughts, config, (document) => answers.get(document)),
        draw() {
          const draw = new StepDraw({
            perStep: config.documentsPerStep,
            nextBatch: (count) => loader.nextBatch(count, PROMPTS_FLAG),
            place: async (batch) => batch.map(placed),
          });
          return {
            next: (count) => draw.next(count),
            scoredTokens: () => 0,
            metrics: () => dataMetrics(data, loader.epochs),
          };
        },
        heldOut: async () => heldOut,
        state: (): DataCursor => loader.cursor,
        restore(state) {
          loader = data.loader(state as DataCursor); // written by state() above, and guarded by the checkpoint's hash
        },
      });
    },
  };
};
