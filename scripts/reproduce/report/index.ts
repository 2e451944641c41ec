import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Evaluation } from '../evaluate.ts';
import type { JobResult } from '../job.ts';
import type { Findings } from '../study.ts';
import { positionsSection, postTrainingSection, thoughtSection } from './after.ts';
import { ablationSection, frozenText, stabilitySection } from './choices.ts';
import { claimSection } from './claims.ts';
import { comparisonSections, curveSection, familySection } from './comparison.ts';
import { costSection, rateSection } from './cost.ts';
import { type Circumstances, declaredSection, introduction, paperSection } from './introduction.ts';
import { limitsSection } from './limits.ts';
import { html, markdown, type Section } from './page.ts';

/** Writes reproduction.md, reproduction.html and reproduction.json. */
export async function writeReport(folder: string, findings: readonly Findings[], how: Circumstances): Promise<void> {
  const sections = [
    introduction(findings, how),
    claimSection(findings),
    declaredSection(findings),
    paperSection(findings),
    ...findings.flatMap(describe),
  ];
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'reproduction.md'), markdown(sections));
  await writeFile(join(folder, 'reproduction.html'), html(sections));
  await writeFile(join(folder, 'reproduction.json'), rawJson(findings, how));
}

/** The sections of a study, under its heading. */
function describe(findings: Findings): Section[] {
  const frozen = frozenText(findings);
  const sections: Section[] = [
    familySection(findings),
    limitsSection(findings),
    ...comparisonSections(findings),
    curveSection(findings),
    ...postTrainingSection(findings),
    ...positionsSection(findings),
    thoughtSection(findings),
    ...ablationSection(findings),
    ...(frozen.length > 0 ? [{ title: 'Frozen and EMA baseline', text: frozen }] : []),
    ...stabilitySection(findings),
    costSection(findings),
    rateSection(findings),
    { title: 'What is fair and what is not', text: findings.study.fairness },
  ];
  return sections.map((section) => ({ level: 3, ...section }));
}

/**
 * All evaluations, a job a line. Probabilities of the single questions, in thousandths, are kept of what is compared: the arms and what
 * post-training made of them.
 */
function rawJson(findings: readonly Findings[], how: Circumstances): string {
  const evaluation = ({ families, ...text }: Evaluation, withQuestions: boolean) => ({
    ...text,
    families: Object.fromEntries(
      Object.entries(families).map(([name, { questions, ...figures }]) => {
        const thousandths = questions.map((probability) => Math.round(1000 * probability));
        return [name, { ...figures, ...(withQuestions && { questions: thousandths }) }];
      }),
    ),
  });
  const job = ({ checkpoint: _local, curve, ...result }: JobResult) => {
    const compared = /^(arms|post-training)\//.test(result.name);
    return {
      ...result,
      curve: curve.map((point) => ({ ...point, evaluation: evaluation(point.evaluation, compared) })),
    };
  };
  const studies = findings.map(({ study, results, rates, base, ...rest }) => {
    const jobs = [...results].sort(([a], [b]) => (a < b ? -1 : 1));
    const lines = jobs.map(([name, result]) => `${JSON.stringify(name)}: ${JSON.stringify(job(result))}`);
    const known = { name: study.name, ...rest, base: evaluation(base, true), rates: Object.fromEntries(rates) };
    return `${JSON.stringify(known).slice(0, -1)}, "results": {\n${lines.join(',\n')}\n}}`;
  });
  return `${JSON.stringify(how).slice(0, -1)}, "studies": [\n${studies.join(',\n')}\n]}\n`;
}
