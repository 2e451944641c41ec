import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Curve, lineChart } from './charts.ts';
import type { Evaluation, FamilyScore } from './evaluate.ts';
import type { JobResult } from './job.ts';
import {
  ABLATIONS,
  type Arm,
  type ArmContext,
  armsOf,
  flopsOf,
  GROUP_SIZE,
  POST_TRAINING_STAGES,
  type Scale,
  STABILITY,
  type Study,
} from './plan.ts';
import { type Estimate, estimate, verdict } from './statistics.ts';
import type { ThoughtSample } from './thoughts.ts';

/** What a study found. */
export interface Findings {
  study: Study;
  scale: Scale;
  context: ArmContext;
  base: Evaluation;
  /** Learning rate that each arm chose, by its name. */
  rates: ReadonlyMap<string, number>;
  /** Results by job name: sweep/ARM/RATE, arms/ARM/SEED, post-training/STAGE/ARM/SEED, ablations/NAME/SEED, stability/NAME/SEED. */
  results: ReadonlyMap<string, JobResult>;
  thoughts: readonly ThoughtSample[];
}

/** How it was found. */
export interface Circumstances {
  scale: 'quick' | 'full';
  /** The machine in words, and how long it took. */
  machine: string;
  minutes: number;
}

/** A table as rows of cells; the first row is the heading. */
type Table = readonly (readonly string[])[];
interface Section {
  title: string;
  /** Of the heading; 2 if nothing is said. */
  level?: 1 | 2 | 3;
  text?: string;
  table?: Table;
  /** SVG; in the page only. */
  charts?: readonly string[];
}

/** Writes reproduction.md, reproduction.html and reproduction.json. */
export async function writeReport(folder: string, findings: readonly Findings[], how: Circumstances): Promise<void> {
  const sections = [
    introduction(findings, how),
    claimSection(findings),
    paperSection(findings),
    ...findings.flatMap(describe),
  ];
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'reproduction.md'), markdown(sections));
  await writeFile(join(folder, 'reproduction.html'), html(sections));
  const studies = findings.map(({ study, results, rates, ...rest }) => ({
    ...{ name: study.name, ...rest },
    ...{ rates: Object.fromEntries(rates), results: Object.fromEntries(results) },
  }));
  await writeFile(join(folder, 'reproduction.json'), `${JSON.stringify({ ...how, studies }, null, 1)}\n`);
}

const percent = ({ mean, halfWidth }: Estimate) =>
  `${(100 * mean).toFixed(1)}${Number.isNaN(halfWidth) ? '' : ` ± ${(100 * halfWidth).toFixed(1)}`}`;
const nats = ({ mean, halfWidth }: Estimate) =>
  `${mean.toFixed(3)}${Number.isNaN(halfWidth) ? '' : ` ± ${halfWidth.toFixed(3)}`}`;

function introduction(findings: readonly Findings[], { scale, machine, minutes }: Circumstances): Section {
  const [{ context, scale: first }] = findings;
  return {
    level: 1,
    title: 'RLP against next-token training, in small',
    text:
      `Written by \`npm run reproduce${scale === 'quick' ? ' -- --quick' : ''}\` on ${machine}, in ${minutes.toFixed(0)} minutes. ` +
      `On each of ${findings.length} texts every arm starts from one base checkpoint (scripts/reproduce/bases, ` +
      `${(context.parameters / 1e6).toFixed(2)} million parameters) and reads the same raw text, without thoughts. ` +
      'Seeds are fixed in advance; ± is half of a 95% t interval over them. ' +
      `Held out: ${first.heldOut} questions a family, in no training text. ` +
      `*With a thought* is the probability, in percent, that an answer sampled after a sampled thought is exact; *without* that of an ` +
      'answer sampled at once, given that no thought is opened.',
  };
}

/** Claims of the paper: RLP above an arm after as many steps, or after the same post-training. */
const CLAIMS = [
  { label: 'above CPT on the same input tokens', against: 'cpt', after: 'steps' },
  { label: 'above CPT of the same FLOPs', against: 'cpt-flops', after: 'steps' },
  { label: 'above RPT', against: 'rpt', after: 'steps' },
  { label: 'above CPT on the same input tokens, after the same post-training', against: 'cpt', after: 'post-training' },
  { label: 'above CPT of the same FLOPs, after the same post-training', against: 'cpt-flops', after: 'post-training' },
] as const;

