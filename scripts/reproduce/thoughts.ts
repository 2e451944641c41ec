import { readRollouts } from '../../src/arrow.ts';
import type { RolloutRecord } from '../../src/records.ts';

interface Thought {
  thought: string;
  /** Of the exact answer after it. */
  probability: number;
}

/** What was thought at one position before and after training. */
export interface ThoughtSample {
  context: string;
  answer: string;
  before: Thought;
  after: Thought;
}

/** The first thought at the first `count` questions of every family, in two files of the same questions. */
export async function compareThoughts(before: string, after: string, count: number): Promise<ThoughtSample[]> {
  const [old, young] = [await firstThoughts(before), await firstThoughts(after)];
  const shown = new Map<string, number>();
  const samples: ThoughtSample[] = [];
  for (const [id, row] of old) {
    const family = id.split('-')[0];
    const seen = shown.get(family) ?? 0;
    const later = young.get(id);
    if (seen >= count || later === undefined) continue;
    shown.set(family, seen + 1);
    samples.push({ context: row.context, answer: row.target, before: thought(row), after: thought(later) });
  }
  return samples;
}

async function firstThoughts(file: string): Promise<Map<string, RolloutRecord>> {
  const rows = new Map<string, RolloutRecord>();
  for await (const batch of await readRollouts(file)) {
    for (const row of batch) if (row.rollout === 0) rows.set(row.documentId, row);
  }
  return rows;
}

const thought = ({ thought: text, reasonedLogProbs }: RolloutRecord): Thought => ({
  thought: text,
  probability: Math.exp(reasonedLogProbs.reduce((a, b) => a + b, 0)),
});
