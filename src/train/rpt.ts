import { CheckpointScorer } from '../checkpoint-scorer.ts';
import { completionThoughts, prefixMatchVerifier } from '../completion-task.ts';
import type { DataCursor, TokenizedDocument } from '../data/index.ts';
import { RunError } from '../errors.ts';
import { scoreTokens } from '../micro-batches.ts';
import { openModel } from '../model-directory.ts';
import { loadRewardModule, positionScores } from '../reward/index.ts';
import type { RolloutDocument } from '../rollout/index.ts';
import { checkSameTokenizer, ThoughtData } from '../thought-data.ts';
import { completionObjective } from './completion-objective.ts';
import { dataMetrics } from './data-metrics.ts';
import type { OpenObjective } from './objective.ts';
import { StepDraw } from './step-draw.ts';

/** Sets how many documents a step takes. */
const DOCUMENTS_FLAG = '--documents-per-step';

/**
 * RPT (Dong et al., arXiv 2506.08007): the model thinks at positions of a text that a proxy finds hard, states what comes next,
 * and is paid 1 if that is so to the byte, else 0 (src/reward/prefix-match.ts).
 */
export const openRpt: OpenObjective = async (config, model) => {
  const custom = config.reward === undefined ? undefined : await loadRewardModule(config.reward);
  const thoughts = await ThoughtData.open(model, completionThoughts(config));
  thoughts.bytesOf([0]); // a tokenizer without bytes is refused before the work starts
  const { proxyModel, entropyTopK } = config;
  const proxy = proxyModel === undefined ? undefined : await openModel(proxyModel, { entropyTopK });
  if (proxy !== undefined) await checkSameTokenizer(model, proxy);
  const data = await thoughts.documents(config.data);
  const heldOutData = config.evalData && (await thoughts.heldOut(config.evalData));
  const samples = await heldOutData?.all();
  await data.preview().nextBatch(config.documentsPerStep, DOCUMENTS_FLAG);

  const tooCertain = (where: string, count: number) =>
    `${where}: none of ${count} documents has a position at which the next token's entropy is at least ` +
    `${config.entropyThreshold} nats; start a new run with a lower --entropy-threshold`;
  return {
    dataHash: data.hash,
    notices: thoughts.notices,
    ...(custom !== undefined && { rewardHash: custom.hash }),
    data,
    heldOut: heldOutData,
    // What is left of an epoch when it is less than a step is passed over.
    stepsPerEpoch: async () => Math.floor(data.size / config.documentsPerStep),
    makeObjective(context) {
      const { session, sessionOptions } = context;
      let loader = data.loader();
      let heldOut: RolloutDocument[] | undefined;
      let scorer: CheckpointScorer | undefined;

      /** Under the weights of the proxy, or those of the start, which the EMA keeps. */
      const entropies = async (documents: readonly ArrayLike<number>[]): Promise<Float32Array[]> => {
        if (proxy === undefined) {
          return positionScores(
            (batch) => session.runEvalStep(batch, 'ema'),
            documents,
            'entropy',
            scoreTokens(config),
          );
        }
        scorer ??= await CheckpointScorer.create(proxy, sessionOptions, scoreTokens(config));
        return scorer.positionScores(documents, 'entropy');
      };
      /** Documents with positions that are hard enough; the others are left out. */
      const place = async (documents: readonly TokenizedDocument[], step: number): Promise<RolloutDocument[]> => {
        const scores = await entropies(documents.map(({ tokens }) => tokens));
        const hard = (i: number) => (position: number) => scores[i][position] >= config.entropyThreshold;
        return documents
          .map((document, i) => thoughts.withPositions(document, step, scores[i], hard(i)))
          .filter(({ positions }) => positions.length > 0);
      };

      return completionObjective(context, {
        ...{ thoughts, custom },
        ...{ textHash: data.textHash, tokenizerHash: data.tokenizerHash },
        verifier: prefixMatchVerifier(thoughts, config),
        draw(step) {
          let scored = 0;
          const draw = new StepDraw({
            perStep: config.documentsPerStep,
            nextBatch: (count) => loader.nextBatch(count, DOCUMENTS_FLAG),
            place(batch) {
              scored += batch.reduce((sum, { tokens }) => sum + tokens.length - 1, 0);
              return place(batch, step);
            },
          });
          return {
            async next(count) {
              const documents = await draw.next(count);
              if (draw.share > 0) return documents;
              throw new RunError(tooCertain(`step ${step}`, draw.seen));
            },
            scoredTokens: () => scored,
            metrics: () => ({ 'data/documents_kept': draw.share, ...dataMetrics(data, loader.epochs) }),
          };
        },
        async heldOut() {
          // The proxy does not change, and neither do the positions.
          heldOut ??= samples && (await place(samples, 0));
          if (heldOut?.length !== 0) return heldOut;
          throw new RunError(`${tooCertain('evaluation', samples?.length ?? 0)}, or leave out --eval-data`);
        },
        state: (): DataCursor => loader.cursor,
        restore(state) {
          loader = data.loader(state as DataCursor); // written by state() above, and guarded by the checkpoint's hash
        },
        dispose: () => scorer?.[Symbol.dispose](),
      });
    },
  };
};
