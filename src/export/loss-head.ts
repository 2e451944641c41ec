import { internal } from '../errors.ts';
import type { GraphBuilder } from './builder.ts';
import { type DecoderContext, finalNorm, headWeight, multiply } from './decoder.ts';
import { gradients } from './gradient.ts';
import { gatherDistinct } from './gradient-indexing.ts';
import type { Value } from './ir.ts';
import { LOSS_INPUTS, type LossInput, rowLosses } from './policy-loss.ts';

/** Of the logits of one chunk of rows; their softmax takes as much again. */
const CHUNK_BYTES = 2 ** 28;

/** Settings of the loss head. */
export interface HeadOptions {
  /** Declare the input loss_scale float32 [], by which gradients, but not the loss, are multiplied. */
  scaledLoss?: boolean;
  /** Rows that go through the LM head at once, at most; by default those whose logits take 256 MiB. */
  headRows?: number;
  /**
   * Give the entropy of this many likeliest tokens in place of that of all of them: of softmax over their logits, which is
   * their probabilities divided by their sum. It lies between 0 and its logarithm. 0, as by default: all.
   */
  entropyTopK?: number;
}

/** The default of HeadOptions.headRows. */
export const headChunkRows = (vocabSize: number): number => Math.max(1, Math.floor(CHUNK_BYTES / 4 / vocabSize));

/** What the loss head makes of N loss rows, float32. */
export interface LossHead {
  /** Sum over the rows, []. */
  loss: Value;
  /** log p(target) in nats, [N]. */
  logProbs: Value;
  /** Of the prediction, or of its likeliest tokens (HeadOptions.entropyTopK), in nats, [N]. */
  entropy: Value;
  /** exp(log p(target) - old log-prob), [N]. */
  ratio: Value;
}

/** The loss head with its gradients. */
export interface DifferentiatedHead extends LossHead {
  /** The final norm's output, where the rest of the backward pass starts, and d loss / d it. */
  normed: Value;
  dNormed: Value;
  /** d loss / d the head's weight added to what was given, [V, hidden]. */
  dWeight: Value | undefined;
}

/** Final norm, LM head and loss; see `differentiatedHead` for the memory. */
export const lossHead = (context: DecoderContext, hidden: Value, options: HeadOptions): LossHead =>
  chunkedHead(context, hidden, options).head;

/**
 * Final norm, LM head and loss of the rows that have one, and the gradients. Logits exist for one chunk of rows at a time;
 * chunks are equally long, the last one padded with rows of no weight.
 *
 * Gradients are made together with the loss, from the same logits: with p = softmax(z), g = d loss / d log p(target) and
 * e = p - onehot(target), d loss / d z = -g e, which meets the weight W [V, hidden] and the hidden states h [rows, hidden] as
 *
 *   dh = -g (e W)        dW = -e^T (g h)
 *
 * so nothing but matrix products touches [rows, V] again.
 *
 * Declares the inputs loss_rows, target_ids int64 [N] and those of policy-loss.ts. No row may occur twice in loss_rows.
 * @param hidden hidden states of all tokens, [T, hidden]
 * @param onto what d loss / d the head's weight is added to; undefined if that gradient is not wanted
 */
export function differentiatedHead(
  context: DecoderContext,
  hidden: Value,
  onto: Value | undefined,
  options: HeadOptions,
): DifferentiatedHead {
  const { head, normed, dNormed, dWeight } = chunkedHead(context, hidden, options, { onto });
  if (dNormed === undefined) throw internal('a differentiated head without a gradient');
  return { ...head, normed, dNormed, dWeight };
}

