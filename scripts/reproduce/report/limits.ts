import type { Findings } from '../study.ts';
import { unstable } from './choices.ts';
import { shortfalls } from './claims.ts';
import { listed, share } from './format.ts';
import type { Section } from './page.ts';

/** Base thoughts that add less than this part of what is exact after the right thought leave little to strengthen. */
const WORTHLESS = 0.02;

/** Where RLP does not help, from the numbers alone. */
export function limitsSection(findings: Findings): Section {
  const { study, base, scale } = findings;
  const idle = study.families.filter(({ name, ceiling }) => {
    const { thinking, direct } = base.families[name];
    return thinking - direct < WORTHLESS * ceiling;
  });
  const idleText = idle.map(({ name }) => {
    const { thinking, direct } = base.families[name];
    return `${name} (${share(thinking)} with, ${share(direct)} without)`;
  });
  const rows = shortfalls(findings);
  const collapsed = unstable(findings);
  const tried = [
    ...(scale.ablationSeeds > 0 ? ['"Choices of RLP" (group size, thought length, scaled advantages, KL, tau)'] : []),
    ...(scale.stabilitySeeds > 0 ? ['"What holds" (learning rates, KL, a next-token loss)'] : []),
    ...(scale.learningRates.tried.length > 1 ? ['the sweep of learning rates'] : []),
  ];
  return {
    title: 'Where RLP does not help, and what was tried',
    text: [
      ...(idle.length > 0
        ? [
            `Thoughts of the base that add less than ${100 * WORTHLESS}% of what is exact after the right thought, so that there is little to strengthen: ${listed(idleText)}.`,
          ]
        : []),
      ...(collapsed.length > 0 ? [`Not held to the end: ${collapsed.join('; ')}.`] : []),
      ...(tried.length > 0 ? [`What was tried is in ${listed(tried)}, below.`] : []),
      rows.length > 0
        ? 'Every comparison of the claims in which RLP is not above, exact answers in percent as RLP : other.'
        : 'RLP is above in every comparison of the claims.',
    ],
    ...(rows.length > 0 && { table: [['', 'where', 'not apart', 'below'], ...rows] }),
  };
}
