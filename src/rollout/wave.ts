import { RunError } from '../errors.ts';
import { thoughtStream } from '../random.ts';
import { BranchRow, type StepResult } from './branch-row.ts';
import { CacheFit, type DocumentNeed, keysOf, shapeFor } from './cache-shape.ts';
import { Lane } from './lane.ts';
import type { Lookahead } from './lookahead.ts';
import { type RolloutDocument, type RolloutOptions, scoresText, targetsOf, trunkLength } from './options.ts';
import { RolloutBuffers } from './rollout-buffers.ts';
import type { RolloutModel } from './rollout-model.ts';

/** What an engine has done so far. */
export interface RolloutCounts {
  /** Trunk tokens. */
  prefilled: number;
  steps: number;
  /** Rows that took part in a step, summed over steps: tokens fed to branches. */
  rows: number;
  /** Slots in the caches, summed over steps; rows / slots is their use. */
  slots: number;
  /** Keys that a slot meets in the caches, of its trunk and its branch, used or not; summed over slots and steps. */
  keys: number;
  /** Milliseconds in steps; prefill and what changes the caches is not in it. */
  stepMs: number;
}

const DEFAULT_PREFILL_CHUNK = 512;

/**
 * Documents side by side in one set of caches. When the last thought of one is scored, the next of the source takes its place. On
 * the CPU the caches change with what is in them and hold whatever comes, so that there is one wave. Where their shape is fixed,
 * a wave takes in no document that is too long for its caches, nor one where the caches are far too long for what comes.
 */
export class Wave implements Disposable {
  readonly #options: RolloutOptions;
  readonly #counts: RolloutCounts;
  readonly #buffers: RolloutBuffers;
  readonly #reshapes: boolean;
  /** Documents in the caches at most. */
  readonly #places: number;
  readonly #longestBranch: number;
  readonly #fit = new CacheFit();
  /** In the order given; some that are done wait for those before them. */
  #lanes: Lane<RolloutDocument>[] = [];

  /**
   * @param first the documents that it is to begin with; `admit` takes them from the source
   * @param counts are added to
   */
  constructor(model: RolloutModel, first: readonly RolloutDocument[], options: RolloutOptions, counts: RolloutCounts) {
    this.#options = options;
    this.#counts = counts;
    this.#reshapes = model.device.kind === 'cpu';
    this.#places = this.#reshapes ? options.documentsPerBatch : first.length;
    this.#longestBranch = BranchRow.capacity(options, options.horizon);
    this.#buffers = new RolloutBuffers(model, this.#shapeFor(first.map((document) => this.#needOf(document))), options);
  }

  #shapeFor(needs: readonly DocumentNeed[]) {
    return shapeFor(needs, this.#longestBranch);
  }

