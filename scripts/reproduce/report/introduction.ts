import { RLP } from '../arms.ts';
import { DECLARED } from '../declared.ts';
import type { ScaleName } from '../plan.ts';
import type { Findings } from '../study.ts';
import { percent } from './format.ts';
import type { Section } from './page.ts';
import { at, has, LAST_STAGE, overAllQuestions, overall, postTrained } from './scores.ts';

/** How the results were made. */
export interface Circumstances {
  scale: ScaleName;
  /** The machine in words. */
  machine: string;
  /** By the clock, while jobs were run. */
  minutes: number;
  /** Times that the command was started for it. */
  sittings: number;
  /** SHA-256 of the code. */
  code: string;
}

export function introduction(findings: readonly Findings[], how: Circumstances): Section {
  const [{ context, scale }] = findings;
  const flag = how.scale === 'full' ? '' : ` -- --${how.scale}`;
  const time =
    how.sittings === 1
      ? `in one go, in ${how.minutes.toFixed(0)} minutes`
      : `in ${how.sittings} sittings, as it was interrupted, in ${how.minutes.toFixed(0)} minutes together`;
  return {
    level: 1,
    title: 'RLP against next-token training, in small',
    text: [
      `Written by \`npm run reproduce${flag}\` on ${how.machine}, ${time}; all of it by the same code (SHA-256 ${how.code.slice(0, 12)}). ` +
        `On each of ${findings.length} texts every arm starts from one base checkpoint (scripts/reproduce/bases, ` +
        `${(context.parameters / 1e6).toFixed(2)} million parameters) and reads the same raw text, without thoughts.`,
      `Held out: ${scale.heldOut} questions a family, in no training text and not among those that learning rates are chosen on. *With a thought* is the ` +
        'probability, in percent, that an answer sampled after a sampled thought is exact; *without* that of an answer sampled at once, given that no ' +
        'thought is opened. *Gain* is log p(answer | thought) − log p(answer) under the same weights, as RLP pays it; of a model that opens thoughts by itself it ' +
        'counts what the opening delimiter takes from the answer, too. *Unopened* is the same given that no thought is opened. ± is half of a 95% t interval over ' +
        'the seeds.',
    ],
  };
}

/** What was fixed before the run, and what was looked at before that. */
export function declaredSection(findings: readonly Findings[]): Section {
  const { textSeeds, sweepSeed, evaluationSeed, bootstrap } = DECLARED;
  const seeds = findings.map(({ study, scale }) => `${scale.seeds.join(', ')} (${study.name})`);
  const steps = findings.map(({ study, scale }) => `${scale.steps} (${study.name})`);
  return {
    title: 'Fixed before the run, and looks before it',
    text: [
      `Fixed before this run (scripts/reproduce/declared.ts): steps of the comparison ${steps.join(', ')}, and ${findings[0].scale.stability} times as many at ` +
        `the end; training seeds ${seeds.join(', ')}; seed ${sweepSeed} for the sweep; texts of the seeds ${textSeeds.train} (training), ` +
        `${textSeeds.validation} (validation), ${textSeeds.heldOut} (held out), ${textSeeds.postTraining} (post-training); seed ${evaluationSeed} of the evaluation's thoughts; ` +
        `${bootstrap.resamples} resamples of seed ${bootstrap.seed}.`,
      'Looks before it, on 2026-11-23, with training seeds 1 to 10, training text of seed 1 and held-out questions of seed 3, none of them used here: the text where a thought settles ' +
        'the answer was run in full with five seeds, and RPT came out above RLP. The other text was then made. A first run of it compared after 20 steps with five ' +
        'seeds; after that look the comparison moved to 10 steps and the seeds became ten, on the same held-out questions. Families, comparison steps and the ranges of the ' +
        'learning rates come from those runs; they drew the first steps from text without most of the diary, and had other optimizer settings for RLP than for RPT.',
    ],
  };
}

/** Averages over the paper's benchmarks with Qwen3-1.7B-Base as printed, percent (arXiv 2510.01265): before and after post-training. */
const PAPER: readonly [label: string, arm: string, before: number, after: number][] = [
  ['base', 'base', 30.32, 39.34],
  ['CPT', 'cpt', 30.85, 39.9],
  ['RLP', RLP, 36.03, 42.51],
];

/** The paper's table, and ours beside it: means over the families, with a thought. */
export function paperSection([first]: readonly Findings[]): Section {
  const { study, base, scale } = first;
  const before = (arm: string) =>
    percent(arm === 'base' ? overAllQuestions(base) : overall(at(first, arm, scale.stability), 'thinking'));
  const after = (arm: string) => {
    const evaluations = postTrained(first, LAST_STAGE, arm);
    return evaluations.size === 0 ? 'not run' : percent(overall(evaluations, 'thinking'));
  };
  return {
    title: 'Beside the paper',
    text:
      'Qwen3-1.7B-Base on the average of its benchmarks as printed (arXiv 2510.01265), and the tiny model here on the mean of the families of the ' +
      `first text (${study.name}) at the end of each arm: percent, other tasks, another scale. What compares is the order.`,
    table: [
      ['', 'paper', 'here', 'paper, after the same post-training', 'here, after the same post-training'],
      ...PAPER.filter(([, arm]) => arm === 'base' || has(first, arm)).map(([label, arm, printed, later]) => [
        ...[label, printed.toFixed(2), before(arm), later.toFixed(2), after(arm)],
      ]),
    ],
  };
}
