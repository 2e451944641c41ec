import {
  bestOfGroupFactor,
  DOCUMENTS_PER_STEP,
  flopFactor,
  flopsOf,
  GROUP_SIZE,
  MAX_THOUGHT_TOKENS,
  RLP,
} from '../arms.ts';
import type { JobResult } from '../job.ts';
import { SWEEP_POINT } from '../jobs.ts';
import { mean } from '../statistics.ts';
import type { Findings } from '../study.ts';
import { share } from './format.ts';
import type { Section } from './page.ts';
import { armsOf, runsOf } from './scores.ts';

export function costSection(findings: Findings): Section {
  const { context } = findings;
  return {
    title: 'Cost',
    text: [
      `Every arm takes ${DOCUMENTS_PER_STEP} documents a step: input tokens are those of the documents. CPT trains on them and the token that ends each; the arms ` +
        'that think read them up to where they think, and training on the answers reads up to the answers. Trained tokens count a shared prefix once. FLOPs ' +
        'are counted from what was run: 2 a parameter and token forward, 4 backward. Seconds are of the training loop: the median step times the steps.',
      `*Same FLOPs* of CPT is the paper's formula, ${flopFactor(context).toFixed(2)} times the input tokens here (G = ${GROUP_SIZE}, thoughts of at most ` +
        `${MAX_THOUGHT_TOKENS} tokens); training on the best thought takes ${bestOfGroupFactor(context).toFixed(2)} times the steps, by the mean thought of the base. ` +
        "AdamW has the same settings for all arms that think (RPT's, RLP's being open) and for all that do not (the paper's of CPT).",
    ],
    table: [
      [
        ...['arm', 'beta2, weight decay', 'steps', 'thousand input tokens', 'trained', 'sampled'],
        ...['TFLOP', 'of that of RLP', 'seconds (one thread)'],
      ],
      ...armsOf(findings).map(({ name, label, settings }) => {
        const { runs, steps, tflop } = costOf(findings, name);
        const figure = (of: (run: JobResult) => number, unit: number, digits: number) =>
          (mean(runs.map(of)) / unit).toFixed(digits);
        return [
          ...[label, `${settings.beta2}, ${settings.weightDecay}`, String(steps)],
          ((steps * DOCUMENTS_PER_STEP * context.documentTokens) / 1e3).toFixed(1),
          figure((run) => run.trainedTokens, 1e3, 0),
          figure((run) => run.sampledTokens, 1e3, 0),
          ...[tflop.toFixed(2), `${(100 * (tflop / costOf(findings, RLP).tflop)).toFixed(0)}%`],
          figure((run) => run.seconds, 1, 0),
        ];
      }),
    ],
  };
}

function costOf(findings: Findings, arm: string): { runs: JobResult[]; steps: number; tflop: number } {
  const runs = [...runsOf(findings, `arms/${arm}`).values()];
  const steps = runs[0]?.curve.at(-1)?.step ?? 0;
  return { runs, steps, tflop: mean(runs.map((run) => flopsOf(run, steps, findings.context))) / 1e12 };
}

/** What every arm's sweep came to. */
export function rateSection(findings: Findings): Section {
  const { scale, rates } = findings;
  const { tried, below, above } = scale.learningRates;
  const title = 'Learning rates';
  if (tried.length === 1) {
    return { title, text: `The same for all arms here, ${tried[0]}; the full experiment chooses one for each.` };
  }
  const all = [below, ...tried, above].filter((rate) => rate !== undefined);
  return {
    title,
    text:
      `One seed of its own, validation questions of their own: the mean over the families of the better of exact with and without a thought, percent, ` +
      `after ${Math.min(SWEEP_POINT, scale.stability) * scale.steps} steps of RLP (35x: after ${scale.steps}). Every arm tries ${tried.join(', ')}; where the lowest or the highest is the best, ${below} or ${above}, too. In ` +
      'brackets what was chosen; *edge*: nothing beyond it was tried. A frozen baseline has the weights of the EMA and its rate.',
    table: [
      ['arm', ...all.map(String), ''],
      ...armsOf(findings).map(({ name, label }) => {
        const { chosen, scores } = rates.get(name) ?? { chosen: Number.NaN, scores: [] };
        const edge = chosen === scores[0]?.rate || chosen === scores.at(-1)?.rate;
        const cells = all.map((rate) => {
          const found = scores.find((score) => score.rate === rate);
          if (found === undefined) return '';
          return rate === chosen ? `[${share(found.worth)}]` : share(found.worth);
        });
        return [label, ...cells, edge ? 'edge' : ''];
      }),
    ],
  };
}
