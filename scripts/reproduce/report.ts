import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Curve, lineChart } from './charts.ts';
import type { Evaluation, FamilyScore } from './evaluate.ts';
import { FAMILIES } from './families.ts';
import type { JobResult } from './job.ts';
import { ABLATIONS, type Arm, type ArmContext, armsOf, GROUP_SIZE, type Scale } from './plan.ts';
import { type Estimate, estimate, isAbove } from './statistics.ts';
import type { ThoughtSample } from './thoughts.ts';

/** Everything the report shows. */
export interface Findings {
  scale: Scale;
  context: ArmContext;
  base: Evaluation;
  /** Learning rate that each arm chose, by its name. */
  rates: ReadonlyMap<string, number>;
  /** Results by job name: arms/ARM/SEED, ablations/NAME/SEED, sweep/ARM/RATE. */
  results: ReadonlyMap<string, JobResult>;
  thoughts: readonly ThoughtSample[];
  /** The machine in words, and how long it took. */
  machine: string;
  minutes: number;
}

/** A table as rows of cells; the first row is the heading. */
type Table = readonly (readonly string[])[];
interface Section {
  title: string;
  text?: string;
  table?: Table;
  /** SVG; in the page only. */
  charts?: readonly string[];
}

/** Writes reproduction.md, reproduction.html and reproduction.json. */
export async function writeReport(folder: string, findings: Findings): Promise<void> {
  const sections = describe(findings);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'reproduction.md'), markdown(sections));
  await writeFile(join(folder, 'reproduction.html'), html(sections));
  const { results, rates, ...rest } = findings;
  const raw = { ...rest, rates: Object.fromEntries(rates), results: Object.fromEntries(results) };
  await writeFile(join(folder, 'reproduction.json'), `${JSON.stringify(raw, null, 1)}\n`);
}

const percent = ({ mean, halfWidth }: Estimate) =>
  `${(100 * mean).toFixed(1)}${Number.isNaN(halfWidth) ? '' : ` ± ${(100 * halfWidth).toFixed(1)}`}`;
const nats = ({ mean, halfWidth }: Estimate) =>
  `${mean.toFixed(3)}${Number.isNaN(halfWidth) ? '' : ` ± ${halfWidth.toFixed(3)}`}`;

function describe(findings: Findings): Section[] {
  const { scale, context, rates, machine, minutes } = findings;
  const end = scale.steps * scale.stability;
  const compared: [title: string, part: number][] = [
    [`After ${scale.steps} steps`, 1 / scale.stability],
    ...(scale.stability > 1 ? [[`After ${end} steps`, 1] as [string, number]] : []),
  ];
  return [
    {
      title: 'RLP against next-token training, in small',
      text:
        `Written by \`npm run reproduce${scale.name === 'quick' ? ' -- --quick' : ''}\` on ${machine}, in ${minutes.toFixed(0)} minutes. ` +
        `Every arm starts from the same base checkpoint (scripts/reproduce/base) and reads the same raw text, without thoughts. ` +
        `${scale.seeds.length} seeds an arm; ± is half of a 95% t interval over the seeds. Held out: ${scale.heldOut} questions a family. ` +
        `*Exact* is the probability that an answer sampled after a sampled thought is exact, in percent (chance: ` +
        `${FAMILIES.map(({ name, chance }) => `${name} ${100 * chance}`).join(', ')}); *direct* the same without a thought.`,
    },
    {
      title: 'The text',
      table: [['family', 'what it is'], ...FAMILIES.map(({ name, description }) => [name, description])],
    },
    ...compared.flatMap(([title, part]) => [
      { title, table: armTable(findings, part) },
      { title: `${title}: what the paper claims`, table: claimTable(findings, part) },
    ]),
    {
      title: 'Over the steps',
      text: `Exact answers with a thought. x is the share of an arm's steps; RLP takes ${end}.`,
      charts: FAMILIES.map(({ name }) =>
        lineChart(curves(findings, name, 'thinking'), {
          title: `${name}: exact with a thought`,
          xName: `steps of RLP (others: same share of theirs)`,
          yName: 'probability',
          range: [0, 1],
        }),
      ),
    },
    { title: 'Thoughts before and after', table: thoughtTable(findings) },
    ...(scale.ablationSeeds.length > 0
      ? [{ title: `Choices of RLP, after ${scale.steps} steps`, table: ablationTable(findings) }]
      : []),
    {
      title: 'Cost and learning rates',
      text:
        `Learning rates were chosen for each arm among ${scale.learningRates.join(', ')} with one seed, on other held-out questions: the best ` +
        `mean over the families of the better of exact and direct. FLOPs are matched by the paper's formula, which gives ` +
        `${context.flopFactor.toFixed(2)} times the input tokens here (G = ${GROUP_SIZE}, thoughts of at most ${context.maxThoughtTokens} tokens). ` +
        'Tokens are those that went through the training graph, thoughts and a shared prefix counted once.',
      table: costTable(findings, rates),
    },
    {
      title: "The paper's figures",
      text:
        'Qwen3-1.7B-Base, average over its benchmarks as printed, percent (arXiv 2510.01265): base 30.32, CPT 30.85, RLP 36.03; after the ' +
        'same post-training 39.34, 39.90, 42.51.',
    },
  ];
}

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

