import { internal } from './errors.ts';

/** One position at which the loss looks at a prediction. Fields left out are 0. */
export interface LossRow {
  /** Index of the token, in its trunk or branch, whose hidden state predicts `target`. */
  token: number;
  target: number;
  /** log pi_old(target), nats, at temperature 1. */
  oldLogProb?: number;
  advantage?: number;
  /** Weight of the clipped surrogate, say 1 / (|c| * B * G). */
  policyWeight?: number;
  /** Weight of -log p(target). */
  nllWeight?: number;
  /** log pi_ref(target), nats, at temperature 1. */
  referenceLogProb?: number;
  /** Weight of the estimate of KL(pi || pi_ref), see policy-loss.ts. */
  klWeight?: number;
}

/** Tokens that follow the first `trunkLength` tokens of a trunk, unseen by other branches. */
export interface TreeBranch {
  trunkLength: number;
  tokens: ArrayLike<number>;
  losses: readonly LossRow[];
}

/** A document once, and everything that was written after prefixes of it. */
export interface TreeDocument {
  trunk: ArrayLike<number>;
  losses: readonly LossRow[];
  branches: readonly TreeBranch[];
}

/** Tokens of documents, each once, and of their branches. */
export const tokensOf = (documents: readonly TreeDocument[]): number =>
  documents.reduce(
    (sum, { trunk, branches }) => sum + trunk.length + branches.reduce((n, { tokens }) => n + tokens.length, 0),
    0,
  );

/**
 * Prefix-tree batch as the training and evaluation graphs take it: D documents padded to P trunk tokens, at least
 * TRUNK_BLOCKS, R branches each of L tokens, N loss rows. Row-major.
 */
export interface TreeBatch {
  dims: { D: number; P: number; R: number; L: number; N: number };
  trunk_ids: BigInt64Array; // [D, P]
  trunk_positions: BigInt64Array; // [D, P]
  branch_ids: BigInt64Array; // [D, R, L]
  branch_positions: BigInt64Array; // [D, R, L]
  branch_trunk_lengths: BigInt64Array; // [D, R]
  /** Index into the D*P trunk tokens followed by the D*R*L branch tokens. */
  loss_rows: BigInt64Array; // [N]
  target_ids: BigInt64Array; // [N]
  old_log_probs: Float32Array; // [N]
  advantages: Float32Array; // [N]
  policy_weights: Float32Array; // [N]
  nll_weights: Float32Array; // [N]
  reference_log_probs: Float32Array; // [N]
  kl_weights: Float32Array; // [N]
}

/** Blocks in which the graphs attend over a trunk: none of them may be empty. */
export const TRUNK_BLOCKS = 4;

const longest = (lengths: readonly number[], atLeast: number): number =>
  lengths.reduce((a, b) => Math.max(a, b), atLeast);

/**
 * Packs documents into one batch. Loss rows keep the order in which they are met: for each document its trunk's, then
 * each branch's; so do per-row results of a run. Padding is token 0 and reaches no loss row.
 */
export function buildTreeBatch(documents: readonly TreeDocument[]): TreeBatch {
  const D = documents.length;
  const P = longest(
    documents.map(({ trunk }) => trunk.length),
    TRUNK_BLOCKS,
  );
  const R = longest(
    documents.map(({ branches }) => branches.length),
    1,
  );
  const L = longest(
    documents.flatMap(({ branches }) => branches.map(({ tokens }) => tokens.length)),
    1,
  );
  const rows = documents.flatMap((document) => [document.losses, ...document.branches.map(({ losses }) => losses)]);
  const N = rows.reduce((sum, losses) => sum + losses.length, 0);
  if (D === 0 || N === 0) throw internal(`a batch of ${D} documents and ${N} loss rows`);
  const batch: TreeBatch = {
    dims: { D, P, R, L, N },
    trunk_ids: new BigInt64Array(D * P),
    trunk_positions: new BigInt64Array(D * P),
    branch_ids: new BigInt64Array(D * R * L),
    branch_positions: new BigInt64Array(D * R * L),
    branch_trunk_lengths: new BigInt64Array(D * R),
    loss_rows: new BigInt64Array(N),
    target_ids: new BigInt64Array(N),
    old_log_probs: new Float32Array(N),
    advantages: new Float32Array(N),
    policy_weights: new Float32Array(N),
    nll_weights: new Float32Array(N),
    reference_log_probs: new Float32Array(N),
    kl_weights: new Float32Array(N),
  };
  let n = 0;
  const addLosses = (losses: readonly LossRow[], start: number, length: number) => {
    for (const loss of losses) {
      if (loss.token < 0 || loss.token >= length) throw internal(`loss row at token ${loss.token} of ${length}`);
      batch.loss_rows[n] = BigInt(start + loss.token);
      batch.target_ids[n] = BigInt(loss.target);
      batch.old_log_probs[n] = loss.oldLogProb ?? 0;
      batch.advantages[n] = loss.advantage ?? 0;
      batch.policy_weights[n] = loss.policyWeight ?? 0;
      batch.nll_weights[n] = loss.nllWeight ?? 0;
      batch.reference_log_probs[n] = loss.referenceLogProb ?? 0;
      batch.kl_weights[n] = loss.klWeight ?? 0;
      n++;
    }
  };
  documents.forEach(({ trunk, losses, branches }, d) => {
    for (let p = 0; p < P; p++) {
      batch.trunk_ids[d * P + p] = BigInt(p < trunk.length ? trunk[p] : 0);
      batch.trunk_positions[d * P + p] = BigInt(p);
    }
    addLosses(losses, d * P, trunk.length);
    branches.forEach(({ trunkLength, tokens, losses: branchLosses }, r) => {
      if (trunkLength < 0 || trunkLength > trunk.length)
        throw internal(`branch after ${trunkLength} of ${trunk.length}`);
      const row = d * R + r;
      batch.branch_trunk_lengths[row] = BigInt(trunkLength);
      for (let l = 0; l < tokens.length; l++) {
        batch.branch_ids[row * L + l] = BigInt(tokens[l]);
        batch.branch_positions[row * L + l] = BigInt(trunkLength + l);
      }
      addLosses(branchLosses, D * P + row * L, tokens.length);
    });
  });
  return batch;
}

/** Shapes of a batch's tensors by input name, for binding them. */
export function treeBatchShapes({
  dims: { D, P, R, L, N },
}: TreeBatch): Record<Exclude<keyof TreeBatch, 'dims'>, number[]> {
  return {
    trunk_ids: [D, P],
    trunk_positions: [D, P],
    branch_ids: [D, R, L],
    branch_positions: [D, R, L],
    branch_trunk_lengths: [D, R],
    loss_rows: [N],
    target_ids: [N],
    old_log_probs: [N],
    advantages: [N],
    policy_weights: [N],
    nll_weights: [N],
    reference_log_probs: [N],
    kl_weights: [N],
  };
}
