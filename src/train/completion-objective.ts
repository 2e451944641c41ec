import { RolloutWriter } from '../arrow.ts';
import {
  completionMetrics,
  completionRecords,
  completionsOf,
  payCompletions,
  type VerifiedCompletions,
  type Verifier,
  verifyCompletions,
} from '../completions.ts';
import type { PayRules } from '../pay.ts';
import { NO_BASELINE } from '../records.ts';
import { type CustomReward, givesGradient } from '../reward/index.ts';
import type { DocumentRollouts, RolloutDocument } from '../rollout/index.ts';
import type { ThoughtData } from '../thought-data.ts';
import { fillStep } from './dynamic-sampling.ts';
import type { Objective, StepInput, StepLoss, TrainContext } from './objective.ts';
import { countTokens, rolloutMetadata, sampledTokens, sampleRollouts } from './sampling.ts';
import { thoughtLoss, withForwardPasses } from './thought-documents.ts';

/** What is completed, and what completions are worth. */
export interface CompletionTask {
  thoughts: ThoughtData;
  textHash: string;
  tokenizerHash: string;
  verifier: Verifier;
  /** A reward of the user's own, in place of the verifier's. */
  custom: CustomReward | undefined;
  /** Begins a step. */
  draw(step: number): CompletionDraw;
  /** The same held-out documents and positions at every evaluation; undefined where there are none. */
  heldOut(): Promise<readonly RolloutDocument[] | undefined>;
  /** Where `draw` stands, as JSON. */
  state(): unknown;
  restore(state: unknown): void;
  dispose?(): void;
}

/** What is completed in a step. */
export interface CompletionDraw {
  /**
   * Up to `count` documents with their positions that the step has not had.
   * @throws RunError if the data has none for the step
   */
  next(count: number): Promise<RolloutDocument[]>;
  /** Tokens of the forward passes that chose positions so far. */
  scoredTokens(): number;
  /** Figures of what was drawn. */
  metrics(): Record<string, number>;
}

/** Completions that were sampled and verified together. */
interface Round {
  rollouts: DocumentRollouts[];
  verified: VerifiedCompletions;
}

interface CompletionState {
  policyVersion: number;
  task: unknown;
}

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
      completionsOf(ofDocument).map(({ position, answer }) =>
        verifier.reward(document, { position, answer: answer.tokens }),
      ),
    );
    return { completions, mean: rewards.reduce((a, b) => a + b, 0) / rewards.length };
  };

  const withGradient = async ({ rollouts, verified }: Round): Promise<RolloutDocument[]> => {
    const { groups } = await payCompletions([verified], rules);
    const compared = new Set(
      groups.filter(({ advantages }) => givesGradient(advantages)).map(({ document }) => document),
    );
    return rollouts.map(({ document }) => document).filter((document) => compared.has(document));
  };

  return {
    emaDecay: 1, // the EMA keeps the weights of the start: the reference of the KL, or the proxy

    async prepare({ step, folder, times }: StepInput): Promise<StepLoss> {
      const versions = { step, policyVersion, baselineVersion: NO_BASELINE };
      const drawn = task.draw(step);
      const draw = (count: number) => times.time('score', () => drawn.next(count));
      const sample = async (documents: RolloutDocument[]): Promise<Round> => {
        const rollouts = await times.time('rollout', () =>
          sampleRollouts(context, documents, thoughts.rolloutOptions(step)),
        );
        times.count('rollout', sampledTokens(rollouts));
        const pay = custom && { reward: custom, decode: thoughts.decode, versions };
        return { rollouts, verified: await times.time('score', () => verifyCompletions(rollouts, verifier, pay)) };
      };
      const { documentsPerStep: wanted, resampleFrom } = config;
      const resamples = resampleFrom > 0 && step >= resampleFrom;
      const filled = resamples ? await fillStep({ wanted, draw, sample, keptOf: withGradient }) : undefined;
      const rounds = filled?.rounds ?? [await sample(await draw(wanted))];
      const rollouts = rounds.flatMap((round) => round.rollouts);
      const { groups, metrics } = await times.time('score', () =>
        payCompletions(
          rounds.map(({ verified }) => verified),
          rules,
        ),
      );
      await using writer = await RolloutWriter.open(folder.rolloutsPath(step), metadata);
      await writer.append(completionRecords(groups, thoughts.decode, versions));
      await writer.finish();
      const open = config.withoutThought ? [] : thoughts.delimiters.open;
      const kept = filled === undefined ? groups : groups.filter(({ document }) => filled.kept.includes(document));
      const loss = thoughtLoss(kept, open, lossOptions);
      const scored = await times.time('score', () => withForwardPasses(loss, context));
      times.count('score', scored.tokens + drawn.scoredTokens());
      const completions = groups.flatMap((group) => group.thoughts);
      const tokens = countTokens(rollouts, open);
      return {
        documents: scored.documents,
        tokens,
        metrics: {
          ...{ ...metrics, ...completionMetrics(completions), ...scored.metrics, ...drawn.metrics() },
          ...(filled && {
            'dynamic_sampling/documents': filled.sampled,
            'dynamic_sampling/kept_ratio': filled.withGradient / filled.sampled,
            'dynamic_sampling/filled_ratio': filled.kept.length / wanted,
          }),
        },
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
