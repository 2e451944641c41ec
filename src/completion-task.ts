import type { Verifier } from './completions.ts';
import { loadChatTemplate, type PromptOptions } from './data/index.ts';
import type { OpenModel } from './model-directory.ts';
import { predictionInstruction } from './prompt.ts';
import { type AnswerEquality, type AnswerRules, answerReward, prefixMatchReward, statedText } from './reward/index.ts';
import type { RolloutDocument } from './rollout/index.ts';
import type { CompletionSettings, ThoughtData, ThoughtSettings } from './thought-data.ts';

/** Settings of rpt and grpo that say what is completed, and what completions are worth. */
export interface CompletionTaskSettings {
  objective: string;
  withoutThought: boolean;
  maxCompletionTokens: number;
  stop?: readonly string[] | undefined;
  thinkClose: string;
  /** rpt */
  prediction: 'boxed' | 'text';
  /** grpo */
  answerPattern?: string | undefined;
  /** grpo */
  equality: AnswerEquality;
  /** grpo: `model`, or a file. */
  chatTemplate?: string | undefined;
}

/** Settings of thoughts with answers behind them. */
export function completionThoughts<Settings extends Omit<ThoughtSettings, 'completion' | 'instruct'>>(
  settings: Settings & CompletionTaskSettings,
): Settings & Pick<ThoughtSettings, 'completion' | 'instruct'> {
  const completion: CompletionSettings = {
    thought: !settings.withoutThought,
    maxTokens: settings.maxCompletionTokens,
    stop: settings.stop ?? [],
  };
  const boxes = settings.objective === 'rpt' && settings.prediction === 'boxed';
  return { ...settings, completion, ...(boxes && { instruct: predictionInstruction }) };
}

/** How grpo's prompts become tokens. */
export async function promptOptions(
  thoughts: ThoughtData,
  model: OpenModel,
  { chatTemplate }: Pick<CompletionTaskSettings, 'chatTemplate'>,
): Promise<PromptOptions> {
  const file = chatTemplate === 'model' ? undefined : chatTemplate;
  return {
    tokenizer: thoughts.tokenizer,
    chatTemplate: await loadChatTemplate(model.directory, file),
    promptsAreChat: chatTemplate !== undefined,
    maxTokens: thoughts.maxContextTokens,
  };
}

/** RPT's: whether what an answer states is how the text goes on. */
export const prefixMatchVerifier = (
  thoughts: ThoughtData,
  { prediction }: Pick<CompletionTaskSettings, 'prediction'>,
): Verifier => ({
  name: 'prefix_match',
  reward: ({ tokens }, { position, answer }) =>
    prefixMatchReward(
      statedText(thoughts.answerBytes(answer), prediction),
      thoughts.bytesOf(Array.from(tokens).slice(position)),
    ),
});

/** GRPO's: whether the final answer is that of the data. */
export function answerVerifier(
  thoughts: ThoughtData,
  { thinkClose, answerPattern, equality }: Pick<CompletionTaskSettings, 'thinkClose' | 'answerPattern' | 'equality'>,
  referenceOf: (document: RolloutDocument) => string | undefined,
): Verifier {
  const rules: AnswerRules = {
    thinkClose,
    pattern: answerPattern === undefined ? undefined : new RegExp(answerPattern),
    equality,
  };
  return {
    name: 'answer_match',
    reward: (document, { answer }) => answerReward(thoughts.answerText(answer), referenceOf(document) ?? '', rules),
    reference: referenceOf,
  };
}
