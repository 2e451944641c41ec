import { UserError } from '../errors.ts';
import { type Seed, thoughtStream, type UniformStream } from '../random.ts';
import type { SessionOptions } from '../runtime/index.ts';
import { BranchRow, type Thought, type ThoughtRules } from './branch-row.ts';
import { float32, int64, RolloutBuffers, type RolloutGraphs, RolloutModel } from './rollout-model.ts';

/** A document and the positions (token indices t >= 1, t + horizon <= tokens) before which to think. */
export interface RolloutDocument {
  id: string;
  tokens: ArrayLike<number>;
  positions: readonly number[];
}

export interface RolloutOptions extends ThoughtRules {
  /** Thoughts a position. */
  groupSize: number;
  /** Target tokens scored after a thought. */
  horizon: number;
  /** Of the softmax; 0 is greedy. */
  temperature: number;
  seed: Seed;
  /** Training step; 0 outside training. */
  step: number;
  /** Documents held in the caches together. */
  documentsPerBatch: number;
  /** Branches of a document written side by side; further ones wait for a free slot. */
  rowsPerDocument: number;
  /** Trunk tokens of a document prefilled in one run. */
  prefillChunk?: number;
  /** Replaces the counter-based noise, for tests. */
  noise?: (thought: Pick<Thought, 'document' | 'position' | 'rollout'>) => UniformStream;
}

/** All thoughts of a document: by position in the order asked for, then by rollout. */
export interface DocumentRollouts {
  document: RolloutDocument;
  thoughts: Thought[];
}

/** Sizes of caches are rounded up to this many tokens, so that few different shapes occur. */
const CACHE_BUCKET = 64;
const DEFAULT_PREFILL_CHUNK = 512;

const roundUp = (size: number): number => Math.ceil(size / CACHE_BUCKET) * CACHE_BUCKET;

/**
 * Writes thoughts before positions of documents and scores the true continuation under each. A document is a prefix tree:
 * its tokens are prefilled once, and all thoughts at all its positions attend to that one cache.
 */
export class RolloutEngine implements Disposable {
  readonly #model: RolloutModel;

  private constructor(model: RolloutModel) {
    this.#model = model;
  }

  static async create(graphs: RolloutGraphs, options: SessionOptions = {}): Promise<RolloutEngine> {
    return new RolloutEngine(await RolloutModel.create(graphs, options));
  }

  /** Yields each document with its thoughts, in the order given. Throws UserError on bad positions or non-finite log-probs. */
  async *generate(
    documents: Iterable<RolloutDocument> | AsyncIterable<RolloutDocument>,
    options: RolloutOptions,
  ): AsyncGenerator<DocumentRollouts> {
    let wave: RolloutDocument[] = [];
    for await (const document of documents) {
      assertPositions(document, options.horizon);
      wave.push(document);
      if (wave.length === options.documentsPerBatch) {
        yield* await this.#runWave(wave, options);
        wave = [];
      }
    }
    if (wave.length > 0) yield* await this.#runWave(wave, options);
  }

  /** Documents side by side until the last of their thoughts is scored. */
  async #runWave(documents: readonly RolloutDocument[], options: RolloutOptions): Promise<DocumentRollouts[]> {
    const waiting = documents.map((document) => rowsOf(document, options));
    const results = waiting.map((rows, d) => ({ document: documents[d], thoughts: rows.map((row) => row.thought) }));
    const trunks = documents.map(({ tokens, positions }) => Array.from(tokens).slice(0, Math.max(...positions)));
    const S = Math.min(options.rowsPerDocument, Math.max(...waiting.map((rows) => rows.length)));
    using buffers = new RolloutBuffers(
      this.#model,
      {
        documents: documents.length,
        rowsPerDocument: S,
        trunkCapacity: roundUp(Math.max(...trunks.map((trunk) => trunk.length))),
        branchCapacity: BranchRow.capacity(options.maxThoughtTokens, options.horizon),
      },
      options.temperature,
    );
    await buffers.prefillTrunks(trunks, options.prefillChunk ?? DEFAULT_PREFILL_CHUNK);