/** For each claim and text: in how many families the intervals are apart, and in which direction. */
function claimSection(findings: readonly Findings[]): Section {
  const cell = (one: Findings, { against: name, after }: (typeof CLAIMS)[number]): string => {
    const arm = armsOf(one.scale).find((other) => other.name === name);
    const postTrained = one.scale.postTraining.arms;
    if (arm === undefined || (after === 'post-training' && !postTrained.includes(name))) return 'not run';
    const part = 1 / one.scale.stability;
    const [ours, theirs] =
      after === 'steps'
        ? [at(one, armOf(one, RLP), part), at(one, arm, part)]
        : [RLP, name].map((start) => lastOf(one, `post-training/${LAST_STAGE.name}/${start}`, one.scale.seeds));
    const verdicts = one.study.families.map((family) => [family.name, compare(ours, theirs, family.name).verdict]);
    const list = (verdict: string) => verdicts.filter(([, own]) => own === verdict).map(([family]) => family);
    return ['above', 'overlap', 'below']
      .flatMap((verdict) => (list(verdict).length > 0 ? [`${verdict}: ${list(verdict).join(', ')}`] : []))
      .join('; ');
  };
  return {
    title: 'The claims',
    text:
      'Of exact answers with a thought: *above* and *below* mean that the 95% intervals do not overlap. Arms are compared after ' +
      `${findings.map(({ study, scale }) => `${scale.steps} steps (${study.name})`).join(' and ')}; post-training starts from the end of each.`,
    table: [
      ['RLP is', ...findings.map(({ study }) => study.title.toLowerCase())],
      ...CLAIMS.map((claim) => [claim.label, ...findings.map((one) => cell(one, claim))]),
    ],
  };
}

/** Averages over the paper's benchmarks with Qwen3-1.7B-Base as printed, percent (arXiv 2510.01265): before and after post-training. */
const PAPER: readonly [label: string, arm: string, before: number, after: number][] = [
  ['base', 'base', 30.32, 39.34],
  ['CPT', 'cpt', 30.85, 39.9],
  ['RLP', 'rlp-ema', 36.03, 42.51],
];

/** The paper's table, and ours beside it: means over the families, with a thought. */
function paperSection([first]: readonly Findings[]): Section {
  const { study, scale, base } = first;
  const ours = (name: string) => (name === 'base' ? [base] : at(first, armOf(first, name), 1));
  const after = (name: string) => lastOf(first, `post-training/${LAST_STAGE.name}/${name}`, scale.seeds);
  return {
    title: 'Beside the paper',
    text:
      'Qwen3-1.7B-Base on the average of its benchmarks as printed (arXiv 2510.01265), and the tiny model here on the mean of the families of the ' +
      `first text (${study.name}) at the end of each arm: percent, other tasks, another scale. What compares is the order.`,
    table: [
      ['', 'paper', 'here', 'paper, after the same post-training', 'here, after the same post-training'],
      ...PAPER.map(([label, name, before, later]) => [
        ...[label, before.toFixed(2), percent(overall(ours(name), 'thinking'))],
        ...[later.toFixed(2), percent(overall(after(name), 'thinking'))],
      ]),
    ],
  };
}

const LAST_STAGE = POST_TRAINING_STAGES[POST_TRAINING_STAGES.length - 1];

/** The sections of a study, under its heading. */
function describe(findings: Findings): Section[] {
  const { study, scale } = findings;
  const end = scale.steps * scale.stability;
  const compared: [title: string, part: number][] = [
    [`After ${scale.steps} steps`, 1 / scale.stability],
    ...(scale.stability > 1 ? [[`After ${end} steps`, 1] as [string, number]] : []),
  ];
  const cent = (share: number) => String(Math.round(100 * share));
  return [
    {
      ...{ level: 2, title: study.title, text: `${study.question} ${scale.seeds.length} seeds an arm.` },
      table: [
        ['family', 'what it is', 'by chance', 'after the right thought'],
        ...study.families.map(({ name, description, chance, ceiling }) => [
          ...[name, description, cent(chance), cent(ceiling)],
        ]),
      ],
    },
    ...compared.flatMap(([title, part]) => [
      { title: `${title}: exact with a thought`, table: thinkingTable(findings, part) },
      { title: `${title}: exact without a thought, and the text`, table: directTable(findings, part) },
      { title: `${title}: RLP against the others, with a thought`, table: claimTable(findings, part) },
    ]),
    {
      title: 'Over the steps',
      text: `Exact answers with a thought. x is the share of an arm's steps; RLP takes ${end}.`,
      charts: study.families.map(({ name, ceiling }) =>
        lineChart(curves(findings, name), {
          title: `${name}: exact with a thought`,
          xName: `steps of RLP (others: same share of theirs)`,
          yName: 'probability',
          range: [0, ceiling],
        }),
      ),
    },
    ...(scale.postTraining.arms.length > 0 ? [postTrainingSection(findings)] : []),
    { title: 'Thoughts before and after', table: thoughtTable(findings) },
    ...(scale.ablationSeeds.length > 0
      ? [{ title: `Choices of RLP, after ${scale.steps} steps`, table: ablationTable(findings) }]
      : []),
    ...(scale.stabilitySeeds.length > 0 ? [stabilitySection(findings)] : []),
    costSection(findings),
    { title: 'What is fair and what is not', text: study.fairness },
  ].map((section) => ({ level: 3, ...section }) as Section);
}