  /** Before it is begun. On a device a cache that grows would have to cross: there the branches are whole from the start. */
  #needOf(document: RolloutDocument): DocumentNeed {
    const { rowsPerDocument, groupSize } = this.#options;
    return {
      trunk: trunkLength(document),
      rows: Math.min(rowsPerDocument, groupSize * document.positions.length),
      branch: this.#reshapes ? 1 : this.#longestBranch,
    };
  }

  /** Takes documents that are done, up to the first in the order given that is not. */
  takeDone(): Lane<RolloutDocument>[] {
    const count = this.#lanes.findIndex(({ done }) => !done);
    return this.#lanes.splice(0, count < 0 ? this.#lanes.length : count);
  }

  /** Fills free places from the source, and fits the caches to what is in them then. */
  async admit(source: Lookahead<RolloutDocument>): Promise<void> {
    const working = this.#lanes.filter(({ done }) => !done);
    const admitted: Lane<RolloutDocument>[] = [];
    while (working.length + admitted.length < this.#places) {
      const upcoming = await source.peek(this.#reshapes ? 1 : this.#places);
      const atWork = [...working, ...admitted].map(({ need }) => need);
      if (upcoming.length === 0 || !this.#takes(upcoming, atWork)) break;
      source.shift();
      const [document] = upcoming;
      admitted.push(new Lane(document, rowsOf(document, this.#options), this.#needOf(document)));
    }
    this.#lanes.push(...admitted);
    if (this.#reshapes) await this.#fitCaches(working, admitted);
    const { documents, rowsPerDocument } = this.#buffers.shape;
    const places = Array.from({ length: documents }, (_, place) => place);
    const free = places.filter((place) => working.every((lane) => lane.place !== place));
    for (const [i, lane] of admitted.entries()) {
      lane.moveTo(free[i], rowsPerDocument);
      const trunk = Array.from(lane.document.tokens).slice(0, trunkLength(lane.document));
      await this.#buffers.prefill(lane.place, trunk, this.#options.prefillChunk ?? DEFAULT_PREFILL_CHUNK);
      this.#counts.prefilled += trunk.length;
    }
  }

  /** Whether caches of fixed shape are for the first of `upcoming`. */
  #takes(upcoming: readonly RolloutDocument[], atWork: readonly DocumentNeed[]): boolean {
    if (this.#reshapes) return true;
    const { trunkCapacity } = this.#buffers.shape;
    const needed = this.#shapeFor([...atWork, ...upcoming.map((document) => this.#needOf(document))]).trunkCapacity;
    return trunkLength(upcoming[0]) <= trunkCapacity && 2 * needed > trunkCapacity;
  }

  async #fitCaches(working: readonly Lane<RolloutDocument>[], admitted: readonly Lane<RolloutDocument>[]) {
    const needs = [...working, ...admitted].map(({ need }) => need);
    const shape = needs.length === 0 ? undefined : this.#fit.next(this.#buffers.shape, this.#shapeFor(needs));
    if (shape === undefined) return;
    await this.#buffers.reshape(
      shape,
      working.map((lane, place) => lane.moveTo(place, shape.rowsPerDocument)),
    );
  }

  /** One token for every row at work; false where there is none. Throws RunError on log-probs that are not finite. */
  async step(): Promise<boolean> {
    const { shape } = this.#buffers;
    const { rowsPerDocument: S } = shape;
    const live = this.#lanes.flatMap((lane) => lane.live.map(({ slot, row }) => ({ lane, slot, row })));
    if (live.length === 0) return false;
    const start = performance.now();
    const rows = this.#buffers.rows(live.length);
    const slots = this.#buffers.slots;
    for (const bySlot of Object.values(slots)) bySlot.fill(0n);
    for (const [r, { lane, slot, row }] of live.entries()) {
      const cacheSlot = lane.place * S + slot;
      rows.inputIds[r] = BigInt(row.token);
      rows.positionIds[r] = BigInt(row.trunkLength + row.written);
      rows.rowSlots[r] = BigInt(cacheSlot);
      rows.targetIds[r] = BigInt(row.target);
      rows.uniforms[r] = row.uniform;
      slots.rows[cacheSlot] = BigInt(r);
      slots.trunkLength[cacheSlot] = BigInt(row.trunkLength);
      slots.writeIndex[cacheSlot] = BigInt(row.written);
    }
    await this.#buffers.step(live.length);
    const progress = { sampled: 0, documents: 0 };
    for (const [r, { lane, slot, row }] of live.entries()) {
      const result = {
        sampledId: Number(rows.sampledIds[r]),
        sampledLogProb: rows.sampledLogProbs[r],
        samplingLogProb: rows.samplingLogProbs[r],
        targetLogProb: rows.targetLogProbs[r],
      };
      assertFinite(row, result);
      const before = row.sampled;
      if (row.advance(result)) {
        lane.release(slot);
        progress.documents += 1 / lane.thoughts.length;
      }
      progress.sampled += row.sampled - before;
    }
    this.#counts.steps++;
    this.#counts.rows += live.length;
    this.#counts.slots += shape.documents * S;
    this.#counts.keys += keysOf(shape);
    this.#options.onStep?.(progress);
    this.#counts.stepMs += performance.now() - start;
    return true;
  }

  [Symbol.dispose](): void {
    this.#buffers[Symbol.dispose]();
  }
}

function assertFinite({ thought, written }: BranchRow, { sampledLogProb, targetLogProb }: StepResult): void {
  if (Number.isFinite(sampledLogProb) && !Number.isNaN(targetLogProb)) return;
  const { document, position, rollout } = thought;
  throw new RunError(
    `the model's logits are not finite at token ${written} of document ${document}, position ${position}, rollout ${rollout}: ` +
      'the weights are damaged or training has diverged; go back to an earlier checkpoint',
  );
}

/** Those of the thoughts, then those that score the text: short, they take slots that thoughts have left. */
function rowsOf(document: RolloutDocument, options: RolloutOptions): BranchRow[] {
  const noise = options.noise ?? ((thought) => thoughtStream({ seed: options.seed, step: options.step, ...thought }));
  const targetsAt = (position: number) =>
    Array.from({ length: targetsOf(options) }, (_, i) => document.tokens[position + i]);
  const thoughts = document.positions.flatMap((position) =>
    Array.from({ length: options.groupSize }, (_, rollout) => {
      const id = { document: document.id, position, rollout };
      // By the text's own tokens, as a rollout file has it.
      const uniforms = noise({ ...id, position: position - (document.promptTokens ?? 0) });
      return new BranchRow({ ...id, targets: targetsAt(position) }, options, uniforms, document.tokens[position - 1]);
    }),
  );
  if (!scoresText(options)) return thoughts;
  const texts = document.positions.map((position) => {
    const id = { document: document.id, position, rollout: options.groupSize, targets: targetsAt(position) };
    return BranchRow.withoutThought(id, options, document.tokens[position - 1]);
  });
  return [...thoughts, ...texts];
}
