import type { TrainConfig } from '../config.ts';
import { scoreTokens } from '../micro-batches.ts';
import {
  type ImitatedThought,
  imitationDocument,
  type LengthNormalization,
  nextTokenRows,
  rlpDocument,
  rowLogProbs,
  type ScoredThought,
  sampledLength,
  tokenWeights,
  truncatedImportanceWeights,
  withImportanceWeights,
  withKl,
} from '../optim/index.ts';
import { givesGradient, type ZeroVariance } from '../reward/index.ts';
import type { Answer, RolloutDocument } from '../rollout/index.ts';
import type { PaidGroup } from '../thinking.ts';
import { type TreeDocument, tokensOf } from '../tree-batch.ts';
import { samplingDifference } from './metrics.ts';
import type { TrainContext } from './objective.ts';

/** Which thoughts make the loss, and how they are weighted. */
export interface ThoughtLossOptions {
  zeroVariance: ZeroVariance;
  lengthNormalization: LengthNormalization;
  /** Most tokens sampled a thought, with its answer where there is one. */
  maxThoughtTokens: number;
  nextTokenCoefficient: number;
}

/** A thought that is part of the loss. */
interface LossThought extends ScoredThought {
  samplingLogProbs: readonly number[];
  answer?: Answer;
}

/** The loss of a step's thoughts as trees, a document each, with what the sampler gave the thought tokens. */
export interface ThoughtLoss {
  documents: TreeDocument[];
  /** Log-prob under the distribution drawn from, one a policy row, in their order. */
  samplingLogProbs: number[];
  /** Log-prob that the sampler recorded at temperature 1. */
  rolloutLogProbs: number[];
}

/**
 * Turns paid thoughts into loss rows. Excluded thoughts, and under 'drop' groups whose advantages are all 0, are left out and
 * do not count in the means; a document with nothing left is left out, unless its text has a loss of its own.
 * @param open tokens of the opening delimiter; none where there is no thought
 */
export function thoughtLoss(
  groups: readonly PaidGroup[],
  open: readonly number[],
  options: ThoughtLossOptions,
): ThoughtLoss {
  const byDocument = new Map<RolloutDocument, LossThought[]>();
  for (const { document, thoughts, advantages, excluded } of groups) {
    const kept = byDocument.get(document) ?? [];
    byDocument.set(document, kept);
    if (options.zeroVariance === 'drop' && !givesGradient(advantages)) continue;
    thoughts.forEach((thought, g) => {
      if (!excluded[g]) kept.push({ ...thought, advantage: advantages[g] });
    });
  }
  const all = [...byDocument.values()].flat();
  const lengths = all.map(sampledLength);
  const weights = tokenWeights(lengths, options.lengthNormalization, options.maxThoughtTokens);
  all.forEach((thought, i) => {
    thought.tokenWeight = weights[i];
  });
  // Text before a document's last position, and the token there.
  const lastTarget = ({ positions }: RolloutDocument) => positions.reduce((a, b) => Math.max(a, b));
  const firstTarget = ({ promptTokens = 0 }: RolloutDocument) => Math.max(1, promptTokens);
  const targets = [...byDocument.keys()].reduce((sum, doc) => sum + lastTarget(doc) - firstTarget(doc) + 1, 0);
  const documents = [...byDocument].flatMap(([document, thoughts]): TreeDocument[] => {
    const { tokens } = document;
    if (options.nextTokenCoefficient === 0) {
      return thoughts.length === 0 ? [] : [rlpDocument(tokens, thoughts, open, all.length)];
    }
    const last = lastTarget(document);
    const weight = options.nextTokenCoefficient / targets;
    return [
      {
        trunk: Array.from(tokens).slice(0, last),
        losses: nextTokenRows(tokens, firstTarget(document), last, weight),
        branches: thoughts.length === 0 ? [] : rlpDocument(tokens, thoughts, open, all.length).branches,
      },
    ];
  });
  return {
    documents,
    samplingLogProbs: all.flatMap((thought) => [
      ...thought.samplingLogProbs,
      ...(thought.answer?.samplingLogProbs ?? []),
    ]),
    rolloutLogProbs: all.flatMap((thought) => [...thought.logProbs, ...(thought.answer?.logProbs ?? [])]),
  };
}