function chunkedHead(
  context: DecoderContext,
  hidden: Value,
  options: HeadOptions,
  gradient?: { onto: Value | undefined },
) {
  const { builder: b, config, flavor } = context;
  const topK = Math.min(options.entropyTopK ?? 0, config.vocabSize);
  const limit = options.headRows ?? headChunkRows(config.vocabSize);
  const weight = context.weight(headWeight(config));
  const rows = b.input('loss_rows', 'int64', ['N']);
  const targetIds = b.input('target_ids', 'int64', ['N']);
  const inputs = LOSS_INPUTS.map((name) => b.input(name, 'float32', ['N']));

  // C chunks of M rows: C = ceil(N / limit), M = ceil(N / C).
  const ceilDiv = (a: Value, by: Value) => b.div(b.add(a, b.sub(by, b.int64s([1]))), by);
  b.defineDim('C', ceilDiv(b.dim('N'), b.int64s([limit])));
  b.defineDim('M', ceilDiv(b.dim('N'), b.dim('C')));
  b.defineDim('C*M', b.mul(b.dim('C'), b.dim('M')));
  b.defineDim('padding', b.sub(b.dim('C*M'), b.dim('N')));
  const padded = (x: Value) => b.reshape(b.concat([x, b.zeros(x.dtype, ['padding'])], 0), ['C*M']);
  const chunked = (x: Value) => b.reshape(x, ['C', 'M', ...x.shape.slice(1)]);

  const targets = padded(targetIds);
  const normed = finalNorm(context, gatherDistinct(b, hidden, rows, padded(rows))); // (C*M, hidden)
  const scale = gradient !== undefined && options.scaledLoss ? b.input('loss_scale', 'float32', []) : undefined;
  const perChunk = [normed, targets, ...inputs.map(padded)].map(chunked);
  const carried = gradient?.onto === undefined ? [] : [gradient.onto];
  const loop = b.loop('C', carried, (chunk, [dWeight]) => {
    const [h, target, ...values] = perChunk.map((x) => b.gather(x, chunk));
    const logits = multiply(b, flavor, h, weight); // (M, V)
    const p = b.softmax(logits);
    const index = b.unsqueeze(target, [1]); // (M, 1)
    const chosen = b.gatherElements(logits, index, 1);
    const chosenProb = b.gatherElements(p, index, 1);
    // Read by nothing else, p is overwritten where it lies.
    const e = b.scatterElements(p, index, b.sub(chosenProb, 1), 1, 'none');
    const most = b.reduceMax(logits, [1]);
    const mostLogProb = b.log(b.max(b.reduceMax(e, [1]), chosenProb));
    const flat = (x: Value) => b.squeeze(x, [1]);
    // Differences first: logits can be large where log-probs are close to 0.
    const logProb = flat(b.add(b.sub(chosen, most), mostLogProb));
    const wholeEntropy = () => {
      // sum(p z) = z_target + sum(e z), as a product of two rows (M, 1, V): without a pass over [M, V] to hold e z.
      const product = b.squeeze(b.fusedMatMul(b.unsqueeze(e, [1]), b.unsqueeze(logits, [1]), { transB: true }), [2]);
      return flat(b.sub(b.sub(most, b.add(chosen, product)), mostLogProb));
    };
    const entropy = topK === 0 ? wholeEntropy() : entropyOfLikeliest(b, logits, topK);
    const given = Object.fromEntries(LOSS_INPUTS.map((name, i) => [name, values[i]])) as Record<LossInput, Value>;
    const { losses, ratio } = rowLosses(b, logProb, given);
    const results = [losses, logProb, entropy, ratio];
    if (gradient === undefined) return { carried: [], stacked: results };

    const [slope] = gradients(b, b.reduceSum(losses, [0], false), [logProb]);
    const minusG = b.unsqueeze(b.neg(scale === undefined ? slope : b.mul(slope, scale)), [1]); // (M, 1)
    const dNormed = b.mul(minusG, b.matmul(e, weight));
    const dW = dWeight === undefined ? [] : [b.gemm(e, b.mul(minusG, h), dWeight, { transA: true })];
    return { carried: dW, stacked: [...results, dNormed] };
  });

  const [losses, ...perRow] = loop.stacked.map((x) => b.reshape(x, ['C*M', ...x.shape.slice(2)]));
  const [logProbs, entropy, ratio] = perRow.slice(0, 3).map((x) => b.split(x, ['N', 'padding'], 0)[0]);
  const head: LossHead = { loss: b.reduceSum(losses, [0], false), logProbs, entropy, ratio };
  return { head, normed, dNormed: perRow.at(3), dWeight: loop.carried.at(0) };
}

/** -sum q log q of q = softmax of the `count` largest logits, [M]. */
function entropyOfLikeliest(b: GraphBuilder, logits: Value, count: number): Value {
  const logProbs = b.logSoftmax(b.topK(logits, b.int64s([count]), 1, count)); // (M, count)
  return b.neg(b.reduceSum(b.mul(b.exp(logProbs), logProbs), [1], false));
}
