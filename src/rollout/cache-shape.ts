/** Sizes of the caches that documents side by side share: every document has as many rows, every trunk and branch as many slots. */
export interface CacheShape {
  documents: number;
  rowsPerDocument: number;
  /** Tokens of a trunk. */
  trunkCapacity: number;
  /** Tokens of a branch. */
  branchCapacity: number;
}

const SIZES = ['documents', 'rowsPerDocument', 'trunkCapacity', 'branchCapacity'] as const;

/** What a document needs of the caches: tokens of its trunk, rows, tokens of its longest branch. */
export interface DocumentNeed {
  trunk: number;
  rows: number;
  branch: number;
}

/** Trunk capacities are multiples of this many tokens, so that few different shapes occur. */
const TRUNK_BUCKET = 64;
/** Branch capacities start with this many tokens, and grow by a quarter rounded up to as many. */
const BRANCH_BUCKET = 32;
/** Steps that need at most half of the caches, one after the other, until they shrink: copying costs as much as a few. */
const PATIENCE = 8;

/** The least shape that holds these documents. `longestBranch`: no branch will have more tokens. */
export function shapeFor(documents: readonly DocumentNeed[], longestBranch: number): CacheShape {
  const most = (of: (need: DocumentNeed) => number) =>
    documents.reduce((largest, need) => Math.max(largest, of(need)), 1);
  return {
    documents: documents.length,
    rowsPerDocument: most(({ rows }) => rows),
    trunkCapacity: Math.ceil(most(({ trunk }) => trunk) / TRUNK_BUCKET) * TRUNK_BUCKET,
    branchCapacity: branchCapacity(
      most(({ branch }) => branch),
      longestBranch,
    ),
  };
}

function branchCapacity(tokens: number, longestBranch: number): number {
  let capacity = BRANCH_BUCKET;
  while (capacity < tokens) capacity = Math.ceil((1.25 * capacity) / BRANCH_BUCKET) * BRANCH_BUCKET;
  return Math.min(capacity, longestBranch);
}

/** Keys that the queries of a step meet in the caches, used or not: what its attention costs. */
export const keysOf = ({ documents, rowsPerDocument, trunkCapacity, branchCapacity }: CacheShape): number =>
  documents * rowsPerDocument * (trunkCapacity + branchCapacity);

/** Decides when caches are re-shaped: at once where they are too small, and not for a few steps where they are too large. */
export class CacheFit {
  #idleSteps = 0;

  /** The shape to change to before a step that needs `need`; undefined to stay. */
  next(shape: CacheShape, need: CacheShape): CacheShape | undefined {
    if (SIZES.some((size) => need[size] > shape[size])) {
      this.#idleSteps = 0;
      const next = { ...need };
      // What is twice too large shrinks along: it is copied anyway.
      for (const size of SIZES) if (2 * need[size] > shape[size]) next[size] = Math.max(need[size], shape[size]);
      return next;
    }
    this.#idleSteps = 2 * keysOf(need) <= keysOf(shape) ? this.#idleSteps + 1 : 0;
    if (this.#idleSteps < PATIENCE) return undefined;
    this.#idleSteps = 0;
    return need;
  }
}
