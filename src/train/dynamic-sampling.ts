import type { RolloutDocument } from '../rollout/index.ts';

/** Documents that a step samples at most, in multiples of those it trains on: verl's max_num_gen_batches. */
export const MAX_BATCHES = 10;

/** How a step is filled. */
export interface Filling<Round> {
  /** Documents that the step trains on. */
  wanted: number;
  /** Up to `count` documents that the step has not had, or none. */
  draw(count: number): Promise<RolloutDocument[]>;
  /** Samples and pays completions of documents. */
  sample(documents: RolloutDocument[]): Promise<Round>;
  /** The documents of a round whose completions give a gradient, in their order. */
  keptOf(round: Round): Promise<RolloutDocument[]>;
}

/** What a step was filled with. */
export interface Filled<Round> {
  rounds: Round[];
  /** The first `wanted` documents with a gradient, or as many as were found. */
  kept: RolloutDocument[];
  /** Documents sampled, and how many of them give a gradient. */
  sampled: number;
  withGradient: number;
}

/**
 * Dynamic sampling (DAPO, Yu et al., arXiv 2503.14476, eq. 11): documents whose completions are all paid the same give no gradient,
 * and are replaced by others, until the step has its number of documents. Each round draws what is missing by the share that
 * gave a gradient so far, at most a whole step.
 *
 * Degenerate: after MAX_BATCHES steps' worth of documents, or when the data has no more, the step has fewer; where none gives
 * a gradient, it has none.
 */
export async function fillStep<Round>({ wanted, draw, sample, keptOf }: Filling<Round>): Promise<Filled<Round>> {
  const rounds: Round[] = [];
  const kept: RolloutDocument[] = [];
  let sampled = 0;
  while (kept.length < wanted && sampled < MAX_BATCHES * wanted) {
    const missing = wanted - kept.length;
    const needed = kept.length === 0 ? wanted : Math.ceil((missing * sampled) / kept.length);
    const documents = await draw(Math.min(needed, wanted, MAX_BATCHES * wanted - sampled));
    if (documents.length === 0) break;
    const round = await sample(documents);
    rounds.push(round);
    sampled += documents.length;
    kept.push(...(await keptOf(round)));
  }
  return { rounds, kept: kept.slice(0, wanted), sampled, withGradient: kept.length };
}
