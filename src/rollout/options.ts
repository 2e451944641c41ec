import { UserError } from '../errors.ts';
import type { Seed, UniformStream } from '../random.ts';
import { BranchRow, type Thought, type ThoughtRules } from './branch-row.ts';
import type { RolloutModel } from './rollout-model.ts';
import { assertSampling, cutOf, type Sampling, truncates } from './sampling.ts';

/**
 * A document and the positions (token indices t >= 1, t + horizon <= tokens, in a completion t <= tokens) before which to
 * think.
 */
export interface RolloutDocument {
  id: string;
  tokens: ArrayLike<number>;
  positions: readonly number[];
  /** How many of the tokens, from the first on, are an instruction and no text of the document; default 0. No position is among them. */
  promptTokens?: number;
}

/** What a step has brought. */
export interface StepProgress {
  /** Tokens sampled. */
  sampled: number;
  /** Documents done, in parts: of a document with n rows each that ends is 1/n. */
  documents: number;
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
  /** Called after every step. */
  onStep?: (step: StepProgress) => void;
  /** Aborted: stop before the next step, and throw its reason. */
  signal?: AbortSignal | undefined;
  /** Replaces the counter-based noise, for tests. `position`: without the tokens of a prompt. */
  noise?: (thought: Pick<Thought, 'document' | 'position' | 'rollout'>) => UniformStream;
}

/** Target tokens of a thought. */
export const targetsOf = ({ completion, horizon }: RolloutOptions): number => (completion === undefined ? horizon : 0);

/** Tokens before the last position. */
export const trunkLength = ({ positions }: RolloutDocument): number => Math.max(...positions);

/** Whether there are rows without a thought. */
export const scoresText = ({ noThink = false, completion }: RolloutOptions): boolean =>
  noThink && completion === undefined;

type Limits = Pick<RolloutModel, 'vocabSize' | 'maxPositions' | 'truncation'>;

/** UserError on options that are out of bounds, or that this model has no use for. */
export function assertOptions(options: RolloutOptions, { vocabSize, truncation }: Limits): void {
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
  if (truncation === true) return;
  if (truncation === false && truncates(options)) {
    throw new UserError(
      'rollout options topK, topP and minP need a step graph that cuts tokens: this one was built with truncation: false',
    );
  }
  const [asked, built] = [cutOf(options), truncation === false ? cutOf({}) : truncation];
  for (const name of ['topK', 'topP', 'minP'] as const) {
    if (asked[name] === built[name]) continue;
    throw new UserError(
      `rollout option ${name} is ${asked[name]}: the step graph was built for ${built[name]} alone; build it with truncation: true`,
    );
  }
}

const isToken = (id: number, vocabSize: number): boolean => Number.isInteger(id) && id >= 0 && id < vocabSize;

/** UserError on positions and token ids out of bounds, and on documents too long for the model. */
export function assertDocument(
  document: RolloutDocument,
  options: RolloutOptions,
  { vocabSize, maxPositions }: Limits,
): void {
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

function assertPositions({ id, tokens, positions, promptTokens = 0 }: RolloutDocument, horizon: number): void {
  const first = Math.max(1, promptTokens);
  if (positions.length === 0) throw new UserError(`document ${id}: no position to think before`);
  if (new Set(positions).size < positions.length) {
    throw new UserError(`document ${id}: a position is given twice among ${positions.join(', ')}`);
  }
  for (const position of positions) {
    if (!Number.isInteger(position) || position < first || position + horizon > tokens.length) {
      throw new UserError(
        `document ${id}: position ${position} is outside ${first} .. ${tokens.length - horizon} (${tokens.length} tokens, horizon ${horizon})`,
      );
    }
  }
}
