import type { LossRow, TreeDocument } from '../tree-batch.ts';

/** A sequence, and which of its tokens (by index, ascending, from 1 on) are targets of the loss. */
export interface TargetedSequence {
  tokens: ArrayLike<number>;
  targets: readonly number[];
}

/**
 * Next-token loss on some tokens of each sequence: the sum over targets of -weight log p(target | what is before it).
 *
 * Sequences that begin with the same tokens are one tree with the shared tokens as its trunk, so that a context with many
 * responses is computed once. Shared are tokens before the first target only, and all of them: the trunk has no loss unless
 * the sequence is alone. Token by token the result is that of the flat sequences.
 * @param weight of each target, say 1 / targets in the step
 */
export function sftDocuments(sequences: readonly TargetedSequence[], weight: number): TreeDocument[] {
  return sharedPrefixes(sequences).map((group) => {
    const [longest] = group;
    if (group.length === 1) return { trunk: longest.tokens, losses: lossRows(longest, 0, weight), branches: [] };
    return {
      trunk: Array.from(longest.tokens).slice(0, contextOf(longest)),
      losses: [],
      branches: group.map((sequence) => {
        const trunkLength = contextOf(sequence);
        const last = sequence.targets[sequence.targets.length - 1];
        const tokens = Array.from(sequence.tokens).slice(trunkLength, last); // the last target predicts nothing
        return { trunkLength, tokens, losses: lossRows(sequence, trunkLength, weight) };
      }),
    };
  });
}

function lossRows({ tokens, targets }: TargetedSequence, offset: number, weight: number): LossRow[] {
  return targets.map((index) => ({ token: index - 1 - offset, target: tokens[index], nllWeight: weight }));
}

/** Tokens that a trunk can hold: those before the one that predicts the first target. */
const contextOf = ({ targets }: TargetedSequence): number => targets[0] - 1;

/** Groups in which each context is the beginning of the first one's, in a fixed order. */
function sharedPrefixes(sequences: readonly TargetedSequence[]): TargetedSequence[][] {
  const sorted = [...sequences].sort(compareContexts);
  const groups: TargetedSequence[][] = [];
  // Behind the beginnings of a context comes the context itself: from the end, the longest is met first.
  for (const sequence of sorted.reverse()) {
    const group = groups.at(-1);
    if (group !== undefined && contextOf(sequence) > 0 && isPrefix(sequence, group[0])) group.push(sequence);
    else groups.push([sequence]);
  }
  return groups;
}

function isPrefix(short: TargetedSequence, long: TargetedSequence): boolean {
  const length = contextOf(short);
  if (length > contextOf(long)) return false;
  for (let i = 0; i < length; i++) if (short.tokens[i] !== long.tokens[i]) return false;
  return true;
}

function compareContexts(a: TargetedSequence, b: TargetedSequence): number {
  const shorter = Math.min(contextOf(a), contextOf(b));
  for (let i = 0; i < shorter; i++) if (a.tokens[i] !== b.tokens[i]) return a.tokens[i] - b.tokens[i];
  return contextOf(a) - contextOf(b);
}
