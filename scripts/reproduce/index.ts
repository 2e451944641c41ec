import { existsSync, writeFileSync } from 'node:fs';
import { mkdir, readFile } from 'node:fs/promises';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { STUDIES } from './plan.ts';
import { type Findings, writeReport } from './report.ts';
import { runStudy } from './study.ts';

/**
 * The paper's claims in small: on each text, every arm starts from one base checkpoint and reads the same.
 *
 *     npm run reproduce -- [--quick] [--out FOLDER]
 *
 * What is done already is not done again: an interrupted experiment goes on where it was.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url));

const { values } = parseArgs({ options: { quick: { type: 'boolean', default: false }, out: { type: 'string' } } });
const scale = values.quick ? 'quick' : 'full';
const out = values.out ?? join(ROOT, 'runs', `reproduce-${scale}`);
const minutes = await stopwatch(join(out, 'minutes.json'));

const findings: Findings[] = [];
for (const study of STUDIES) {
  const onDone = ({ name, seconds }: { name: string; seconds: number }, count: number, total: number) =>
    console.log(
      `${minutes().toFixed(1).padStart(6)} min  ${count}/${total}  ${study.name}/${name}  ${seconds.toFixed(0)} s of training`,
    );
  findings.push(await runStudy(study, study[scale], { out: join(out, study.name), onDone }));
}
await writeReport(join(out, 'report'), findings, {
  ...{ scale, minutes: minutes() },
  machine: `${availableParallelism()} threads of ${cpus()[0].model.trim()}`,
});
console.log(`\nafter ${minutes().toFixed(1)} min: ${join(out, 'report', 'reproduction.md')} and .html`);

/** Minutes of this command and of those before it that were interrupted, kept in a file. */
async function stopwatch(file: string): Promise<() => number> {
  await mkdir(out, { recursive: true });
  const earlier = existsSync(file) ? Number(await readFile(file, 'utf8')) : 0;
  const start = performance.now();
  const minutes = () => earlier + (performance.now() - start) / 60_000;
  setInterval(() => writeFileSync(file, String(minutes())), 5000).unref();
  return minutes;
}
