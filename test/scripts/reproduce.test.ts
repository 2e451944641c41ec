import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { lineChart } from '../../scripts/reproduce/charts.ts';
import type { Evaluation } from '../../scripts/reproduce/evaluate.ts';
import { baseDocuments, type Family, OPEN, rawDocuments, SETTLED, splitOf } from '../../scripts/reproduce/families.ts';
import type { JobResult } from '../../scripts/reproduce/job.ts';
import {
  ABLATIONS,
  armContext,
  armsOf,
  flopsOf,
  POST_TRAINING_STAGES,
  STABILITY,
  STUDIES,
} from '../../scripts/reproduce/plan.ts';
import { type Findings, writeReport } from '../../scripts/reproduce/report.ts';
import { estimate, isAbove, verdict } from '../../scripts/reproduce/statistics.ts';
import { Random } from '../../src/random.ts';

const swapped = (start: string, swaps: string): string => {
  const swap = (place: string, [a, b]: string) => (place === a ? b : place === b ? a : place);
  return swaps.trim().split(' ').reduce(swap, start);
};

/** The last steps again, read from the text alone. */
const SOLVERS: Record<string, (question: string) => string> = {
  sums: (question) => String([...question.slice(0, -1)].reduce((sum, digit) => sum + Number(digit), 0) % 10),
  words: (question) => {
    const value = (word: string) =>
      ['zero', 'one', 'two', 'three', 'four', 'five', 'six', 'seven', 'eight', 'nine'].indexOf(word);
    const [first, ...rest] = question.trim().split(' ').slice(0, -1);
    let total = value(first);
    for (let i = 0; i < rest.length; i += 2) total += (rest[i] === 'plus' ? 1 : -1) * value(rest[i + 1]);
    return String(((total % 10) + 10) % 10);
  },
  cups: (question) => {
    const [, start, swaps] = /^ball (.):(.*) > $/.exec(question) ?? [];
    return swapped(start, swaps);
  },
  boxes: (question) => String([...question.slice(0, -1)].reduce((sum, digit) => sum + Number(digit), 0) % 5),
  drawers: (question) => {
    const [, start, swaps] = /^from (.):(.*) > $/.exec(question) ?? [];
    return swapped(start, swaps);
  },
  diary: (question) => {
    const [, first, changes] = /had (\d) \w+, (.*)\. Now/.exec(question) ?? [];
    return changes.split(', ').reduce((have, change) => {
      const by = Number(change.slice(-1));
      return String(Number(have) + (/found|got|bought/.test(change) ? by : -by));
    }, first);
  },
};

describe.each([...SETTLED, ...OPEN].map((family): [string, Family] => [family.name, family]))('%s', (name, family) => {
  it('has the right steps, and an answer that fits the last one', () => {
    const random = new Random(3, 'test');
    for (let i = 0; i < 200; i++) {
      const { question, steps, answer } = family.example(random);
      const last = SOLVERS[name](question);
      expect(steps.endsWith(last), question).toBe(true);
      if (family.ceiling === 1) expect(answer).toBe(last);
      // Ten letters in a row, of the place where the steps end.
      else expect(Math.floor(family.answers.indexOf(answer) / 10)).toBe(family.values.indexOf(last));
      expect([...steps].every((step) => family.values.includes(step))).toBe(true);
      expect(family.answers).toContain(answer);
    }
  });

  it('marks the answer, shows no thought, and keeps what is held out away from training', () => {
    for (const split of ['train', 'held-out'] as const) {
      for (const { text, positions, prompt, answer } of rawDocuments(1, family, 50, split)) {
        expect(text.slice(positions[0], positions[0] + 1)).toBe(answer);
        expect(text.startsWith(prompt)).toBe(true);
        expect(text).not.toContain('think');
        expect(splitOf(prompt)).toBe(split);
      }
    }
  });
});

