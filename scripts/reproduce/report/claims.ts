import { CPT_LONG, RLP, RLP_UNIFORM } from '../arms.ts';
import type { Evaluation } from '../evaluate.ts';
import type { Findings } from '../study.ts';
import { listed, sides } from './format.ts';
import type { Section } from './page.ts';
import { at, type BySeed, type Comparison, compare, has, LAST_STAGE, postTrained, VERDICTS } from './scores.ts';

/** Something that RLP is to be above. */
interface Claim {
  label: string;
  ours: string;
  /** An arm, or the base checkpoint. */
  theirs: string;
  /** After training alone, after the same post-training, or after longer RLVR in it. */
  after: 'training' | 'post-training' | 'long post-training';
}

const claim = (ours: string, theirs: string, label: string, after: Claim['after'] = 'training'): Claim => ({
  ...{ label, ours, theirs, after },
});
const AFTER = 'after the same post-training';

/** All that RLP is compared with, whatever comes out. */
const CLAIMS: readonly Claim[] = [
  claim(RLP, 'base', 'RLP above the base'),
  claim(RLP, 'cpt', 'RLP above CPT on the same input tokens'),
  claim(RLP, 'cpt-flops', 'RLP above CPT of the same FLOPs'),
  claim(RLP, CPT_LONG, 'RLP above CPT on 35x the input tokens'),
  claim(RLP, 'cpt-answers', 'RLP above next-token training on the answers alone'),
  claim(RLP, 'best-of-group', 'RLP above next-token training on the best of G own thoughts, same FLOPs'),
  claim(RLP, 'rpt', 'RLP above RPT'),
  claim(RLP_UNIFORM, 'base', 'RLP told nothing above the base'),
  claim(RLP_UNIFORM, 'cpt', 'RLP told nothing above CPT on the same input tokens'),
  claim(RLP_UNIFORM, 'cpt-flops', 'RLP told nothing above CPT of the same FLOPs'),
  claim(RLP_UNIFORM, CPT_LONG, 'RLP told nothing above CPT on 35x the input tokens'),
  claim(RLP_UNIFORM, 'rpt-entropy', 'RLP told nothing above RPT told nothing'),
  claim(RLP, 'base', `RLP above the base, ${AFTER}`, 'post-training'),
  claim(RLP, 'cpt', `RLP above CPT on the same input tokens, ${AFTER}`, 'post-training'),
  claim(RLP, 'cpt-flops', `RLP above CPT of the same FLOPs, ${AFTER}`, 'post-training'),
  claim(RLP, 'base', `RLP above the base, ${AFTER} with longer RLVR`, 'long post-training'),
  claim(RLP, 'cpt-flops', `RLP above CPT of the same FLOPs, ${AFTER} with longer RLVR`, 'long post-training'),
];

/** Where in a study arms are compared: first, and at the end if that is another place. */
const pointsOf = ({ scale }: Findings): number[] => [...new Set([1, scale.stability])];
const placeOf = ({ scale }: Findings, point: number) => `after ${point * scale.steps} steps`;

/** By family; undefined if that was not run. Post-training starts from the end. */
function comparisons(
  findings: Findings,
  { ours, theirs, after }: Claim,
  point: number,
): Map<string, Comparison> | undefined {
  const { study, scale, base } = findings;
  const sidesOf = (): [BySeed, BySeed | Evaluation] | undefined => {
    if (after === 'training') {
      if (!has(findings, ours) || !(theirs === 'base' || has(findings, theirs))) return undefined;
      return [at(findings, ours, point), theirs === 'base' ? base : at(findings, theirs, point)];
    }
    if (point !== scale.stability) return undefined;
    const long = after === 'long post-training';
    const [a, b] = [ours, theirs].map((arm) => postTrained(findings, LAST_STAGE, arm, long));
    return a.size === 0 || b.size === 0 ? undefined : [a, b];
  };
  const found = sidesOf();
  return found && new Map(study.families.map(({ name }) => [name, compare(found[0], found[1], name)]));
}

const withVerdict = (of: ReadonlyMap<string, Comparison>, verdict: string) =>
  [...of].filter(([, comparison]) => comparison.verdict === verdict);

/** For each claim, text and place: in which families it holds, and in which it does not. */
export function claimSection(findings: readonly Findings[]): Section {
  const cell = (one: Findings, of: Claim, point: number): string => {
    const found = comparisons(one, of, point);
    if (found === undefined) return of.after !== 'training' && point !== one.scale.stability ? '' : 'not run';
    return VERDICTS.flatMap((verdict) => {
      const families = withVerdict(found, verdict).map(([family]) => family);
      return families.length > 0 ? [`${verdict}: ${listed(families)}`] : [];
    }).join('; ');
  };
  return {
    title: 'The claims',
    text:
      'Of exact answers with a thought. *Above* and *below*: the 95% t intervals over the seeds do not overlap, and the 95% interval of ' +
      'the paired difference, bootstrapped over questions and seeds, is on one side of 0; otherwise *not apart*. Arms are compared early, ' +
      'and again at the end of the run; post-training starts from the end.',
    table: [
      ['', ...findings.flatMap((one) => pointsOf(one).map((point) => `${one.study.name}, ${placeOf(one, point)}`))],
      ...CLAIMS.map((of) => [
        of.label,
        ...findings.flatMap((one) => pointsOf(one).map((point) => cell(one, of, point))),
      ]),
    ],
  };
}

/** Every comparison of the claims in which RLP is not above, with both sides. */
export function shortfalls(findings: Findings): string[][] {
  return CLAIMS.flatMap((of) =>
    pointsOf(findings).flatMap((point) => {
      const found = comparisons(findings, of, point);
      if (found === undefined) return [];
      const cells = (['not apart', 'below'] as const).map((verdict) =>
        listed(withVerdict(found, verdict).map(([family, comparison]) => `${family} (${sides(comparison)})`)),
      );
      return cells.every((cell) => cell === '') ? [] : [[of.label, placeOf(findings, point), ...cells]];
    }),
  );
}