/**
 * The loss of imitating the best: of each group the thought that was paid most (the first of several), and the text after it,
 * as next-token targets, every token weighing the same. Rejection sampling instead of a policy gradient (RAFT, Dong et
 * al., arXiv 2304.06767): what a sceptic would try first. Groups without a thought that counts are left out.
 */
export function bestThoughtLoss(
  groups: readonly PaidGroup[],
  { open, close }: { open: readonly number[]; close: readonly number[] },
): ThoughtLoss {
  const byDocument = new Map<RolloutDocument, ImitatedThought[]>();
  for (const { document, thoughts, rewards, excluded } of groups) {
    const candidates = thoughts.flatMap((thought, g) => (excluded[g] ? [] : [{ thought, reward: rewards[g] }]));
    if (candidates.length === 0) continue;
    const { thought } = candidates.reduce((best, other) => (other.reward > best.reward ? other : best));
    const tokens = thought.finishReason === 'closed' ? thought.tokens : [...thought.tokens, ...close];
    const { position, targets } = thought;
    byDocument.set(document, [...(byDocument.get(document) ?? []), { position, tokens, targets }]);
  }
  const all = [...byDocument.values()].flat();
  const weight = 1 / all.reduce((sum, { tokens, targets }) => sum + tokens.length + targets.length, 0);
  const documents = [...byDocument].map(([{ tokens }, thoughts]) => imitationDocument(tokens, thoughts, open, weight));
  return { documents, samplingLogProbs: [], rolloutLogProbs: [] };
}

/**
 * What the loss needs from forward passes of weights other than those at hand: the reference of the KL, and the importance
 * weights of the sampler. Costs one pass each, and none where neither is asked for.
 * @returns the documents with it, and the tokens of the passes
 */
export async function withForwardPasses(
  { documents, samplingLogProbs, rolloutLogProbs }: ThoughtLoss,
  {
    config,
    session,
    reference,
  }: {
    session: Pick<TrainContext['session'], 'runEvalStep'>;
    reference: Pick<TrainContext['reference'], 'rowLogProbs'>;
    config: Pick<TrainConfig, 'klCoefficient' | 'importanceSampling' | 'importanceCap' | 'microBatchTokens'>;
  },
): Promise<{ documents: TreeDocument[]; tokens: number; metrics: Record<string, number> }> {
  let changed = documents;
  let tokens = 0;
  if (documents.length > 0 && config.klCoefficient > 0) {
    tokens += tokensOf(documents);
    changed = withKl(changed, await reference.rowLogProbs(documents), config.klCoefficient);
  }
  if (config.importanceSampling === 'none' || rolloutLogProbs.length === 0) {
    return { documents: changed, tokens, metrics: {} };
  }
  tokens += tokensOf(documents);
  const trainer = await rowLogProbs(documents, (batch) => session.runEvalStep(batch), scoreTokens(config));
  const rows = documents.flatMap(({ losses, branches }) => [losses, ...branches.map((branch) => branch.losses)].flat());
  const ofPolicy = trainer.filter((_, n) => rows[n].policyWeight !== undefined);
  const sampler = config.importanceSampling === 'behavior' ? samplingLogProbs : rolloutLogProbs;
  const weights = truncatedImportanceWeights(ofPolicy, sampler, config.importanceCap);
  return {
    documents: withImportanceWeights(changed, trainer, weights),
    tokens,
    metrics: {
      ...samplingDifference(ofPolicy, rolloutLogProbs),
      'sampling/importance_sampling_ratio/min': weights.reduce((a, b) => Math.min(a, b)),
      'sampling/importance_sampling_ratio/mean': weights.reduce((a, b) => a + b) / weights.length,
      'sampling/importance_sampling_ratio/max': weights.reduce((a, b) => Math.max(a, b)),
    },
  };
}
