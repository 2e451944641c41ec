import { type PayRules, payGroups } from './pay.ts';
import type { RolloutRecord } from './records.ts';
import { askReward, type GivenRewards, type RewardInput, type RewardMetrics } from './reward/index.ts';
import type { Answer, DocumentRollouts, RolloutDocument, Thought } from './rollout/index.ts';
import {
  type CustomPay,
  type PaidGroup,
  type RecordVersions,
  rewardInputs,
  type ThoughtGroup,
  toRecords,
} from './thinking.ts';

/** A thought with the answer that was sampled behind it. */
export type Completion = Thought & { answer: Answer };

/** What a verifier looks at. */
export interface VerifiedAnswer {
  /** Index in the document's tokens, those of a prompt before it counted, of the first token behind the prefix. */
  position: number;
  /** Sampled tokens. */
  answer: readonly number[];
}

/** What a completion is worth. */
export interface Verifier {
  /** Of its metrics, rewards/NAME/mean and rewards/NAME/std. */
  name: string;
  /** A finite number, in whatever unit. */
  reward(document: RolloutDocument, completion: VerifiedAnswer): number;
  /** What a right answer is compared with, for rewards of the user's own. */
  reference?(document: RolloutDocument): string | undefined;
}

/** The completions behind one position; there is no baseline to score them. */
export interface CompletionGroup extends ThoughtGroup {
  documentId: string;
}

/** Completions by group, and what they are worth before penalties. */
export interface VerifiedCompletions {
  groups: CompletionGroup[];
  given: GivenRewards;
}

/**
 * Says what completions are worth; those behind one position are a group.
 * @param custom pays in place of the verifier, and is told what that would pay
 */
export async function verifyCompletions(
  rollouts: readonly DocumentRollouts[],
  verifier: Verifier,
  custom?: CustomPay,
): Promise<VerifiedCompletions> {
  const groups = rollouts.flatMap(({ document, thoughts }) =>
    document.positions.map((position) => ({
      document,
      documentId: document.id,
      position,
      thoughts: thoughts.filter((thought) => thought.position === position),
      baselineLogProbs: undefined,
    })),
  );
  const verified = groups.map(({ document, thoughts }) =>
    completionsOf(thoughts).map(({ position, answer }) =>
      verifier.reward(document, { position, answer: answer.tokens }),
    ),
  );
  const given = custom ? await asked(groups, verified, verifier, custom) : { name: verifier.name, rewards: verified };
  return { groups, given };
}

/** Turns what completions are worth into rewards and advantages; all of a step at once, for means over the step. */
export async function payCompletions(
  verified: readonly VerifiedCompletions[],
  rules: PayRules,
): Promise<{ groups: PaidGroup[]; metrics: RewardMetrics }> {
  const groups = verified.flatMap((part) => part.groups);
  const given = { ...verified[0].given, rewards: verified.flatMap((part) => part.given.rewards) };
  const { metrics, ...paid } = await payGroups(groups, rules, given);
  return {
    groups: groups.map((group, b) => ({
      ...group,
      rewards: paid.rewards[b],
      advantages: paid.advantages[b],
      excluded: paid.excluded[b],
    })),
    metrics,
  };
}

/** What a function of the user's own pays for completions, whose rows are those of the rollout file. */
function asked(
  groups: readonly ThoughtGroup[],
  verified: readonly (readonly number[])[],
  { reference }: Verifier,
  custom: CustomPay,
): Promise<GivenRewards> {
  const describe = rewardInputs(asTargets(groups), custom);
  const inputs = groups.map(({ document }, b) => {
    const expected = reference?.(document);
    return describe(b).map(
      (row, g): RewardInput => ({
        ...row,
        builtInReward: verified[b][g],
        ...(expected !== undefined && { reference: expected }),
      }),
    );
  });
  return askReward(custom.reward, inputs);
}

/** Groups whose thoughts have their answers for targets, as records show them. */
const asTargets = <Group extends ThoughtGroup>(groups: readonly Group[]): Group[] =>
  groups.map((group) => ({
    ...group,
    thoughts: completionsOf(group.thoughts).map(({ answer, ...thought }) => ({
      ...thought,
      targets: answer.tokens,
      reasonedLogProbs: answer.logProbs,
    })),
  }));

export const completionsOf = (thoughts: readonly Thought[]): Completion[] =>
  thoughts.flatMap((thought) => (thought.answer === undefined ? [] : [{ ...thought, answer: thought.answer }]));

/** Rows of the rollout file, one a completion: the answer stands where that of a thought has its target. */
export function completionRecords(
  groups: readonly PaidGroup[],
  decode: (tokens: readonly number[]) => string,
  versions: RecordVersions,
): RolloutRecord[] {
  return toRecords(asTargets(groups), decode, versions);
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** Figures about completions, by TRL's names; lengths in sampled tokens, thought and answer together. */
export function completionMetrics(thoughts: readonly Thought[]): Record<string, number> {
  const all = completionsOf(thoughts);
  const length = ({ tokens, answer }: Completion) => tokens.length + answer.tokens.length;
  const lengths = all.map(length);
  const ended = all.filter(({ answer }) => answer.finishReason !== 'length');
  const thinking = all.filter(({ tokens }) => tokens.length > 0);
  const share = (list: readonly Completion[], holds: (completion: Completion) => boolean) =>
    list.filter(holds).length / list.length;
  return {
    'completions/mean_length': mean(lengths),
    'completions/min_length': lengths.reduce((a, b) => Math.min(a, b)),
    'completions/max_length': lengths.reduce((a, b) => Math.max(a, b)),
    ...(ended.length > 0 && { 'completions/mean_terminated_length': mean(ended.map(length)) }),
    'completions/clipped_ratio': share(all, ({ answer }) => answer.finishReason === 'length'),
    'completions/eos_ratio': share(all, ({ answer }) => answer.finishReason === 'eos'),
    ...(thinking.length > 0 && {
      'thoughts/mean_length': mean(thinking.map(({ tokens }) => tokens.length)),
      'thoughts/clipped_ratio': share(thinking, ({ finishReason }) => finishReason === 'length'),
    }),
  };
}