/** The arms that are compared at a share of their steps: all at first, and those that run on. */
const armsAt = ({ scale }: Findings, part: number): readonly Arm[] =>
  armsOf(scale).filter(({ short }) => !short || part <= 1 / scale.stability);

/** Evaluations of an arm's seeds at a share of its steps; of an arm that does not run on, its last ones. */
function at({ scale, results }: Findings, arm: Arm, part: number): Evaluation[] {
  return scale.seeds.map((seed) => {
    const curve = results.get(`arms/${arm.name}/${seed}`)?.curve ?? [];
    const point = arm.short ? curve.at(-1) : curve[Math.round(part * curve.length) - 1];
    if (point === undefined) throw new Error(`arm ${arm.name}, seed ${seed}: no evaluation at ${part} of its steps`);
    return point.evaluation;
  });
}

const of = (evaluations: readonly Evaluation[], family: string, figure: keyof FamilyScore): Estimate =>
  estimate(evaluations.map(({ families }) => families[family][figure]));
/** Mean over the families, an estimate over the seeds. */
const overall = (evaluations: readonly Evaluation[], figure: keyof FamilyScore): Estimate =>
  estimate(evaluations.map(({ families }) => mean(Object.values(families).map((scores) => scores[figure]))));
const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

const exactRow = (
  { families }: Study,
  label: string,
  evaluations: readonly Evaluation[],
  figure: 'thinking' | 'direct',
) => [
  label,
  ...families.map(({ name }) => percent(of(evaluations, name, figure))),
  percent(overall(evaluations, figure)),
];
const headingOf = ({ families }: Study) => [...families.map(({ name }) => name), 'mean'];
/** An arm that is in every scale. */
const armOf = ({ scale }: Findings, wanted: string): Arm => armsOf(scale).find(({ name }) => name === wanted) as Arm;

function thinkingTable(findings: Findings, part: number): Table {
  const row = (label: string, evaluations: readonly Evaluation[]) => [
    ...exactRow(findings.study, label, evaluations, 'thinking'),
    nats(overall(evaluations, 'gain')),
  ];
  return [
    ['arm', ...headingOf(findings.study), 'information gain, nats'],
    row('base', [findings.base]),
    ...armsAt(findings, part).map((arm) => row(arm.label, at(findings, arm, part))),
  ];
}

function directTable(findings: Findings, part: number): Table {
  const row = (label: string, evaluations: readonly Evaluation[]) => [
    ...exactRow(findings.study, label, evaluations, 'direct'),
    percent(overall(evaluations, 'opens')),
    nats(estimate(evaluations.map(({ textCrossEntropy }) => textCrossEntropy))),
  ];
  return [
    ['arm', ...headingOf(findings.study), 'opens a thought by itself', 'text, nats a token'],
    row('base', [findings.base]),
    ...armsAt(findings, part).map((arm) => row(arm.label, at(findings, arm, part))),
  ];
}

/** For each family: is RLP's interval above that of the other arm, below it, or do they overlap? */
function claimTable(findings: Findings, part: number): Table {
  const { families } = findings.study;
  const rlp = at(findings, armOf(findings, RLP), part);
  return [
    ['RLP (EMA) against', ...families.map(({ name }) => name)],
    ...armsAt(findings, part)
      .filter(({ name }) => name !== RLP)
      .map((other) => [other.label, ...families.map(({ name }) => against(rlp, at(findings, other, part), name))]),
  ];
}

function compare(ours: readonly Evaluation[], theirs: readonly Evaluation[], family: string) {
  const [a, b] = [ours, theirs].map((one) => of(one, family, 'thinking'));
  return { a, b, verdict: verdict(a, b) };
}

