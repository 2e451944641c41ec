import { internal, UserError } from '../errors.ts';
import { Random, type Seed } from '../random.ts';
import type { Requirement, TokenizedDocument } from './tokenize.ts';

/**
 * Where a document is thought about.
 * - uniform: `count` distinct positions, each set equally likely (the paper: count 1)
 * - column: all positions that the data lists
 * - every: each `stride`-th position from `minContext` on
 * - entropy: the `count` at which the model is least certain of the next token
 * - surprise: the `count` whose token the model least expects; unlike the others it looks at what is to be predicted
 */
export type PositionStrategy = 'uniform' | 'column' | 'every' | 'entropy' | 'surprise';

/** A position t is the index of the first target token: minContext <= t and t + horizon <= tokens of the document. */
export interface PositionRules {
  /** Target tokens after the position. */
  horizon: number;
  /** Tokens that must stand before the position; at least 1, the default. */
  minContext?: number;
}

/** What positions are drawn for, and how many. */
export interface PositionOptions extends PositionRules {
  seed: Seed;
  /** Training step: another step, other uniform positions. */
  step: number;
  /** K of 'uniform', 'entropy' and 'surprise'; documents with fewer possible positions give all they have. Default 1. */
  count?: number;
  /** Of 'every'; default 1. */
  stride?: number;
  /** Of 'entropy' and 'surprise': what the strategy goes by at each position, [tokens], nats. */
  scores?: ArrayLike<number>;
  /** Leaves out positions before any are chosen; default: none. */
  allowed?: ((position: number) => boolean) | undefined;
}

/** First and last possible position; first > last where there is none. */
function range(
  { tokens }: TokenizedDocument,
  { horizon, minContext = 1 }: PositionRules,
): [first: number, last: number] {
  return [Math.max(1, minContext), tokens.length - horizon];
}

/**
 * Positions of a document, ascending; none if it is too short. The same for the same seed, step, document id and options.
 * @throws UserError for 'column' where the data lists no positions
 */
export function choosePositions(
  strategy: PositionStrategy,
  document: TokenizedDocument,
  options: PositionOptions,
): number[] {
  const [first, last] = range(document, options);
  const { allowed = () => true, stride = 1 } = options;
  if (strategy === 'column') return listedWithin(document, first, last).filter(allowed);
  const every = strategy === 'every' ? stride : 1;
  const count = Math.max(0, Math.floor((last - first) / every) + 1);
  const possible = Array.from({ length: count }, (_, i) => first + i * every).filter(allowed);
  if (strategy === 'uniform') return uniformPositions(possible, document.id, options);
  if (strategy === 'entropy' || strategy === 'surprise') return highestPositions(possible, options);
  return possible;
}

/** The error for a document whose positions the data should list and does not. */
export const noPositions = (place: string, column = 'positions'): UserError =>
  new UserError(
    `${place}: --position-strategy column, but the data has no column "${column}" for it. Add the offsets (in ` +
      'characters) where a thought may start, or choose another strategy',
  );

function listedWithin({ id, listedPositions }: TokenizedDocument, first: number, last: number): number[] {
  if (listedPositions === undefined) {
    throw noPositions(`document ${id}`);
  }
  return listedPositions.filter((t) => t >= first && t <= last);
}

/** The `count` highest; of equal ones the first. */
function highestPositions(possible: readonly number[], { scores, count = 1 }: PositionOptions): number[] {
  if (scores === undefined) throw internal('positions by score without scores');
  const highest = [...possible].sort((a, b) => scores[b] - scores[a] || a - b).slice(0, count);
  return highest.sort((a, b) => a - b);
}

/** Floyd's sampling without replacement (Bentley and Floyd, CACM 30(9), 1987): `count` draws whatever the range. */
function uniformPositions(possible: readonly number[], id: string, options: PositionOptions): number[] {
  const count = Math.min(options.count ?? 1, possible.length);
  const random = new Random(options.seed, `positions/${options.step}/${id}`);
  const chosen = new Set<number>();
  for (let i = possible.length - count; i < possible.length; i++) {
    const drawn = random.integer(i + 1);
    chosen.add(chosen.has(drawn) ? i : drawn);
  }
  return [...chosen].map((i) => possible[i]).sort((a, b) => a - b);
}

/** That a document has at least one position, for `tokenizeDocuments`. */
export function needsPosition(strategy: PositionStrategy, rules: PositionRules): Requirement {
  const { horizon, minContext = 1 } = rules;
  const length = `at least ${Math.max(1, minContext) + horizon} tokens (${Math.max(1, minContext)} before, ${horizon} after)`;
  return {
    holds(document) {
      const [first, last] = range(document, rules);
      return strategy === 'column' ? listedWithin(document, first, last).length > 0 : first <= last;
    },
    text:
      strategy === 'column'
        ? `lists a position with ${Math.max(1, minContext)} tokens before and ${horizon} after it`
        : `has a position to think at, which takes ${length}`,
  };
}
