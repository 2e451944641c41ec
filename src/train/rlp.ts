import { RolloutWriter } from '../arrow.ts';
import { RLP_EMA_DECAY } from '../config.ts';
import type { DataCursor, TextData, TokenizedDocument } from '../data/index.ts';
import { scoreTokens } from '../micro-batches.ts';
import {
  Baseline,
  type BaselineState,
  type CustomReward,
  loadRewardModule,
  type NoThinkScorer,
  noThinkLogProbs,
  type PositionScore,
  positionScores,
} from '../reward/index.ts';
import { type PayOptions, payThoughts, thoughtMetrics, toRecords } from '../thinking.ts';
import { ThoughtData } from '../thought-data.ts';
import { dataMetrics } from './data-metrics.ts';
import type { Objective, OpenObjective, StepInput, StepLoss, TrainContext } from './objective.ts';
import { countTokens, rolloutMetadata, sampledTokens, sampleRollouts } from './sampling.ts';
import { bestThoughtLoss, thoughtLoss, withForwardPasses } from './thought-documents.ts';

/** Sets how many documents a step takes. */
const DOCUMENTS_FLAG = '--documents-per-step';

interface RlpState {
  baseline: BaselineState;
  policyVersion: number;
  cursor: DataCursor;
}

/**
 * RLP (arXiv 2510.01265): the policy thinks at positions of the step's documents, each thought is paid by how much it raises
 * the log-probability of what comes next over the no-think baseline, and the clipped surrogate of the thought tokens is the
 * loss. What else there is to choose is in the files of src/reward and src/optim; docs/method.md lists it.
 */
export const openRlp: OpenObjective = async (config, model) => {
  const custom = config.reward === undefined ? undefined : await loadRewardModule(config.reward);
  const thoughts = await ThoughtData.open(model, config);
  const data = await thoughts.documents(config.data);
  const heldOutData = config.evalData && (await thoughts.heldOut(config.evalData));
  const heldOut = await heldOutData?.all();
  // What is wrong with the data as a whole shows at the first step; find it before the work starts.
  await data.preview().nextBatch(config.documentsPerStep, DOCUMENTS_FLAG);
  return {
    dataHash: data.hash,
    notices: thoughts.notices,
    ...(custom !== undefined && { rewardHash: custom.hash }),
    data,
    heldOut: heldOutData,
    // What is left of an epoch when it is less than a step is passed over.
    stepsPerEpoch: async () => Math.floor(data.size / config.documentsPerStep),
    makeObjective: (context) => rlpObjective(context, thoughts, data, heldOut, custom),
  };
};

function rlpObjective(
  context: TrainContext,
  thoughts: ThoughtData,
  data: TextData,
  heldOut: readonly TokenizedDocument[] | undefined,
  custom: CustomReward | undefined,
): Objective {
  const { config, session } = context;
  const metadata = rolloutMetadata(context, data);
  let loader = data.loader();

  /** Tokens of the forward passes of a step. */
  let scored = 0;
  const scorer = (weights: 'weights' | 'ema'): NoThinkScorer => ({
    copyFromPolicy: async () => {
      if (weights === 'ema') session.resetEma();
    },
    score(requests, horizon) {
      scored += requests.reduce((sum, { positions }) => sum + Math.max(...positions) + horizon - 1, 0);
      return noThinkLogProbs((batch) => session.runEvalStep(batch, weights), requests, horizon, scoreTokens(config));
    },
  });
  const options =
    config.baseline === 'ema'
      ? { kind: config.baseline, tau: config.emaDecay ?? RLP_EMA_DECAY }
      : { kind: config.baseline };
  const scorePositions = (documents: readonly ArrayLike<number>[], kind: PositionScore) => {
    const weights = config.baseline === 'none' ? 'weights' : 'ema';
    scored += documents.reduce((sum, { length }) => sum + length - 1, 0);
    return positionScores((batch) => session.runEvalStep(batch, weights), documents, kind, scoreTokens(config));
  };
  let baseline = new Baseline(options, scorer('ema'));
  let policyVersion = 0;
  const payOptions: PayOptions = {
    ...config,
    advantage: { group: config.compareWithin, scale: config.advantageScale, sign: config.rewardSign },
  };

  return {
    emaDecay: baseline.emaDecay,

    async prepare({ step, folder, times }: StepInput): Promise<StepLoss> {
      scored = 0;
      const batch = await loader.nextBatch(config.documentsPerStep, DOCUMENTS_FLAG);
      const chosen = await times.time('score', () => all(thoughts.place(batch, step, scorePositions)));
      const rollouts = await times.time('rollout', () =>
        sampleRollouts(context, chosen, thoughts.rolloutOptions(step)),
      );
      const versions = { step, policyVersion, baselineVersion: baseline.version };
      const { groups, metrics } = await times.time('score', () =>
        payThoughts(rollouts, baseline, payOptions, custom && { reward: custom, decode: thoughts.decode, versions }),
      );
      await using writer = await RolloutWriter.open(folder.rolloutsPath(step), metadata);
      await writer.append(toRecords(groups, thoughts.decode, versions));
      await writer.finish();
      times.count('rollout', sampledTokens(rollouts));
      const loss =
        config.thoughtLoss === 'best-of-group'
          ? bestThoughtLoss(groups, thoughts.delimiters)
          : thoughtLoss(groups, thoughts.delimiters.open, config);
      const { documents, tokens, metrics: passes } = await times.time('score', () => withForwardPasses(loss, context));
      times.count('score', scored + tokens);
      return {
        documents,
        tokens: countTokens(rollouts, thoughts.delimiters.open),
        metrics: { ...metrics, ...thoughtMetrics(groups), ...passes, ...dataMetrics(data, loader.epochs) },
      };
    },

    afterUpdate(applied) {
      baseline.afterUpdate(applied);
      if (applied) policyVersion++;
    },

    async evaluate() {
      if (heldOut === undefined) return undefined;
      // Step 0 is no training step: the same positions and noise at every evaluation.
      const chosen = heldOut.map((document) => thoughts.withPositions(document, 0));
      const rollouts = await sampleRollouts(context, chosen, thoughts.rolloutOptions(0));
      // What thinking adds for these very weights: their own no-think score, whatever the training's baseline.
      const own = new Baseline({ kind: 'frozen' }, scorer('weights'));
      const versions = { step: 0, policyVersion, baselineVersion: policyVersion };
      const pay = custom && { reward: custom, decode: thoughts.decode, versions };
      const { groups, metrics } = await payThoughts(rollouts, own, config, pay);
      const figures = thoughtMetrics(groups);
      return {
        ...(custom !== undefined && { 'eval/reward': metrics.reward }),
        'eval/information_gain': metrics.information_gain ?? Number.NaN,
        'eval/information_gain_positive': metrics.information_gain_positive ?? Number.NaN,
        'eval/reasoned_cross_entropy': figures.reasoned_cross_entropy,
        'eval/no_think_cross_entropy': figures.baseline_cross_entropy,
        'eval/completions/mean_length': figures['completions/mean_length'],
      };
    },

    state: (): RlpState => ({ baseline: baseline.state, policyVersion, cursor: loader.cursor }),
    restore(state) {
      const saved = state as RlpState; // written by state() above, and guarded by the checkpoint's hash
      baseline = new Baseline(options, scorer('ema'), saved.baseline);
      policyVersion = saved.policyVersion;
      loader = data.loader(saved.cursor);
    },
  };
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = [];
  for await (const item of items) list.push(item);
  return list;
}