function against(ours: readonly Evaluation[], theirs: readonly Evaluation[], family: string): string {
  const { a, b, verdict: found } = compare(ours, theirs, family);
  return `${found} (${percent(a)} : ${percent(b)})`;
}

const RLP = 'rlp-ema';

/** The last evaluations of the seeds of something: jobs FOLDER/SEED. */
const lastOf = ({ results }: Findings, folder: string, seeds: readonly number[]): Evaluation[] =>
  seeds.flatMap((seed) => results.get(`${folder}/${seed}`)?.curve.at(-1)?.evaluation ?? []);

function postTrainingSection(findings: Findings): Section {
  const { study, scale } = findings;
  const { sftSteps, rlvrSteps } = scale.postTraining;
  const started = [
    { name: 'base', label: 'base' },
    ...armsOf(scale).filter(({ name }) => scale.postTraining.arms.includes(name)),
  ];
  const after = (stage: string, name: string) => lastOf(findings, `post-training/${stage}/${name}`, scale.seeds);
  return {
    title: 'After the same post-training: exact with a thought',
    text:
      `From the last checkpoint of each arm: ${sftSteps} steps of SFT on other questions with right thoughts, then ${rlvrSteps} steps of RLVR ` +
      '(GRPO, reward 1 for the exact answer), with the same settings for all.',
    table: [
      ['start', 'stage', ...headingOf(study)],
      ...POST_TRAINING_STAGES.flatMap(({ name: stage }) =>
        started.map(({ name, label }) => {
          const [first, ...cells] = exactRow(study, label, after(stage, name), 'thinking');
          return [first, stage.toUpperCase(), ...cells];
        }),
      ),
      ...started
        .filter(({ name }) => name !== RLP)
        .map(({ name, label }) => [
          `RLP (EMA) against ${label}`,
          LAST_STAGE.name.toUpperCase(),
          ...study.families.map((family) =>
            against(after(LAST_STAGE.name, RLP), after(LAST_STAGE.name, name), family.name),
          ),
          '',
        ]),
    ],
  };
}

function curves(findings: Findings, family: string): Curve[] {
  const { scale, base } = findings;
  const points = scale.stability * scale.points;
  const steps = scale.steps * scale.stability;
  return armsOf(scale)
    .filter(({ short }) => !short)
    .map((arm) => ({
      label: arm.label,
      points: [
        { x: 0, y: base.families[family].thinking, halfWidth: 0 },
        ...Array.from({ length: points }, (_, i) => {
          const part = (i + 1) / points;
          const { mean: y, halfWidth } = of(at(findings, arm, part), family, 'thinking');
          return { x: part * steps, y, halfWidth };
        }),
      ],
    }));
}

function thoughtTable({ thoughts }: Findings): Table {
  const cell = ({ thought, probability }: { thought: string; probability: number }) =>
    `\`${thought}\` (${(100 * probability).toFixed(0)}%)`;
  return [
    ['before the answer', 'answer', 'base thinks (exact)', 'after RLP'],
    ...thoughts.map(({ context, answer, before, after }) => [`\`${context}\``, answer, cell(before), cell(after)]),
  ];
}

function ablationTable(findings: Findings): Table {
  const { study, scale } = findings;
  const row = (label: string, evaluations: readonly Evaluation[]) => [
    ...exactRow(study, label, evaluations, 'thinking'),
    overall(evaluations, 'thoughtTokens').mean.toFixed(1),
  ];
  return [
    ['', ...headingOf(study), 'tokens a thought'],
    row('as in the arm', at(findings, armOf(findings, RLP), 1 / scale.stability)),
    ...ABLATIONS.map(({ name, label }) => row(label, lastOf(findings, `ablations/${name}`, scale.ablationSeeds))),
  ];
}

/** Below its best by more than this, a setting has collapsed: the mean exact share over the families. */
const COLLAPSE = 0.05;

function stabilitySection(findings: Findings): Section {
  const { scale, base, results } = findings;
  const mean = (evaluation: Evaluation) => overall([evaluation], 'thinking').mean;
  const rows = STABILITY.flatMap(({ name, label }) =>
    scale.stabilitySeeds.map((seed) => {
      const evaluations = (results.get(`stability/${name}/${seed}`)?.curve ?? []).map(({ evaluation }) => evaluation);
      const best = Math.max(...evaluations.map(mean));
      const last = evaluations[evaluations.length - 1];
      return [
        label,
        ...[best, mean(last)].map((share) => (100 * share).toFixed(1)),
        last.textCrossEntropy.toFixed(3),
        best - mean(last) > COLLAPSE ? 'collapses' : 'holds',
      ];
    }),
  );
  return {
    title: `What holds for ${scale.steps * scale.stability} steps`,
    text:
      'Mean over the families of exact answers with a thought, percent: the best of ten evaluations, and the last. A setting ' +
      `*collapses* here if it ends more than ${100 * COLLAPSE} points below its best.`,
    table: [
      ['RLP with', 'best', 'last', 'text, nats a token', ''],
      ['(base)', (100 * mean(base)).toFixed(1), '', base.textCrossEntropy.toFixed(3), ''],
      ...rows,
    ],
  };
}