    // slots[d * S + s]: the row that document d writes in slot s.
    const slots: (BranchRow | undefined)[] = Array.from({ length: documents.length * S }, (_, slot) =>
      waiting[Math.floor(slot / S)].shift(),
    );
    for (let live = indicesOfLive(slots); live.length > 0; live = indicesOfLive(slots)) {
      await stepRows(buffers, slots, live);
      for (const slot of live) {
        if (slots[slot] === undefined) slots[slot] = waiting[Math.floor(slot / S)].shift();
      }
    }
    return results;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
  dispose(): void {
    this.#model.dispose();
  }
}

function rowsOf(document: RolloutDocument, options: RolloutOptions): BranchRow[] {
  const noise = options.noise ?? ((thought) => thoughtStream({ seed: options.seed, step: options.step, ...thought }));
  return document.positions.flatMap((position) =>
    Array.from({ length: options.groupSize }, (_, rollout) => {
      const id = { document: document.id, position, rollout };
      const targets = Array.from(document.tokens).slice(position, position + options.horizon);
      return new BranchRow({ ...id, targets }, options, noise(id));
    }),
  );
}

function indicesOfLive(slots: readonly (BranchRow | undefined)[]): number[] {
  return slots.flatMap((row, slot) => (row === undefined ? [] : [slot]));
}

/** One token for every live row; finished rows leave their slot. */
async function stepRows(
  buffers: RolloutBuffers,
  slots: (BranchRow | undefined)[],
  live: readonly number[],
): Promise<void> {
  const heads = buffers.heads(live.length);
  const [headRows, targetIds] = [int64(heads.inputs.head_rows), int64(heads.inputs.target_ids)];
  const uniforms = float32(heads.inputs.uniforms);
  slots.forEach((row, slot) => {
    // A dead row sees no trunk and writes over its own first slot.
    buffers.inputIds[slot] = BigInt(row?.token ?? 0);
    buffers.positionIds[slot] = BigInt(row === undefined ? 0 : row.thought.position + row.written);
    buffers.trunkLength[slot] = BigInt(row?.thought.position ?? 0);
    buffers.writeIndex[slot] = BigInt(row?.written ?? 0);
  });
  live.forEach((slot, n) => {
    headRows[n] = BigInt(slot);
    targetIds[n] = BigInt(slots[slot]?.target ?? 0);
    uniforms[n] = slots[slot]?.uniform ?? 0;
  });
  await buffers.runStep(heads);

  const { outputs } = heads;
  live.forEach((slot, n) => {
    const row = slots[slot];
    if (row === undefined) return;
    const result = {
      sampledId: Number(int64(outputs.sampled_ids)[n]),
      sampledLogProb: float32(outputs.sampled_log_probs)[n],
      samplingLogProb: float32(outputs.sampling_log_probs)[n],
      targetLogProb: float32(outputs.target_log_probs)[n],
    };
    if (!Number.isFinite(result.sampledLogProb) || Number.isNaN(result.targetLogProb)) {
      const { document, position, rollout } = row.thought;
      throw new UserError(
        `the model's logits are not finite at token ${row.written} of document ${document}, position ${position}, rollout ${rollout}: ` +
          'the weights are damaged or training has diverged; go back to an earlier checkpoint',
      );
    }
    if (row.advance(result)) slots[slot] = undefined;
  });
}

function assertPositions({ id, tokens, positions }: RolloutDocument, horizon: number): void {
  if (positions.length === 0) throw new UserError(`document ${id}: no position to think before`);
  for (const position of positions) {
    if (!Number.isInteger(position) || position < 1 || position + horizon > tokens.length) {
      throw new UserError(
        `document ${id}: position ${position} is outside 1 .. ${tokens.length - horizon} (${tokens.length} tokens, horizon ${horizon})`,
      );
    }
  }
}