it('mixes thoughts of both qualities into the text of the base model', () => {
  const documents = baseDocuments(1, SETTLED, 4000, { thoughts: 0.8, goodThoughts: 0.5 });
  const thinking = documents.filter((text) => text.includes('<think>'));
  const right = thinking.filter((text) => {
    const [question, , answer] = text.split(/<\/?think>/);
    const family = SETTLED[documents.indexOf(text) % SETTLED.length].name;
    return answer.startsWith(SOLVERS[family](question));
  });
  expect(thinking.length / documents.length).toBeCloseTo(0.8, 1);
  // Half are right on purpose, an eighth of the others by chance.
  expect(right.length / thinking.length).toBeCloseTo(0.5 + 0.5 * 0.125, 1);
});

describe('estimates', () => {
  it('are a mean and a t interval', () => {
    // 1, 2, 3, 4, 5: deviation sqrt(2.5), t(4) = 2.776
    const { mean, halfWidth } = estimate([1, 2, 3, 4, 5]);
    expect(mean).toBe(3);
    expect(halfWidth).toBeCloseTo((2.776 * Math.sqrt(2.5)) / Math.sqrt(5), 12);
    expect(estimate([7]).halfWidth).toBeNaN();
  });

  it('are apart only when their intervals are', () => {
    const of = (mean: number, halfWidth: number) => ({ mean, halfWidth, values: [] });
    expect(isAbove(of(2, 0.4), of(1, 0.5))).toBe(true);
    expect(isAbove(of(2, 0.5), of(1, 0.5))).toBe(false);
    expect(isAbove(of(2, Number.NaN), of(1, 0.1))).toBe(false);
    expect(verdict(of(2, 0.4), of(1, 0.5))).toBe('above');
    expect(verdict(of(1, 0.5), of(2, 0.4))).toBe('below');
    expect(verdict(of(2, 0.5), of(1, 0.5))).toBe('overlap');
  });
});

const [settled, open] = STUDIES;
const FULL = settled.full;

describe('compute', () => {
  const context = armContext(FULL, 20, 1000);

  it("is matched by the paper's formula", () => {
    // 8 thoughts of 10 tokens for each of 16 documents of 20 tokens: (1280 + 320) / 320
    expect(context).toMatchObject({ tokensPerStep: 320, flopFactor: 5 });
  });

  it('counts six a parameter for trained tokens, two for sampled ones and for the two passes before them', () => {
    expect(flopsOf({ trainedTokens: 100, sampledTokens: 0 }, 7, context)).toBe(6 * 100 * 1000);
    expect(flopsOf({ trainedTokens: 100, sampledTokens: 50 }, 1, context)).toBe(1000 * (600 + 2 * (50 + 640)));
  });
});

