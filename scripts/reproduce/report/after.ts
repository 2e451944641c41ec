import { RLP, RLP_UNIFORM } from '../arms.ts';
import { type Estimate, estimate } from '../statistics.ts';
import type { Findings } from '../study.ts';
import { POST_TRAINING_STAGES } from '../variants.ts';
import { exactCells, familyNames } from './comparison.ts';
import { compared, nats } from './format.ts';
import type { Section } from './page.ts';
import { armsOf, type BySeed, compare, LAST_STAGE, postTrained, runsOf } from './scores.ts';

export function postTrainingSection(findings: Findings): Section[] {
  const { scale, study } = findings;
  const { arms, sftSteps, rlvrSteps, longSeeds, longFactor } = scale.postTraining;
  if (arms.length === 0) return [];
  const started = [{ name: 'base', label: 'base' }, ...armsOf(findings).filter(({ name }) => arms.includes(name))];
  const stages = [
    ...POST_TRAINING_STAGES.map(({ name }) => ({
      ...{ name, label: name.toUpperCase(), long: false },
    })),
    ...(longSeeds > 0
      ? [{ name: LAST_STAGE, label: `${LAST_STAGE.toUpperCase()}, ${longFactor}x the steps`, long: true }]
      : []),
  ];
  const after = (stage: (typeof stages)[number], arm: string): BySeed =>
    postTrained(findings, stage.name, arm, stage.long);
  return [
    {
      title: 'After the same post-training: exact with a thought',
      text:
        `From the last checkpoint of each arm: ${sftSteps} steps of SFT on other questions with right thoughts, then ${rlvrSteps} steps of RLVR ` +
        '(GRPO, reward 1 for the exact answer), with the same settings for all.' +
        (longSeeds > 0
          ? ` RLP starts it ${scale.steps * scale.stability} steps ahead of the base: with ${longSeeds} seeds RLVR goes on to ${longFactor * rlvrSteps} steps, to see whether ` +
            'the others come up to it.'
          : ''),
      table: [
        ['start', 'stage', ...familyNames(findings)],
        ...stages.flatMap((stage) =>
          started.flatMap(({ name, label }) => {
            const evaluations = after(stage, name);
            return evaluations.size === 0
              ? []
              : [[label, stage.label, ...exactCells(findings, evaluations, 'thinking')]];
          }),
        ),
        ...stages
          .filter(({ name }) => name === LAST_STAGE)
          .flatMap((stage) =>
            started.flatMap(({ name, label }) => {
              const [ours, theirs] = [after(stage, RLP), after(stage, name)];
              if (name === RLP || ours.size === 0 || theirs.size === 0) return [];
              const cells = study.families.map((family) => compared(compare(ours, theirs, family.name)));
              return [[`RLP (EMA) against ${label}`, stage.label, ...cells, '']];
            }),
          ),
      ],
    },
  ];
}

/** Where in a text thinking pays, by what its characters say. */
export function positionsSection(findings: Findings): Section[] {
  const { baseKinds, study, scale } = findings;
  if (baseKinds.length === 0) return [];
  const gains = (arm: string, kind: string): Estimate =>
    estimate(
      [...runsOf(findings, `arms/${arm}`).values()].flatMap(
        ({ kinds = [] }) => kinds.find((one) => one.kind === kind)?.gain ?? [],
      ),
    );
  const arms = armsOf(findings).filter(({ name }) => name === RLP || name === RLP_UNIFORM);
  const total = baseKinds.reduce((sum, { count }) => sum + count, 0);
  const families = study.families.filter(({ kinds }) => kinds !== undefined).map(({ name }) => name);
  return [
    {
      title: `Where in the ${families.join(', ')} thinking pays`,
      text:
        `Thoughts before every character but the first of ${scale.everyPosition} held-out documents: what they are worth to the character that comes, in nats, given that without ` +
        `a thought none is opened, by what the character says; base, and the arms after ${scale.steps * scale.stability} steps.`,
      table: [
        [
          '',
          'share of characters',
          'base, nats without a thought',
          'gain: base',
          ...arms.map(({ label }) => `gain: ${label}`),
        ],
        ...[...baseKinds]
          .sort((a, b) => b.gain - a.gain)
          .map(({ kind, count, surprise, gain }) => [
            ...[kind, `${((100 * count) / total).toFixed(1)}%`, surprise.toFixed(3), gain.toFixed(3)],
            ...arms.map(({ name }) => nats(gains(name, kind))),
          ]),
      ],
    },
  ];
}

export function thoughtSection({ thoughts, scale }: Findings): Section {
  const cell = ({ thought, probability }: { thought: string; probability: number }) =>
    `\`${thought}\` (${(100 * probability).toFixed(0)}%)`;
  return {
    title: 'Thoughts before and after',
    text: `The first thought at the first held-out questions of each family; in brackets the probability of the exact answer after it.`,
    table: [
      [
        'before the answer',
        'answer',
        'base',
        `RLP after ${scale.steps * scale.stability} steps, seed ${scale.seeds[0]}`,
      ],
      ...thoughts.map(({ context, answer, before, after }) => [`\`${context}\``, answer, cell(before), cell(after)]),
    ],
  };
}
