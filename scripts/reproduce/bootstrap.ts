import { Random } from '../../src/random.ts';
import { DECLARED } from './declared.ts';
import { mean } from './statistics.ts';

/** A difference with its 95% interval. */
export interface Difference {
  mean: number;
  low: number;
  high: number;
}

/** Which seeds and which questions a resample draws. */
interface Resample {
  seeds: readonly number[];
  questions: readonly number[];
}

/** Resamples of S seeds and Q questions, by `S Q`: the same for all differences of that shape. */
const resamples = new Map<string, readonly Resample[]>();

function resamplesOf(seeds: number, questions: number): readonly Resample[] {
  const shape = `${seeds} ${questions}`;
  const known = resamples.get(shape);
  if (known !== undefined) return known;
  const random = new Random(DECLARED.bootstrap.seed, `reproduce/bootstrap/${shape}`);
  const draw = (n: number) => Array.from({ length: n }, () => random.integer(n));
  const made = Array.from({ length: DECLARED.bootstrap.resamples }, () => ({
    seeds: draw(seeds),
    questions: draw(questions),
  }));
  resamples.set(shape, made);
  return made;
}

/**
 * Mean of ours - theirs over seeds and questions, with a percentile bootstrap interval (Efron 1979): both are drawn
 * again with replacement, a question and a seed for both sides at once, as both sides have answered it.
 * @param ours scores by seed and question [S][Q]; `theirs` is of the same seeds and questions, or of one model for all seeds [1][Q]
 */
export function pairedBootstrap(
  ours: readonly (readonly number[])[],
  theirs: readonly (readonly number[])[],
): Difference {
  const differences = ours.map((scores, s) => {
    const others = theirs.length === 1 ? theirs[0] : theirs[s];
    if (others?.length !== scores.length) throw new Error('paired scores are of the same seeds and questions');
    return scores.map((score, q) => score - others[q]);
  });
  const means = resamplesOf(differences.length, differences[0].length)
    .map(({ seeds, questions }) => mean(seeds.map((s) => mean(questions.map((q) => differences[s][q])))))
    .sort((a, b) => a - b);
  const quantile = (share: number) => means[Math.round(share * (means.length - 1))];
  return { mean: mean(differences.map(mean)), low: quantile(0.025), high: quantile(0.975) };
}