function armTable(findings: Findings, part: number): Table {
  const row = (label: string, evaluations: readonly Evaluation[]) => [
    label,
    ...FAMILIES.flatMap(({ name }) => [
      percent(of(evaluations, name, 'thinking')),
      percent(of(evaluations, name, 'direct')),
    ]),
    nats(estimate(evaluations.map(({ textCrossEntropy }) => textCrossEntropy))),
  ];
  return [
    ['arm', ...FAMILIES.flatMap(({ name }) => [`${name} exact`, `${name} direct`]), 'text, nats a token'],
    row('base', [findings.base]),
    ...armsOf(findings.scale).map((arm) => row(arm.label, at(findings, arm, part))),
  ];
}

/** For each family: is RLP's interval above that of the other arm, below it, or do they overlap? */
function claimTable(findings: Findings, part: number): Table {
  const rlp = armsOf(findings.scale).filter(({ name }) => name === 'rlp-ema');
  const others = armsOf(findings.scale).filter(({ name }) => name !== 'rlp-ema');
  return [
    ['RLP (EMA) against', ...FAMILIES.map(({ name }) => name)],
    ...rlp.flatMap((arm) =>
      others.map((other) => [
        other.label,
        ...FAMILIES.map(({ name }) => {
          const [ours, theirs] = [arm, other].map((one) => of(at(findings, one, part), name, 'thinking'));
          const verdict = isAbove(ours, theirs) ? 'above' : isAbove(theirs, ours) ? 'below' : 'overlap';
          return `${verdict} (${percent(ours)} : ${percent(theirs)})`;
        }),
      ]),
    ),
  ];
}

function curves(findings: Findings, family: string, figure: keyof FamilyScore): Curve[] {
  const { scale, base } = findings;
  const points = scale.stability * scale.points;
  const steps = scale.steps * scale.stability;
  return armsOf(findings.scale)
    .filter(({ short }) => !short)
    .map((arm) => ({
      label: arm.label,
      points: [
        { x: 0, y: base.families[family][figure], halfWidth: 0 },
        ...Array.from({ length: points }, (_, i) => {
          const part = (i + 1) / points;
          const { mean, halfWidth } = of(at(findings, arm, part), family, figure);
          return { x: part * steps, y: mean, halfWidth };
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
  const { scale, results } = findings;
  const row = (label: string, evaluations: readonly Evaluation[]) => [
    label,
    ...FAMILIES.map(({ name }) => percent(of(evaluations, name, 'thinking'))),
    ...['thoughtTokens' as const].map((figure) =>
      estimate(FAMILIES.map(({ name }) => of(evaluations, name, figure).mean)).mean.toFixed(1),
    ),
  ];
  const rlp = armsOf(findings.scale).filter(({ name }) => name === 'rlp-ema');
  return [
    ['', ...FAMILIES.map(({ name }) => `${name} exact`), 'tokens a thought'],
    ...rlp.map((arm) => row('as in the arm', at(findings, arm, 1 / scale.stability))),
    ...ABLATIONS.map(({ name, label }) =>
      row(
        label,
        scale.ablationSeeds.flatMap((seed) => results.get(`ablations/${name}/${seed}`)?.curve.at(-1)?.evaluation ?? []),
      ),
    ),
  ];
}

function costTable(findings: Findings, rates: ReadonlyMap<string, number>): Table {
  const { scale, results } = findings;
  return [
    ['arm', 'learning rate', 'million tokens', 'seconds (one thread)'],
    ...armsOf(findings.scale).map(({ name, label }) => {
      const runs = scale.seeds.flatMap((seed) => results.get(`arms/${name}/${seed}`) ?? []);
      const mean = (figure: 'tokens' | 'seconds') => estimate(runs.map((run) => run[figure])).mean;
      return [label, String(rates.get(name)), (mean('tokens') / 1e6).toFixed(2), mean('seconds').toFixed(0)];
    }),
  ];
}

function markdown(sections: readonly Section[]): string {
  const row = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  return sections
    .map(({ title, text, table, charts }, i) => {
      const lines = [`${i === 0 ? '#' : '##'} ${title}`, ''];
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
  const body = sections.map(({ title, text, table, charts }, i) => {
    const parts = [i === 0 ? `<h1>${escaped(title)}</h1>` : `<h2>${escaped(title)}</h2>`];
    if (text !== undefined) parts.push(`<p>${inline(text)}</p>`);
    if (table !== undefined) {
      const [heading, ...rows] = table;
      parts.push(`<table>${row('th', heading)}${rows.map((cells) => row('td', cells)).join('\n')}</table>`);
    }
    return [...parts, ...(charts ?? [])].join('\n');
  });
  return `<!doctype html><html lang="en"><meta charset="utf-8"><title>${escaped(sections[0].title)}</title><style>${STYLE}</style>\n${body.join('\n')}\n</html>\n`;
}
