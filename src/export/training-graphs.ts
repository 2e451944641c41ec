import { trainableShapes } from '../lora.ts';
import { type DecoderContext, decoderBody, headWeight } from './decoder.ts';
import { runResultsEarly } from './execution-order.ts';
import { gradients } from './gradient.ts';
import type { Value } from './ir.ts';
import { differentiatedHead, type HeadOptions, type LossHead, lossHead } from './loss-head.ts';
import { treeBatchAttention } from './training-attention.ts';
import { dropUnread } from './unread.ts';

/** How the training and the evaluation graph trade time for memory. */
export type TrainingGraphOptions = HeadOptions;

/**
 * `eval_model.onnx`: the forward pass over a prefix-tree batch with its loss; one graph for every objective.
 *
 * D documents: trunks of P >= 4 tokens (causal), R branches each of L tokens (causal among themselves, and seeing the trunk
 * below branch_trunk_lengths). Token rows are flat: all D*P trunk tokens, then all D*R*L branch tokens.
 * Inputs: the weights by name, float32; trunk_ids, trunk_positions int64 [D, P]; branch_ids, branch_positions int64
 * [D, R, L]; branch_trunk_lengths int64 [D, R]; and for N loss rows: loss_rows int64 [N], the token row whose hidden
 * state predicts target_ids int64 [N]; and the inputs of policy-loss.ts, whose sum over the rows is the loss.
 * Outputs: loss float32 []; log_probs, entropy (nats), ratio (rho) float32 [N].
 */
export function buildEvalModel(context: DecoderContext, options: TrainingGraphOptions = {}): void {
  declareOutputs(context, lossHead(context, treeForward(context), options));
  dropUnread(context.builder.graph);
}

/**
 * `training_model.onnx`: eval_model.onnx plus, for every weight NAME that is trained (with LoRA the adapters), the input
 * NAME.grad and the output NAME.grad.out = NAME.grad + d loss / d NAME, to be bound onto the input: gradients accumulate
 * over micro-batches in place. Unlike in eval_model.onnx no token may occur twice in loss_rows.
 */
export function buildTrainingModel(context: DecoderContext, options: TrainingGraphOptions = {}): void {
  const { builder: b, config, weight, lora } = context;
  const names = [...trainableShapes(config, lora).keys()];
  const sums = new Map(
    names.map((name) => [weight(name), b.input(`${name}.grad`, 'float32', weight(name).shape)] as const),
  );
  const table = weight(headWeight(config));
  const head = differentiatedHead(context, treeForward(context), sums.get(table), options);
  declareOutputs(context, head);
  if (head.dWeight !== undefined) sums.set(table, head.dWeight);
  const grads = gradients(b, head.normed, names.map(weight), head.dNormed, sums);
  names.forEach((name, i) => {
    b.output(`${name}.grad.out`, grads[i]);
  });
  dropUnread(b.graph);
  runResultsEarly(b.graph);
}

function declareOutputs({ builder: b }: DecoderContext, { loss, logProbs, entropy, ratio }: LossHead): void {
  b.output('loss', loss);
  b.output('log_probs', logProbs);
  b.output('entropy', entropy);
  b.output('ratio', ratio);
}

/** Hidden states [D*P + D*R*L, hidden] of a prefix-tree batch. */
function treeForward(context: DecoderContext): Value {
  const { builder: b, config } = context;
  const heads = { numHeads: config.numHeads, numKvHeads: config.numKvHeads, headDim: config.headDim };
  const trunkIds = b.input('trunk_ids', 'int64', ['D', 'P']);
  const trunkPositions = b.input('trunk_positions', 'int64', ['D', 'P']);
  const branchIds = b.input('branch_ids', 'int64', ['D', 'R', 'L']);
  const branchPositions = b.input('branch_positions', 'int64', ['D', 'R', 'L']);
  const trunkLengths = b.input('branch_trunk_lengths', 'int64', ['D', 'R']);
  b.defineDim('D*P', b.mul(b.dim('D'), b.dim('P')));
  b.defineDim('D*R*L', b.mul(b.mul(b.dim('D'), b.dim('R')), b.dim('L')));

  const trunk = { groups: 'D', rows: 1, length: 'P', ...heads };
  const branch = { groups: 'D', rows: 'R', length: 'L', ...heads };
  const attend = treeBatchAttention(b, trunk, branch, trunkLengths);
  const flat = (trunkTokens: Value, branchTokens: Value) =>
    b.concat([b.reshape(trunkTokens, ['D*P']), b.reshape(branchTokens, ['D*R*L'])], 0);
  return decoderBody(context, flat(trunkIds, branchIds), flat(trunkPositions, branchPositions), attend);
}
