import { RunError, UserError } from '../errors.ts';
import { type Seed, thoughtStream, type UniformStream } from '../random.ts';
import { BranchRow, type Thought, type ThoughtRules } from './branch-row.ts';
import { Lane, type LiveRow } from './lane.ts';
import { Lookahead } from './lookahead.ts';
import { RolloutBuffers } from './rollout-buffers.ts';
import { type RolloutGraphs, RolloutModel, type RolloutModelOptions } from './rollout-model.ts';
import { assertSampling, type Sampling, truncates } from './sampling.ts';

/**
 * A document and the positions (token indices t >= 1, t + horizon <= tokens, in a completion t <= tokens) before which to
 * think.
 */
export interface RolloutDocument {
  id: string;
  tokens: ArrayLike<number>;
  positions: readonly number[];
  /** How many of the tokens, from the first on, are an instruction and no text of the document; default 0. */
  promptTokens?: number;
}

/** How thoughts are sampled. */
export interface RolloutOptions extends ThoughtRules, Sampling {
  /** Thoughts a position. */
  groupSize: number;
  /** Target tokens scored after a thought; none in a completion, whatever this says. */
  horizon: number;
  /**
   * Whether the text is scored without a thought, too, by the weights that think: one row more a position, of `horizon` tokens.
   * Not in a completion.
   */
  noThink?: boolean;
  seed: Seed;
  /** Training step; 0 outside training. */
  step: number;
  /** Documents held in the caches together. */
  documentsPerBatch: number;
  /** Branches of a document written side by side; further ones wait for a free slot. */
  rowsPerDocument: number;
  /** Trunk tokens prefilled in one run. */
  prefillChunk?: number;
  /** Aborted: stop before the next step, and throw its reason. */
  signal?: AbortSignal | undefined;
  /** Replaces the counter-based noise, for tests. */
  noise?: (thought: Pick<Thought, 'document' | 'position' | 'rollout'>) => UniformStream;
}

/** All thoughts of a document: by position in the order asked for, then by rollout. */
export interface DocumentRollouts {
  document: RolloutDocument;
  thoughts: Thought[];
  /** log p(x_t ... x_t+h-1 | the text before each) in nats, by position; where `noThink` asks for it. */
  noThink?: Float32Array[];
}

/** What an engine has done so far. */
export interface RolloutCounts {
  /** Trunk tokens. */
  prefilled: number;
  steps: number;
  /** Rows that took part in a step, summed over steps: tokens fed to branches. */
  rows: number;
  /** Slots in the caches, summed over steps; rows / slots is their use. */
  slots: number;
}

/** Trunk capacities are multiples of this many tokens, so that few different shapes occur. */
const TRUNK_BUCKET = 64;
const DEFAULT_PREFILL_CHUNK = 512;

/**
 * Writes thoughts before positions of documents, and scores the true continuation under each or samples an answer. A document is a prefix tree:
 * its tokens are prefilled once, and all thoughts at all its positions attend to that one cache.
 *
 * Which tokens are sampled depends on the weights and on (seed, step, document, position, rollout) alone, not on what else
 * is in the batch; rounding may differ in the last bits of the log-probs.
 */
export class RolloutEngine implements Disposable {
  readonly #model: RolloutModel;
  readonly #counts: RolloutCounts = { prefilled: 0, steps: 0, rows: 0, slots: 0 };

  private constructor(model: RolloutModel) {
    this.#model = model;
  }

  /** Throws UserError when a graph cannot be loaded. */
  static async create(graphs: RolloutGraphs, options: RolloutModelOptions = {}): Promise<RolloutEngine> {
    return new RolloutEngine(await RolloutModel.create(graphs, options));
  }

