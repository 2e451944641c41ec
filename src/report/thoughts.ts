import { uniform } from '../random.ts';
import { paint } from './paint.ts';
import type { ThoughtRow } from './rollout-statistics.ts';

/** A thought, and how often its group has it. */
export type ShownThought = ThoughtRow & { times?: number };

export interface ThoughtSelection {
  best: ShownThought[];
  worst: ShownThought[];
  random: ShownThought[];
}

/** One of each group's equal thoughts: a model that is sure of a thought writes it many times. */
function distinct(rows: readonly ThoughtRow[]): ShownThought[] {
  const found = new Map<string, ThoughtRow & { times: number }>();
  for (const row of rows) {
    const key = JSON.stringify([row.step, row.documentId, row.position, row.thought, row.reward.toFixed(3)]);
    const before = found.get(key);
    if (before === undefined) found.set(key, { ...row, times: 1 });
    else before.times++;
  }
  return [...found.values()];
}

/**
 * Up to `count` thoughts of each kind, none shown twice: the best paid, the worst paid, and random ones among the rest, the
 * same for the same seed.
 */
export function selectThoughts(all: readonly ThoughtRow[], count: number, seed: number): ThoughtSelection {
  const rows = distinct(all);
  const ranked = rows.filter((row) => Number.isFinite(row.reward)).sort((a, b) => b.reward - a.reward);
  const best = ranked.slice(0, count);
  const worst = ranked
    .slice(best.length)
    .slice(-count || ranked.length)
    .reverse();
  const taken = new Set([...best, ...worst]);
  const random = rows
    .filter((row) => !taken.has(row))
    .map((row, index) => ({ row, key: uniform(seed, 'inspect', index) }))
    .sort((a, b) => a.key - b.key)
    .slice(0, count)
    .map(({ row }) => row);
  return { best, worst, random };
}

/** Text on one line, control characters shown as escapes, the middle (or the start) left out past `limit` characters. */
function oneLine(text: string, limit: number, keep: 'both ends' | 'end'): string {
  const escaped = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"');
  const characters = [...escaped];
  if (characters.length <= limit) return escaped;
  if (keep === 'end') return `…${characters.slice(-limit).join('')}`;
  return `${characters.slice(0, Math.ceil(limit / 2)).join('')} … ${characters.slice(-Math.floor(limit / 2)).join('')}`;
}

const signed = (value: number) => `${value >= 0 ? '+' : ''}${value.toFixed(3)}`;

/** A thought between the text it was thought after and the text it was to predict, with its pay in nats. */
export function formatThought(row: ShownThought, colour: boolean): string {
  const reward = paint(colour, row.reward > 0 ? 'green' : 'red', signed(row.reward));
  const cut = row.finishReason === 'closed' ? '' : `  (${row.finishReason})`;
  const times = (row.times ?? 1) === 1 ? '' : `  ${row.times} times in its group`;
  return [
    `  reward ${reward}  advantage ${signed(row.advantage)}  ${row.documentId} @ ${row.position}  step ${row.step}${cut}${times}`,
    `    ${paint(colour, 'dim', 'text   ')} ${oneLine(row.context, 90, 'end')}`,
    `    ${paint(colour, 'dim', 'thought')} ${oneLine(row.thought, 300, 'both ends')}`,
    `    ${paint(colour, 'dim', 'then   ')} ${oneLine(row.target, 90, 'both ends')}`,
  ].join('\n');
}

/** The selected thoughts under their headings. */
export function formatSelection(selection: ThoughtSelection, colour: boolean): string {
  const sections: [string, ShownThought[]][] = [
    ['Best', selection.best],
    ['Worst', selection.worst],
    ['Random', selection.random],
  ];
  return sections
    .filter(([, rows]) => rows.length > 0)
    .map(([title, rows]) => `${title}\n${rows.map((row) => formatThought(row, colour)).join('\n')}`)
    .join('\n\n');
}
