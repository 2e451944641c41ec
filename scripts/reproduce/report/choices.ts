import { RLP } from '../arms.ts';
import type { CurvePoint, JobResult } from '../job.ts';
import { groupBy, mean } from '../statistics.ts';
import type { Findings } from '../study.ts';
import { ABLATIONS, STABILITY } from '../variants.ts';
import { exactCells, familyNames } from './comparison.ts';
import { listed, share, sides } from './format.ts';
import type { Section } from './page.ts';
import {
  armsOf,
  type BySeed,
  compare,
  evaluationsOf,
  meanOver,
  overall,
  pointsOf,
  runsOf,
  VERDICTS,
} from './scores.ts';

const lastPoints = (runs: ReadonlyMap<number, JobResult>): Map<number, CurvePoint> =>
  new Map([...runs].flatMap(([seed, { curve }]) => curve.slice(-1).map((point) => [seed, point] as const)));

/** Against the arm on the same seeds: verdicts by family. */
function againstArm(findings: Findings, ours: BySeed, reference: BySeed): string {
  const families = findings.study.families.map(({ name }) => ({ name, ...compare(ours, reference, name) }));
  return VERDICTS.flatMap((verdict) => {
    const own = families.filter((family) => family.verdict === verdict);
    const names = own.map((family) => (verdict === 'not apart' ? family.name : `${family.name} (${sides(family)})`));
    return own.length > 0 ? [`${verdict}: ${listed(names)}`] : [];
  }).join('; ');
}

/** In how many seeds the weights are those of the reference, to the byte. */
function sameWeights(points: ReadonlyMap<number, CurvePoint>, reference: ReadonlyMap<number, CurvePoint>): string {
  const same = [...points].filter(([seed, { weights }]) => weights === reference.get(seed)?.weights);
  return `${same.length} of ${points.size}`;
}

/** What the choices of the method do, on the seeds of the arm. */
export function ablationSection(findings: Findings): Section[] {
  const { scale } = findings;
  if (scale.ablationSeeds === 0) return [];
  const reference = pointsOf(findings, RLP, 1);
  const kept = new Map([...reference].slice(0, scale.ablationSeeds));
  const row = (label: string, points: ReadonlyMap<number, CurvePoint>, cells: readonly string[]) => [
    ...[label, ...exactCells(findings, evaluationsOf(points), 'thinking')],
    ...[overall(evaluationsOf(points), 'thoughtTokens').mean.toFixed(1), ...cells],
  ];
  return [
    {
      title: `Choices of RLP, after ${scale.steps} steps`,
      text:
        `${kept.size} seeds, the same for all rows. Thoughts are evaluated, and their tokens counted, at the limit that was trained with. The last ` +
        'column counts the seeds whose weights are those of the arm, to the byte.',
      table: [
        ['', ...familyNames(findings), 'tokens a thought', 'against the arm', 'same weights'],
        row('as in the arm', kept, ['', '']),
        ...ABLATIONS.map(({ name, label }) => {
          const points = lastPoints(runsOf(findings, `ablations/${name}`));
          const verdicts = againstArm(findings, evaluationsOf(points), evaluationsOf(kept));
          return row(label, points, [verdicts, sameWeights(points, kept)]);
        }),
      ],
    },
  ];
}

/** The arm with a frozen baseline, whose weights should be those with an EMA. */
export function frozenText(findings: Findings): string[] {
  const { scale } = findings;
  if (!scale.arms.includes('rlp-frozen')) return [];
  const of = (arm: string) => pointsOf(findings, arm, scale.stability);
  return [
    `Frozen and EMA baseline: after ${scale.steps * scale.stability} steps the weights are the same, to the byte, in ` +
      `${sameWeights(of('rlp-frozen'), of(RLP))} seeds.`,
  ];
}

/**
 * Below its best by more than this, a setting has collapsed; above the base by less, it has learned nothing: of what is exact
 * after the right thought.
 */
const COLLAPSE = 0.05;
const LEARNED = 0.02;
/** Rise of the held-out text's cross-entropy, unopened, nats a token; also train's warning predictor_drift. */
const DRIFT = 0.1;

interface Course {
  best: number;
  last: number;
  /** Of the text, against the base. */
  drift: number;
  outcome: 'holds' | 'drifts' | 'collapses' | 'diverges' | 'learns nothing';
}

