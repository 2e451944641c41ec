import { RolloutWriter } from '../arrow.ts';
import { completionMetrics, completionRecords, payCompletions, type Verifier } from '../completions.ts';
import type { TrainConfig } from '../config.ts';
import type { PayRules } from '../pay.ts';
import { NO_BASELINE } from '../records.ts';
import type { CustomReward } from '../reward/index.ts';
import type { RolloutDocument } from '../rollout/index.ts';
import type { CompletionSettings, ThoughtData } from '../thought-data.ts';
import type { Objective, StepInput, StepLoss, TrainContext } from './objective.ts';
import { countTokens, rolloutMetadata, sampledTokens, sampleRollouts } from './sampling.ts';
import { thoughtLoss, withForwardPasses } from './thought-documents.ts';

/** What is completed, and what completions are worth. */
export interface CompletionTask {
  thoughts: ThoughtData;
  tokenizerHash: string;
  verifier: Verifier;
  /** A reward of the user's own, in place of the verifier's. */
  custom: CustomReward | undefined;
  /** What is completed in a step: documents with their positions, at least one. */
  next(step: number): Promise<{ documents: RolloutDocument[]; metrics: Record<string, number> }>;
  /** The same held-out documents and positions at every evaluation; undefined where there are none. */
  heldOut(): Promise<readonly RolloutDocument[] | undefined>;
  /** Where `next` stands, as JSON. */
  state(): unknown;
  restore(state: unknown): void;
  dispose?(): void;
}

interface CompletionState {
  policyVersion: number;
  task: unknown;
}

/** How the completions of `config` are sampled. */
export const completionSettings = (config: TrainConfig): CompletionSettings => ({
  thought: !config.withoutThought,
  maxTokens: config.maxCompletionTokens,
  stop: config.stop ?? [],
});

/**
 * GRPO (Shao et al., arXiv 2402.03300) on sampled completions: thought, answer, a reward by a verifier, advantages within the
 * group, and the clipped surrogate of all sampled tokens. What is given or forced (prompt, delimiters) has no gradient.
 */
export function completionObjective(context: TrainContext, task: CompletionTask): Objective {
  const { config } = context;
  const { thoughts, verifier, custom } = task;
  const metadata = rolloutMetadata(context, task);
  const rules: PayRules = {
    unclosed: config.unclosed,
    unclosedPenalty: config.unclosedPenalty,
    // The mean of the group is that of GRPO, with the completion itself.
    advantage: { group: config.compareWithin, scale: config.advantageScale, leaveOneOut: false },
  };
  const lossOptions = {
    ...config,
    maxThoughtTokens: config.maxCompletionTokens + (config.withoutThought ? 0 : config.maxThoughtTokens),
  };
  let policyVersion = 0;

  /** Mean reward on held-out data; no group is compared. */
  const accuracy = async (
    documents: readonly RolloutDocument[],
    options: { temperature: number; groupSize: number },
  ) => {
    const rollouts = await sampleRollouts(context, documents, { ...thoughts.rolloutOptions(0), ...options });
    const completions = rollouts.flatMap((rollout) => rollout.thoughts);
    const rewards = rollouts.flatMap(({ document, thoughts: ofDocument }) =>
      ofDocument.flatMap((thought) =>
        thought.answer === undefined ? [] : [verifier.reward(document, { ...thought, answer: thought.answer })],
      ),
    );
    return { completions, mean: rewards.reduce((a, b) => a + b, 0) / rewards.length };
  };

  return {
    emaDecay: 1, // the EMA keeps the weights of the start: the reference of the KL, or the proxy

    async prepare({ step, folder, times }: StepInput): Promise<StepLoss> {
      const { documents, metrics: ofTask } = await times.time('score', () => task.next(step));
      const rollouts = await times.time('rollout', () =>
        sampleRollouts(context, documents, thoughts.rolloutOptions(step)),
      );
      times.count('rollout', sampledTokens(rollouts));
      const versions = { step, policyVersion, baselineVersion: NO_BASELINE };
      const { groups, metrics } = await times.time('score', () =>
        payCompletions(rollouts, verifier, rules, custom && { reward: custom, decode: thoughts.decode, versions }),
      );
      await using writer = await RolloutWriter.open(folder.rolloutsPath(step), metadata);
      await writer.append(completionRecords(groups, thoughts.decode, versions));
      await writer.finish();
      const open = config.withoutThought ? [] : thoughts.delimiters.open;
      const loss = thoughtLoss(groups, open, lossOptions);
      const { documents: trees, metrics: passes } = await times.time('score', () => withForwardPasses(loss, context));
      const completions = groups.flatMap((group) => group.thoughts);
      const tokens = countTokens(rollouts, open);
      return {
        documents: trees,
        tokens,
        metrics: { ...metrics, ...completionMetrics(completions), ...passes, ...ofTask },
      };
    },

    afterUpdate(applied) {
      if (applied) policyVersion++;
    },

    async evaluate() {
      const heldOut = await task.heldOut();
      if (heldOut === undefined) return undefined;
      const greedy = await accuracy(heldOut, { temperature: 0, groupSize: 1 });
      const { temperature, evalSamples } = config;
      const sampled = evalSamples > 0 ? await accuracy(heldOut, { temperature, groupSize: evalSamples }) : undefined;
      return {
        'eval/accuracy': greedy.mean,
        ...(sampled && { 'eval/accuracy_sampled': sampled.mean }),
        'eval/completions/mean_length': completionMetrics(greedy.completions)['completions/mean_length'],
      };
    },

    state: (): CompletionState => ({ policyVersion, task: task.state() }),
    restore(state) {
      const saved = state as CompletionState; // written by state() above, and guarded by the checkpoint's hash
      policyVersion = saved.policyVersion;
      task.restore(saved.task);
    },
    ...(task.dispose && { dispose: task.dispose }),
  };
}
