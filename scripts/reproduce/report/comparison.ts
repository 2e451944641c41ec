import { RLP } from '../arms.ts';
import type { Evaluation } from '../evaluate.ts';
import { estimate } from '../statistics.ts';
import type { Findings } from '../study.ts';
import { type Curve, lineChart } from './charts.ts';
import { compared, nats, percent, share } from './format.ts';
import type { Section, Table } from './page.ts';
import {
  armsOf,
  at,
  type BySeed,
  compare,
  type Figure,
  meanOver,
  of,
  overAllQuestions,
  overall,
  overQuestions,
} from './scores.ts';

/** The families, with what the base knows of them. */
export function familySection({ study, base }: Findings): Section {
  return {
    ...{ level: 2, title: study.title, text: study.question },
    table: [
      [
        'family',
        'what it is',
        'a guess is right',
        'base without a thought',
        'base with a thought',
        'after the right thought',
      ],
      ...study.families.map(({ name, description, chance, ceiling }) => [
        ...[name, description, share(chance), share(base.families[name].direct)],
        ...[percent(overQuestions(base, name)), share(ceiling)],
      ]),
    ],
  };
}

/** Tables and verdicts at every place where arms are compared. */
export function comparisonSections(findings: Findings): Section[] {
  const { scale } = findings;
  return [...new Set([1, scale.stability])].flatMap((point) => {
    const title = `After ${point * scale.steps} steps`;
    return [
      { title: `${title}: exact with a thought`, table: thinkingTable(findings, point) },
      { title: `${title}: exact without a thought, and the text`, table: directTable(findings, point) },
      { title: `${title}: RLP against the others, with a thought`, table: againstTable(findings, point) },
    ];
  });
}

export const exactCells = (findings: Findings, evaluations: BySeed, figure: Figure): string[] => [
  ...findings.study.families.map(({ name }) => percent(of(evaluations, name, figure))),
  percent(overall(evaluations, figure)),
];
export const familyNames = ({ study }: Findings): string[] => [...study.families.map(({ name }) => name), 'mean'];

const ofText = (evaluations: BySeed, figure: 'textCrossEntropy' | 'textCrossEntropyUnopened') =>
  nats(estimate([...evaluations.values()].map((evaluation) => evaluation[figure])));
const seedCount = (evaluations: BySeed) => String(evaluations.size);

function thinkingTable(findings: Findings, point: number): Table {
  const { study, base } = findings;
  return [
    ['arm', ...familyNames(findings), 'gain, nats', 'gain, unopened', 'seeds'],
    [
      'base (± over questions)',
      ...study.families.map(({ name }) => percent(overQuestions(base, name))),
      percent(overAllQuestions(base)),
      ...[meanOver(base, 'gain').toFixed(3), meanOver(base, 'gainUnopened').toFixed(3), ''],
    ],
    ...armsOf(findings).map(({ name, label }) => {
      const evaluations = at(findings, name, point);
      return [
        ...[label, ...exactCells(findings, evaluations, 'thinking')],
        ...[nats(overall(evaluations, 'gain')), nats(overall(evaluations, 'gainUnopened')), seedCount(evaluations)],
      ];
    }),
  ];
}

function directTable(findings: Findings, point: number): Table {
  const row = (label: string, evaluations: BySeed) => [
    ...[label, ...exactCells(findings, evaluations, 'direct'), percent(overall(evaluations, 'opens'))],
    ...[ofText(evaluations, 'textCrossEntropy'), ofText(evaluations, 'textCrossEntropyUnopened')],
  ];
  return [
    ['arm', ...familyNames(findings), 'opens a thought by itself', 'text, nats a token', 'text, unopened'],
    row('base', new Map([[0, findings.base]])),
    ...armsOf(findings).map(({ name, label }) => row(label, at(findings, name, point))),
  ];
}

function againstTable(findings: Findings, point: number): Table {
  const rlp = at(findings, RLP, point);
  const row = (label: string, others: BySeed | Evaluation) => [
    label,
    ...findings.study.families.map(({ name }) => compared(compare(rlp, others, name))),
  ];
  return [
    ['RLP (EMA) against', ...findings.study.families.map(({ name }) => name)],
    row('base', findings.base),
    ...armsOf(findings)
      .filter(({ name }) => name !== RLP)
      .map(({ name, label }) => row(label, at(findings, name, point))),
  ];
}

/** Exact answers by family, and the gain and the text over all of them, from the base on. */
export function curveSection(findings: Findings): Section {
  const { study, scale } = findings;
  const steps = scale.steps * scale.stability;
  const chart = (title: string, yName: string, figure: (evaluation: Evaluation) => number, range?: [number, number]) =>
    lineChart(curves(findings, figure), {
      ...{ title, xName: 'steps of RLP (others: the same share of theirs)', yName, ...(range && { range }) },
    });
  return {
    title: 'Over the steps',
    text: `x is the share of an arm's steps; RLP takes ${steps}. Bands are 95% t intervals over three seeds and more.`,
    charts: [
      ...study.families.map(({ name, ceiling }) =>
        chart(`${name}: exact with a thought`, 'probability', ({ families }) => families[name].thinking, [0, ceiling]),
      ),
      chart('information gain, unopened', 'nats', (evaluation) => meanOver(evaluation, 'gainUnopened')),
      chart('held-out text, unopened', 'nats a token', (evaluation) => evaluation.textCrossEntropyUnopened),
    ],
  };
}

function curves(findings: Findings, figure: (evaluation: Evaluation) => number): Curve[] {
  const { scale, base } = findings;
  return armsOf(findings).map(({ name, label }) => ({
    label,
    points: [
      { x: 0, y: figure(base), halfWidth: 0 },
      ...scale.points.map((point) => {
        const { mean, halfWidth } = estimate([...at(findings, name, point).values()].map(figure));
        const seeds = at(findings, name, point).size;
        return { x: point * scale.steps, y: mean, halfWidth: seeds < 3 ? Number.NaN : halfWidth };
      }),
    ],
  }));
}
