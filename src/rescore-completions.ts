import { answerVerifier, prefixMatchVerifier } from './completion-task.ts';
import type { Verifier } from './completions.ts';
import type { RecordedRun } from './config.ts';
import { internal } from './errors.ts';
import type { RolloutRecord } from './records.ts';
import type { RescoreData } from './rescore-data.ts';
import { type DocumentText, documentOf, type RowGroup, rewardInputs, unavailable } from './rescore-rows.ts';
import { askReward, type CustomReward, type GivenRewards, type RewardInput, unclosedRule } from './reward/index.ts';
import type { RolloutDocument } from './rollout/index.ts';

/** The reward module that has the last word in a file's rewards; undefined where they are the objective's own. */
export const paidBy = ({ rescored, reward }: RecordedRun): string | undefined =>
  rescored === undefined ? reward : rescored.reward;

/** What completions of the run are worth by its objective. */
export const recordedVerifier = (run: RecordedRun, data: RescoreData): Verifier =>
  run.objective === 'rpt'
    ? prefixMatchVerifier(data.thoughts, run)
    : answerVerifier(data.thoughts, run, (document) => data.referenceOf(document));

/** The data of completions, read again. */
export interface ReadAgain {
  verifier: Verifier;
  documents: ReadonlyMap<string, RolloutDocument>;
  textOf: DocumentText;
}

/**
 * What recorded completions are worth before penalties, by group: by the objective's own rule, or by a reward function.
 * @param read undefined where the data is not: then what the rule said is as far known as the file has it
 */
export async function completionRewards(
  groups: readonly RowGroup[],
  run: RecordedRun,
  read: ReadAgain | undefined,
  custom: CustomReward | undefined,
): Promise<GivenRewards> {
  const verify = ({ documentId, position, targetTokens }: RolloutRecord, { verifier, documents }: ReadAgain) => {
    const document = documentOf(documents, documentId);
    return verifier.reward(document, {
      position: (document.promptTokens ?? 0) + position,
      answer: Array.from(targetTokens),
    });
  };
  if (custom !== undefined) {
    const inputs = groups.map(({ rows }) =>
      rewardInputs(rows, read?.textOf).map((input, g) => {
        if (read === undefined) return withoutData(input, rows[g], run);
        const reference = read.verifier.reference?.(documentOf(read.documents, rows[g].documentId));
        const told = { builtInReward: verify(rows[g], read), ...(reference !== undefined && { reference }) };
        return Object.assign(input, told);
      }),
    );
    return askReward(custom, inputs);
  }
  if (read === undefined) throw internal('completions scored by nothing');
  return { name: read.verifier.name, rewards: groups.map(({ rows }) => rows.map((row) => verify(row, read))) };
}

/** The input with what the file says of its own reward. What it does not say is an error to ask for. */
function withoutData(
  input: Omit<RewardInput, 'builtInReward'>,
  { reward, finishReason }: RolloutRecord,
  run: RecordedRun,
): RewardInput {
  const again = 'add --model, and the data will be read again';
  if (run.objective === 'grpo') {
    Object.defineProperty(input, 'reference', unavailable('reference', `a rollout file does not hold; ${again}`));
  }
  if (paidBy(run) !== undefined) {
    const why = `a file that a reward module has paid does not hold; ${again}`;
    return Object.defineProperty(input, 'builtInReward', unavailable('builtInReward', why)) as RewardInput;
  }
  const { penalty } = unclosedRule(finishReason, run.unclosed, run.unclosedPenalty);
  return Object.assign(input, { builtInReward: Math.round(reward + penalty) }); // 1 or 0
}