function costSection({ scale, context, rates, results }: Findings): Section {
  return {
    title: 'Cost and learning rates',
    text:
      (scale.learningRates.length > 1
        ? `Learning rates were chosen for each arm among ${scale.learningRates.join(', ')} with one seed, by other held-out questions after ` +
          `${scale.sweepSteps} steps (as many as it has, where these are fewer): the best mean over the families of the better of with and without a thought. `
        : 'The learning rate is the same for all arms here; the full experiment chooses one for each. ') +
      `*Same FLOPs* is the paper's formula, which gives ` +
      `${context.flopFactor.toFixed(2)} times the input tokens here (G = ${GROUP_SIZE}, thoughts of at most ${context.maxThoughtTokens} tokens). ` +
      'FLOPs below are counted from what was run: 2 a parameter and token forward, 4 backward. Trained tokens count a shared prefix once. ' +
      'Seconds are of the training loop: the median step times the steps.',
    table: [
      ['arm', 'learning rate', 'steps', 'thousand tokens trained', 'sampled', 'TFLOP', 'seconds (one thread)'],
      ...armsOf(scale).map((arm) => {
        const runs = scale.seeds.flatMap((seed) => results.get(`arms/${arm.name}/${seed}`) ?? []);
        const steps = runs[0]?.curve.at(-1)?.step ?? 0;
        const figure = (of: (run: JobResult) => number, unit: number, digits: number) =>
          (mean(runs.map(of)) / unit).toFixed(digits);
        return [
          ...[arm.label, String(rates.get(arm.name)), String(steps)],
          figure((run) => run.trainedTokens, 1e3, 0),
          figure((run) => run.sampledTokens, 1e3, 0),
          figure((run) => flopsOf(run, steps, context), 1e12, 2),
          figure((run) => run.seconds, 1, 0),
        ];
      }),
    ],
  };
}

function markdown(sections: readonly Section[]): string {
  const row = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return sections
    .map(({ level = 2, title, text, table, charts }) => {
      const lines = [`${'#'.repeat(level)} ${title}`, ''];
      if (text !== undefined) lines.push(text, '');
      if (table !== undefined) {
        const [heading, ...rows] = table;
        lines.push(row(heading), row(heading.map(() => '---')), ...rows.map(row), '');
      }
      if (charts !== undefined) lines.push('The curves are in [reproduction.html](reproduction.html).', '');
      return lines.join('\n');
    })
    .join('\n');
}

const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
/** The little Markdown that our texts use. */
const inline = (text: string) =>
  escaped(text)
    .replaceAll(/`([^`]*)`/g, '<code>$1</code>')
    .replaceAll(/\*([^*]+)\*/g, '<em>$1</em>');

const STYLE =
  'body{font:15px/1.5 system-ui,sans-serif;max-width:1200px;margin:2em auto;padding:0 1em;color:#222}table{border-collapse:collapse;' +
  'font-size:13px}td,th{border:1px solid #ccc;padding:3px 8px;text-align:left}th{background:#f4f4f4}';

/** One file, without scripts, readable without a network. */
function html(sections: readonly Section[]): string {
  const row = (tag: string, cells: readonly string[]) =>
    `<tr>${cells.map((cell) => `<${tag}>${inline(cell)}</${tag}>`).join('')}</tr>`;
  const body = sections.map(({ level = 2, title, text, table, charts }) => {
    const parts = [`<h${level}>${escaped(title)}</h${level}>`];
    if (text !== undefined) parts.push(`<p>${inline(text)}</p>`);
    if (table !== undefined) {
      const [heading, ...rows] = table;
      parts.push(`<table>${row('th', heading)}${rows.map((cells) => row('td', cells)).join('\n')}</table>`);
    }
    return [...parts, ...(charts ?? [])].join('\n');
  });
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(sections[0].title)}</title><style>${STYLE}</style>\n${body.join('\n')}\n</html>\n`;
}