describe('the report', () => {
  /** An evaluation in which everything of a family is `share`. */
  const evaluation = (families: readonly Family[], share: number): Evaluation => ({
    families: Object.fromEntries(
      families.map(({ name }) => [
        name,
        { thinking: share, direct: share / 2, opens: 0.5, gain: 1, thoughtTokens: 6, unclosed: 0 },
      ]),
    ),
    textCrossEntropy: 0.5,
  });

  /** A study in which RLP reaches `rlp`, the others 0.3, all a little more with the seed; one setting falls at the end. */
  function findings(study: (typeof STUDIES)[number], rlp: number): Findings {
    const scale = study.full;
    const { seeds, steps, stability, postTraining, ablationSeeds, stabilitySeeds } = scale;
    const result = (name: string, shares: readonly number[]): [string, JobResult] => [
      name,
      {
        ...{ name, checkpoint: '', trainedTokens: 1000, sampledTokens: 0, seconds: 1 },
        curve: shares.map((share, i) => ({ step: (i + 1) * steps, evaluation: evaluation(study.families, share) })),
      },
    ];
    const share = (name: string, seed: number) => (name === 'rlp-ema' ? rlp : 0.3) + seed / 1000;
    return {
      ...{ study, scale, context: armContext(scale, 20, 1000), base: evaluation(study.families, 0.25) },
      rates: new Map(armsOf(scale).map(({ name }) => [name, 1e-4])),
      results: new Map([
        ...armsOf(scale).flatMap(({ name }) =>
          seeds.map((seed) => result(`arms/${name}/${seed}`, Array(stability).fill(share(name, seed)))),
        ),
        ...POST_TRAINING_STAGES.flatMap((stage) =>
          ['base', ...postTraining.arms].flatMap((name) =>
            seeds.map((seed) => result(`post-training/${stage.name}/${name}/${seed}`, [share(name, seed)])),
          ),
        ),
        ...ABLATIONS.flatMap(({ name }) => ablationSeeds.map((seed) => result(`ablations/${name}/${seed}`, [0.6]))),
        ...STABILITY.flatMap(({ name }, i) =>
          stabilitySeeds.map((seed) => result(`stability/${name}/${seed}`, i === 1 ? [0.9, 0.8] : [0.9, 0.86])),
        ),
      ]),
      thoughts: [
        {
          ...{ context: 'a<b', answer: '|' },
          ...{ before: { thought: '1', probability: 0.5 }, after: { thought: '2', probability: 1 } },
        },
      ],
    };
  }

  async function write(): Promise<{ markdown: string; html: string }> {
    const folder = await mkdtemp(join(tmpdir(), 'reproduce-'));
    const how = { scale: 'full', machine: 'a machine', minutes: 7 } as const;
    await writeReport(folder, [findings(settled, 0.8), findings(open, 0.3)], how);
    const read = (name: string) => readFile(join(folder, name), 'utf8');
    const texts = { markdown: await read('reproduction.md'), html: await read('reproduction.html') };
    expect(JSON.parse(await read('reproduction.json'))).toMatchObject({
      minutes: 7,
      studies: [{ name: 'settled', rates: { cpt: 1e-4 } }, { name: 'open' }],
    });
    await rm(folder, { recursive: true });
    return texts;
  }

  it('shows means with their intervals, and what is apart', async () => {
    const { markdown } = await write();
    // seeds 1 to 5: 2.776 * sqrt(2.5) / sqrt(5) thousandths
    expect(markdown).toContain('| RLP, EMA baseline | 80.3 ± 0.2 |');
    expect(markdown).toContain('| CPT, same input tokens | above (80.3 ± 0.2 : 30.3 ± 0.2) |');
    expect(markdown).toContain('| RLP (EMA) against base | RLVR | above (80.3 ± 0.2 : 30.3 ± 0.2) |');
    expect(markdown).toContain('| learning rate 0.0003 | 90.0 | 80.0 | 0.500 | collapses |');
    expect(markdown).toContain('| learning rate 0.0001 | 90.0 | 86.0 | 0.500 | holds |');
    expect(markdown).not.toMatch(/NaN|undefined/);
  });

  it('says of each claim where it holds, where it does not, and where it was not tested', async () => {
    const { markdown } = await write();
    expect(markdown).toContain('| above RPT | above: sums, words, cups, diary | overlap: boxes, drawers |');
    expect(markdown).toMatch(/\| above CPT .* after the same post-training \| above: sums.* \| not run \|/);
  });

  it('is a page that needs no network, with its text escaped', async () => {
    const { html } = await write();
    expect(html).not.toMatch(/<script|<link|src=|href="http/);
    expect(html).toContain('<code>a&lt;b</code>');
    expect(html.match(/<svg role="img" aria-label="/g)).toHaveLength(SETTLED.length + OPEN.length);
  });
});

it('draws lines and bands as SVG', () => {
  const points = [
    { x: 0, y: 0.1, halfWidth: 0 },
    { x: 10, y: 0.9, halfWidth: 0.1 },
  ];
  const svg = lineChart([{ label: 'an arm', points }], {
    title: 'a family',
    xName: 'steps',
    yName: 'p',
    range: [0, 1],
  });
  expect(svg).toMatch(/^<svg/);
  for (const text of ['an arm', 'a family', 'steps']) expect(svg).toContain(text);
  expect(svg).toContain('fill-opacity="0.15"');
});
