import { copyFile, mkdir } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Clock, readCosts } from './clock.ts';
import { codeHash } from './fingerprint.ts';
import { STUDIES } from './plan.ts';
import { writeReport } from './report/index.ts';
import { runStudies } from './study.ts';

/**
 * The paper's claims in small: on each text, every arm starts from one base checkpoint and reads the same.
 *
 *     npm run reproduce -- [--quick | --tiny] [--out FOLDER] [--docs]
 *
 * What is done already, by the same code, is not done again: an interrupted experiment goes on where it was. --docs also writes the
 * report to docs/results.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const DOCS = join(ROOT, 'docs', 'results');

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    tiny: { type: 'boolean', default: false },
    out: { type: 'string' },
    docs: { type: 'boolean', default: false },
  },
});
const scale = values.tiny ? 'tiny' : values.quick ? 'quick' : 'full';
const out = values.out ?? join(ROOT, 'runs', `reproduce-${scale}`);
await mkdir(out, { recursive: true });
const processes = availableParallelism();
const code = await codeHash();
const clock = await Clock.open(join(out, 'time.json'), code, processes);
const costs = await readCosts(join(DOCS, 'reproduction.json'));

const findings = await runStudies(
  STUDIES.map((study) => ({ study, scale: study.scales[scale] })),
  { out, code, processes, costs, clock, log: console.log },
);
const report = join(out, 'report');
await writeReport(report, findings, {
  ...{ scale, ...clock.total, code },
  machine: `${processes} threads of ${cpus()[0].model.trim()}`,
});
if (values.docs) {
  for (const name of ['md', 'html', 'json']) {
    await copyFile(join(report, `reproduction.${name}`), join(DOCS, `reproduction.${name}`));
  }
}
console.log(`\nafter ${clock.total.minutes.toFixed(1)} min: ${join(report, 'reproduction.md')}, .html and .json`);
