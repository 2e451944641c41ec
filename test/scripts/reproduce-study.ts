import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Clock } from '../../scripts/reproduce/clock.ts';
import { type Scale, STUDIES } from '../../scripts/reproduce/plan.ts';
import { writeReport } from '../../scripts/reproduce/report/index.ts';
import { runStudies } from '../../scripts/reproduce/study.ts';

/** A study of some seconds that has a job of every kind: npx tsx reproduce-study.ts FOLDER */
const [, study] = STUDIES;
const scale: Scale = {
  ...study.scales.tiny,
  ...{ arms: ['rlp-ema'], seeds: [11], steps: 1, stability: 2, points: [1, 2] },
  learningRates: { tried: [1e-4, 3e-4], above: 1e-3, below: 1e-5 },
  ...{ heldOut: 2, documents: 40 },
  postTraining: {
    ...{ arms: ['rlp-ema'], sftSteps: 1, rlvrSteps: 1, longSeeds: 1, longFactor: 2, longArms: ['rlp-ema'] },
  },
};

const out = process.argv[2];
await mkdir(out, { recursive: true });
const code = 'the code of today';
const clock = await Clock.open(join(out, 'time.json'), code, 1);
const options = { out, code, processes: 1, costs: () => 1, clock, log: console.log };
const findings = await runStudies([{ study, scale }], options);
await writeReport(join(out, 'report'), findings, { scale: 'tiny', machine: 'a machine', code, ...clock.total });
