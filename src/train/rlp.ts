import { RolloutWriter } from '../arrow.ts';
import { trainOptionsSchema } from '../config.ts';
import { recordedSettings } from '../config-resolve.ts';
import { type DataCursor, DataLoader, fingerprint, type TokenizedDocument } from '../data/index.ts';
import { rlpDocument, type ScoredThought } from '../optim/index.ts';
import { Baseline, type BaselineState, type NoThinkScorer, noThinkLogProbs } from '../reward/index.ts';
import {
  type DocumentRollouts,
  type RolloutDocument,
  RolloutEngine,
  type RolloutGraphs,
  type RolloutOptions,
} from '../rollout/index.ts';
import { type PaidGroup, payThoughts, thoughtMetrics, toRecords } from '../thinking.ts';
import { ThoughtData } from '../thought-data.ts';
import type { TreeDocument } from '../tree-batch.ts';
import type { Objective, OpenObjective, StepInput, StepLoss, TrainContext } from './objective.ts';

/** Padded tokens of a no-think pass. */
const SCORE_TOKENS = 8192;

interface RlpState {
  baseline: BaselineState;
  policyVersion: number;
  cursor: DataCursor;
}

/**
 * RLP (arXiv 2510.01265): the policy thinks at positions of the step's documents, each thought is paid by how much it raises
 * the log-probability of what comes next over the no-think baseline, and the clipped surrogate of the thought tokens is the
 * loss. One update a batch, so the policy that sampled is the policy that is trained.
 */
export const openRlp: OpenObjective = async (config, model) => {
  const thoughts = await ThoughtData.open(model, config);
  const { documents } = await thoughts.read(config.data);
  const heldOut = config.evalData && (await thoughts.read(config.evalData)).documents;
  new DataLoader(documents, { seed: config.seed }).checkBatchSize(config.documentsPerStep);
  return {
    dataHash: fingerprint(documents),
    makeObjective: (context) => rlpObjective(context, thoughts, documents, heldOut),
  };
};

function rlpObjective(
  context: TrainContext,
  thoughts: ThoughtData,
  documents: readonly TokenizedDocument[],
  heldOut: readonly TokenizedDocument[] | undefined,
): Objective {
  const { config, session, modelHash } = context;
  const metadata = { config: recordedSettings(trainOptionsSchema, config), modelHash };
  const graphs = context.model.trainingRolloutGraphs;
  let loader = new DataLoader(documents, { seed: config.seed });

  const scorer = (weights: 'weights' | 'ema'): NoThinkScorer => ({
    copyFromPolicy: async () => {
      if (weights === 'ema') session.resetEma();
    },
    score: (requests, horizon) =>
      noThinkLogProbs((batch) => session.runEvalStep(batch, weights), requests, horizon, SCORE_TOKENS),
  });
  const options =
    config.baseline === 'ema' ? { kind: config.baseline, tau: config.emaDecay } : { kind: config.baseline };
  let baseline = new Baseline(options, scorer('ema'));
  let policyVersion = 0;

  return {
    emaDecay: baseline.emaDecay,

    async prepare({ step, folder, times }: StepInput): Promise<StepLoss> {
      const chosen = loader
        .nextBatch(config.documentsPerStep)
        .map((document) => thoughts.withPositions(document, step));
      const rollouts = await times.time('rollout', () => think(context, graphs, chosen, thoughts.rolloutOptions(step)));
      const { groups, metrics } = await times.time('score', () => payThoughts(rollouts, baseline, config.horizon));
      const versions = { step, policyVersion, baselineVersion: baseline.version };
      await using writer = await RolloutWriter.open(folder.rolloutsPath(step), metadata);
      await writer.append(toRecords(groups, thoughts.decode, versions));
      await writer.finish();
      return { documents: lossDocuments(groups, thoughts.open), metrics: { ...metrics, ...thoughtMetrics(groups) } };
    },

    afterUpdate(applied) {
      baseline.afterUpdate(applied);
      if (applied) policyVersion++;
    },

    async evaluate() {
      if (heldOut === undefined) return undefined;
      // Step 0 is no training step: the same positions and noise at every evaluation.
      const chosen = heldOut.map((document) => thoughts.withPositions(document, 0));
      const rollouts = await think(context, graphs, chosen, thoughts.rolloutOptions(0));
      // What thinking adds for these very weights: their own no-think score, whatever the training's baseline.
      const own = new Baseline({ kind: 'frozen' }, scorer('weights'));
      const { groups, metrics } = await payThoughts(rollouts, own, config.horizon);
      const figures = thoughtMetrics(groups);
      return {
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
      loader = new DataLoader(documents, { seed: config.seed, cursor: saved.cursor });
    },
  };
}

/** Rollouts under the policy as it is now. Throws the signal's reason when it is aborted. */
async function think(
  { hooks, session, sessionOptions }: TrainContext,
  graphs: RolloutGraphs,
  documents: readonly RolloutDocument[],
  options: RolloutOptions,
): Promise<DocumentRollouts[]> {
  using engine = await RolloutEngine.create(graphs, {
    ...sessionOptions,
    initializers: session.weights,
  });
  const rollouts: DocumentRollouts[] = [];
  for await (const rollout of engine.generate(documents, { ...options, signal: hooks.signal })) rollouts.push(rollout);
  return rollouts;
}

/** One tree a document; the loss is the mean over all thoughts of the step. */
function lossDocuments(groups: readonly PaidGroup[], open: readonly number[]): TreeDocument[] {
  const total = groups.reduce((sum, { thoughts }) => sum + thoughts.length, 0);
  const byDocument = new Map<RolloutDocument, ScoredThought[]>();
  for (const { document, thoughts, advantages } of groups) {
    const scored = thoughts.map((thought, g) => ({ ...thought, advantage: advantages[g] }));
    byDocument.set(document, [...(byDocument.get(document) ?? []), ...scored]);
  }
  return [...byDocument].map(([document, thoughts]) => rlpDocument(document.tokens, thoughts, open, total));
}