function courseOf({ base, study }: Findings, { curve, diverged }: JobResult): Course {
  if (curve.length === 0) return { best: Number.NaN, last: Number.NaN, drift: Number.NaN, outcome: 'diverges' };
  const exact = curve.map(({ evaluation }) => meanOver(evaluation, 'thinking'));
  const [best, last] = [Math.max(...exact), exact[exact.length - 1]];
  const drift = curve[curve.length - 1].evaluation.textCrossEntropyUnopened - base.textCrossEntropyUnopened;
  const ceiling = mean(study.families.map((family) => family.ceiling));
  const [fallen, gained] = [best - last, best - meanOver(base, 'thinking')].map((points) => points / ceiling);
  const outcome =
    diverged !== undefined
      ? 'diverges'
      : fallen > COLLAPSE
        ? 'collapses'
        : gained < LEARNED
          ? 'learns nothing'
          : drift > DRIFT
            ? 'drifts'
            : 'holds';
  return { best, last, drift, outcome };
}

/** A table row of a setting's runs; each cell has the seeds in their order. */
function courseRow(findings: Findings, label: string, runs: Iterable<JobResult>): string[] {
  const courses = [...runs].map((run) => courseOf(findings, run));
  const outcomes = [...groupBy(courses, ({ outcome }) => outcome)].map(([outcome, own]) => `${outcome}: ${own.length}`);
  const cells = (figure: (course: Course) => string) =>
    courses.map((course) => (Number.isNaN(course.last) ? 'none' : figure(course))).join(', ');
  return [
    label,
    cells(({ best }) => share(best)),
    cells(({ last }) => share(last)),
    cells(({ drift }) => `${drift < 0 ? '−' : '+'}${Math.abs(drift).toFixed(3)}`),
    listed(outcomes),
  ];
}

/** What holds for all steps, with the arm itself first. */
export function stabilitySection(findings: Findings): Section[] {
  const { scale, base, rates } = findings;
  if (scale.stabilitySeeds === 0) return [];
  return [
    {
      title: `What holds for ${scale.steps * scale.stability} steps`,
      text:
        `Mean over the families of exact answers with a thought, percent, a number a seed: the best of the evaluations after ` +
        `${listed(scale.points.map((point) => String(point * scale.steps)))} steps, and the last; and how the cross-entropy of ` +
        `held-out text without thoughts (unopened) has changed. In parts of what is exact after the right thought, a setting *collapses* if it ends more than ` +
        `${100 * COLLAPSE}% below its best, and *learns nothing* if its best is less than ${100 * LEARNED}% above the base ` +
        `(${share(meanOver(base, 'thinking'))}); it *drifts* if the text has risen by more than ${DRIFT} nats a token, *diverges* if a loss was not finite; otherwise it *holds*. The default learning rate of \`train\`, 1e-6, is for models a ` +
        'thousand times as large and moves nothing here in so few steps, so that to hold would say nothing: the defaults are run at the rate that RLP ' +
        `told nothing chose (${rates.get('rlp-uniform')?.chosen}).`,
      table: [
        ['RLP with', 'best', 'last', 'text, nats a token', ''],
        courseRow(
          findings,
          `the arm: learning rate ${rates.get(RLP)?.chosen}`,
          runsOf(findings, `arms/${RLP}`).values(),
        ),
        ...STABILITY.map(({ name, label }) =>
          courseRow(findings, label, runsOf(findings, `stability/${name}`).values()),
        ),
      ],
    },
  ];
}

/** Settings of RLP that did not hold, in words. */
export function unstable(findings: Findings): string[] {
  const settings = [
    ...armsOf(findings)
      .filter((arm) => arm.settings.objective === 'rlp')
      .map(({ name, label }) => ({ label, folder: `arms/${name}` })),
    ...STABILITY.map(({ name, label }) => ({ label, folder: `stability/${name}` })),
  ];
  return settings.flatMap(({ label, folder }) => {
    const courses = [...runsOf(findings, folder).values()].map((run) => courseOf(findings, run));
    const bad = courses.filter(({ outcome }) => /^(collapses|diverges|drifts)$/.test(outcome));
    const words = [...groupBy(bad, ({ outcome }) => outcome)].map(
      ([outcome, own]) => `${outcome} in ${own.length} of ${courses.length} seeds`,
    );
    return words.length > 0 ? [`${label} ${listed(words)}`] : [];
  });
}
