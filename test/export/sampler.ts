import { expect } from 'vitest';
import { GraphBuilder } from '../../src/export/builder.ts';
import type { TokenCut } from '../../src/export/index.ts';
import { likeliestTokens, logProbsOf, sampleTokens } from '../../src/export/sampling.ts';
import { Random } from '../../src/random.ts';
import type { Sampling } from '../../src/rollout/index.ts';
import { float32, int64 } from './decoder-graphs.ts';
import { openGraph } from './run-graph.ts';

/** The largest float32 below 1. */
export const LAST = 1 - 2 ** -24;

export interface Draws {
  tokens: number[];
  /** As sampled. */
  samplingLogProbs: number[];
  /** At temperature 1, of the tokens drawn. */
  logProbs: number[];
}

export type Sampler = (
  logits: ArrayLike<number>,
  uniforms: readonly number[],
  sampling: Sampling,
  rowOf?: readonly number[],
) => Promise<Draws>;

/**
 * Draws once for every uniform, all from one row of logits [V]; or, with `rowOf`, each from its own row of several
 * [rows * V]. The rows are one batch of the graph. With a cut the graph is built for that one alone.
 */
export async function openSampler(
  vocabulary: number,
  truncation: boolean | TokenCut = true,
  forCpu = true,
): Promise<Sampler> {
  const b = new GraphBuilder('sampling');
  const rows = b.input('logits', 'float32', ['rows', vocabulary]);
  const logits = b.gather(rows, b.input('row_of', 'int64', ['N']));
  const uniforms = b.input('uniforms', 'float32', ['N']);
  const cuts = () => ({
    topK: b.input('top_k', 'int64', []),
    topP: b.input('top_p', 'float32', []),
    minP: b.input('min_p', 'float32', []),
    forCpu,
  });
  const inputs = {
    temperature: b.input('temperature', 'float32', []),
    ...(truncation !== false && { truncation: truncation === true ? cuts() : truncation }),
  };
  const likeliest = likeliestTokens(b, logits);
  const { tokens, logProbs } = sampleTokens(b, logits, likeliest, uniforms, inputs);
  b.output('tokens', tokens);
  b.output('sampling_log_probs', logProbs);
  b.output('log_probs', logProbsOf(b, logits, likeliest)(tokens));
  const session = await openGraph(b.graph);
  return async (logits, us, { temperature, topK = 0, topP = 1, minP = 0 }, rowOf = us.map(() => 0)) => {
    const result = await session.run({
      logits: float32([logits.length / vocabulary, vocabulary], Array.from(logits)),
      row_of: int64([us.length], [...rowOf]),
      uniforms: float32([us.length], us.map(Math.fround)),
      temperature: float32([], [temperature]),
      ...(truncation === true && { top_k: int64([], [topK]), top_p: float32([], [topP]), min_p: float32([], [minP]) }),
    });
    return { tokens: result.tokens, samplingLogProbs: result.sampling_log_probs, logProbs: result.log_probs };
  };
}

/** Logits as float32 has them, between -spread and spread. */
export function randomLogits(vocabulary: number, spread: number, seed = 0): number[] {
  const random = new Random(seed, `logits ${vocabulary}`);
  return Array.from({ length: vocabulary }, () => Math.fround(spread * (random.float() + random.float() - 1)));
}

/** Evenly spaced: a token of probability p is drawn for a share of p to within 1 / count. No chance is left to the test. */
export const evenly = (count: number): number[] => Array.from({ length: count }, (_, i) => (i + 0.5) / count);

/** The middle of each token's interval of the CDF, where it is wide enough to hit. */
export function middles(probabilities: readonly number[]): { uniforms: number[]; tokens: number[] } {
  const uniforms: number[] = [];
  const tokens: number[] = [];
  let below = 0;
  probabilities.forEach((p, token) => {
    if (p > 1e-5) {
      uniforms.push(below + p / 2);
      tokens.push(token);
    }
    below += p;
  });
  return { uniforms, tokens };
}

/** Draws invert the CDF of the probabilities at the uniforms, and their log-probs are those of the probabilities. */
export function expectInverseCdf(
  { tokens, samplingLogProbs }: Pick<Draws, 'tokens' | 'samplingLogProbs'>,
  uniforms: readonly number[],
  probabilities: readonly number[],
  tolerance = 1e-5,
): void {
  let sum = 0;
  const cumulative = probabilities.map((p) => {
    sum += p;
    return sum;
  });
  uniforms.forEach((u, i) => {
    const [token, p] = [tokens[i], probabilities[tokens[i]]];
    expect(p, `token ${token}`).toBeGreaterThan(0);
    expect(cumulative[token]).toBeGreaterThan(u - tolerance);
    expect(cumulative[token] - p).toBeLessThan(u + tolerance);
    expect(Math.abs(samplingLogProbs[i] - Math.log(p))).toBeLessThan(tolerance);
  });
}