  get counts(): Readonly<RolloutCounts> {
    return { ...this.#counts };
  }

  /**
   * Yields each document with its thoughts, in the order given, as soon as it and all before it are done. Reads up to
   * `documentsPerBatch` documents ahead of the caches. The event loop is free while the model runs. Stopping early (`break`)
   * frees the caches. Throws UserError on bad options, positions and token ids and on
   * documents too long for the model, RunError on log-probs that are not finite, and the reason of an aborted signal.
   */
  async *generate(
    documents: Iterable<RolloutDocument> | AsyncIterable<RolloutDocument>,
    options: RolloutOptions,
  ): AsyncGenerator<DocumentRollouts> {
    assertOptions(options, this.#model);
    const source = new Lookahead(documents, (document) => assertDocument(document, options, this.#model));
    try {
      while ((await source.peek(1)).length > 0) yield* this.#runWave(source, options);
    } finally {
      await source.close();
    }
  }

  /**
   * Documents side by side in one set of caches. When the last thought of one is scored, the next of the source takes its
   * place; the wave ends before one that is too long for its caches.
   */
  async *#runWave(source: Lookahead<RolloutDocument>, options: RolloutOptions): AsyncGenerator<DocumentRollouts> {
    const first = await source.peek(options.documentsPerBatch);
    const D = first.length;
    const S = Math.min(
      options.rowsPerDocument,
      options.groupSize * Math.max(...first.map(({ positions }) => positions.length)),
    );
    using buffers = new RolloutBuffers(
      this.#model,
      {
        documents: D,
        rowsPerDocument: S,
        trunkCapacity: Math.ceil(Math.max(...first.map(trunkLength)) / TRUNK_BUCKET) * TRUNK_BUCKET,
        branchCapacity: BranchRow.capacity(options, options.horizon),
      },
      options,
    );
    const lanes: (Lane<RolloutDocument> | undefined)[] = Array.from({ length: D }, () => undefined);
    const unfinished: Lane<RolloutDocument>[] = []; // in the order given

    /** Puts the next document into place d, if there is one that fits. */
    const admit = async (d: number) => {
      const [document] = await source.peek(1);
      if (document === undefined || trunkLength(document) > buffers.shape.trunkCapacity) return undefined;
      source.shift();
      const trunk = Array.from(document.tokens).slice(0, trunkLength(document));
      await buffers.prefill(d, trunk, options.prefillChunk ?? DEFAULT_PREFILL_CHUNK);
      this.#counts.prefilled += trunk.length;
      const lane = new Lane(document, rowsOf(document, options), d * S, S);
      unfinished.push(lane);
      return lane;
    };

    for (;;) {
      for (let d = 0; d < D; d++) {
        if (lanes[d]?.done) lanes[d] = undefined;
        lanes[d] ??= await admit(d);
      }
      while (unfinished[0]?.done) {
        const { document, thoughts } = unfinished[0];
        unfinished.shift();
        yield resultOf(document, thoughts, options);
      }
      const live = lanes.flatMap((lane) => lane?.live ?? []);
      if (live.length === 0) return;
      options.signal?.throwIfAborted();
      for (const { slot } of await stepRows(buffers, live)) lanes[Math.floor(slot / S)]?.release(slot);
      this.#counts.steps++;
      this.#counts.rows += live.length;
      this.#counts.slots += D * S;
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
  dispose(): void {
    this.#model.dispose();
  }
}

const targetsOf = ({ completion, horizon }: RolloutOptions): number => (completion === undefined ? horizon : 0);

/** Tokens before the last position. */
const trunkLength = ({ positions }: RolloutDocument): number => Math.max(...positions);

const scoresText = ({ noThink = false, completion }: RolloutOptions): boolean => noThink && completion === undefined;

/** Of the rows of rowsOf. */
function resultOf(document: RolloutDocument, rows: Thought[], options: RolloutOptions): DocumentRollouts {
  if (!scoresText(options)) return { document, thoughts: rows };
  const count = document.positions.length * options.groupSize;
  const noThink = rows.slice(count).map(({ reasonedLogProbs }) => Float32Array.from(reasonedLogProbs));
  return { document, thoughts: rows.slice(0, count), noThink };
}

/** Those of the thoughts, then those that score the text: short, they take slots that thoughts have left. */
function rowsOf(document: RolloutDocument, options: RolloutOptions): BranchRow[] {
  const noise = options.noise ?? ((thought) => thoughtStream({ seed: options.seed, step: options.step, ...thought }));
  const targetsAt = (position: number) =>
    Array.from({ length: targetsOf(options) }, (_, i) => document.tokens[position + i]);
  const thoughts = document.positions.flatMap((position) =>
    Array.from({ length: options.groupSize }, (_, rollout) => {
      const id = { document: document.id, position, rollout };
      return new BranchRow({ ...id, targets: targetsAt(position) }, options, noise(id), document.tokens[position - 1]);
    }),
  );
  if (!scoresText(options)) return thoughts;
  const texts = document.positions.map((position) => {
    const id = { document: document.id, position, rollout: options.groupSize, targets: targetsAt(position) };
    return BranchRow.withoutThought(id, options, document.tokens[position - 1]);
  });
  return [...thoughts, ...texts];
}

/** One token for every live row. Returns those that are finished. */
async function stepRows(buffers: RolloutBuffers, live: readonly LiveRow[]): Promise<LiveRow[]> {
  const rows = buffers.rows(live.length);
  buffers.slotRows.fill(0n);
  buffers.trunkLength.fill(0n);
  buffers.writeIndex.fill(0n);
  live.forEach(({ slot, row }, r) => {
    rows.inputIds[r] = BigInt(row.token);
    rows.positionIds[r] = BigInt(row.trunkLength + row.written);
    rows.rowSlots[r] = BigInt(slot);
    rows.targetIds[r] = BigInt(row.target);
    rows.uniforms[r] = row.uniform;
    buffers.slotRows[slot] = BigInt(r);
    buffers.trunkLength[slot] = BigInt(row.trunkLength);
    buffers.writeIndex[slot] = BigInt(row.written);
  });
  await buffers.step(live.length, Math.max(...live.map(({ row }) => row.written)) + 1);

  return live.filter(({ row }, r) => {
    const result = {
      sampledId: Number(rows.sampledIds[r]),
      sampledLogProb: rows.sampledLogProbs[r],
      samplingLogProb: rows.samplingLogProbs[r],
      targetLogProb: rows.targetLogProbs[r],
    };
    if (!Number.isFinite(result.sampledLogProb) || Number.isNaN(result.targetLogProb)) {
      const { document, position, rollout } = row.thought;
      throw new RunError(
        `the model's logits are not finite at token ${row.written} of document ${document}, position ${position}, rollout ${rollout}: ` +
          'the weights are damaged or training has diverged; go back to an earlier checkpoint',
      );
    }
    return row.advance(result);
  });
}

type Limits = Pick<RolloutModel, 'vocabSize' | 'maxPositions' | 'truncates'>;

function assertOptions(options: RolloutOptions, { vocabSize, truncates: canTruncate }: Limits): void {
  const { groupSize, horizon, maxThoughtTokens, documentsPerBatch, rowsPerDocument, prefillChunk } = options;
  const counts = {
    ...{ groupSize, horizon, maxThoughtTokens, documentsPerBatch, rowsPerDocument, prefillChunk },
    'completion.maxTokens': options.completion?.maxTokens,
  };
  for (const [name, count] of Object.entries(counts)) {
    const unlimited = name === 'rowsPerDocument' && count === Number.POSITIVE_INFINITY;
    if (count !== undefined && !unlimited && !(Number.isInteger(count) && count >= 1)) {
      throw new UserError(`rollout option ${name} is ${count}: expected an integer of at least 1`);
    }
  }
  const { open, close, endOfText } = options;
  for (const [name, ids] of Object.entries({ open: [open].flat(), close: [close].flat(), endOfText })) {
    for (const id of ids) {
      if (!isToken(id, vocabSize)) {
        throw new UserError(`rollout option ${name} is ${id}: expected a token id from 0 to ${vocabSize - 1}`);
      }
    }
  }
  assertSampling(options);
  if (truncates(options) && !canTruncate) {
    throw new UserError(
      'rollout options topK, topP and minP need a step graph that cuts tokens: this one was built with truncation: false',
    );
  }
}

const isToken = (id: number, vocabSize: number): boolean => Number.isInteger(id) && id >= 0 && id < vocabSize;

function assertDocument(document: RolloutDocument, options: RolloutOptions, { vocabSize, maxPositions }: Limits): void {
  const { id, tokens } = document;
  assertPositions(document, targetsOf(options));
  for (let t = 0; t < tokens.length; t++) {
    if (isToken(tokens[t], vocabSize)) continue;
    throw new UserError(
      `document ${id}: token ${t} is ${tokens[t]}, the model's ids go from 0 to ${vocabSize - 1}: was it tokenized for another model?`,
    );
  }
  const trunk = trunkLength(document);
  const branch = BranchRow.capacity(options, options.horizon);
  if (trunk + branch > maxPositions) {
    const { completion } = options;
    throw new UserError(
      `document ${id}: ${trunk} tokens before position ${trunk} and up to ${branch} of a thought and its ` +
        `${completion === undefined ? 'targets' : 'answer'} make ` +
        `${trunk + branch}, the model has ${maxPositions} positions: choose earlier positions, shorten the document from ` +
        `the front, or lower maxThoughtTokens or ${completion === undefined ? 'horizon' : 'completion.maxTokens'}`,
    );
  }
}

function assertPositions({ id, tokens, positions }: RolloutDocument, horizon: number): void {
  if (positions.length === 0) throw new UserError(`document ${id}: no position to think before`);
  if (new Set(positions).size < positions.length) {
    throw new UserError(`document ${id}: a position is given twice among ${positions.join(', ')}`);
  }
  for (const position of positions) {
    if (!Number.isInteger(position) || position < 1 || position + horizon > tokens.length) {
      throw new UserError(
        `document ${id}: position ${position} is outside 1 .. ${tokens.length - horizon} (${tokens.length} tokens, horizon ${horizon})`,
      );
    }
  }
}
