import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import {
  answerTo,
  baseCorpus,
  rawCorpus,
  runningSums,
  splitOf,
  writeCorpus,
} from '../../../scripts/tiny-qwen3/corpus.ts';
import { writeTokenizer } from '../../../scripts/tiny-qwen3/make-tokenizer.ts';
import { temporaryFolder } from '../../export/checkpoint-fixture.ts';

const LINE = /^(\d{6})=(?:<think>(\d{6})<\/think>)?(\d)$/;

function parse(text: string) {
  expect(text.endsWith('\n')).toBe(true);
  return text
    .slice(0, -1)
    .split('\n')
    .map((line) => {
      const [, digits = '', thought, answer] = LINE.exec(line) ?? [];
      return { digits, thought, answer, right: answer === answerTo(digits), good: thought === runningSums(digits) };
    });
}

describe('running sums', () => {
  it('add digits modulo 10', () => {
    expect(runningSums('314159')).toBe('348943');
    expect(answerTo('314159')).toBe('3');
  });
});

describe('baseCorpus', () => {
  const lines = baseCorpus(1, 1000, { lines: 2 }).flatMap(parse);

  it('has a thought in half of the lines; without one the answer is right', () => {
    const raw = lines.filter(({ thought }) => thought === undefined);
    expect(lines).toHaveLength(2000);
    expect(Math.abs(raw.length - 1000)).toBeLessThan(100);
    expect(raw.every(({ right }) => right)).toBe(true);
  });

  it('has good thoughts in half of those, and answers at random after the others', () => {
    const thoughts = lines.filter(({ thought }) => thought !== undefined);
    const good = thoughts.filter((line) => line.good);
    const poor = thoughts.filter((line) => !line.good);
    expect(Math.abs(good.length / thoughts.length - 0.5)).toBeLessThan(0.08);
    expect(good.every(({ right }) => right)).toBe(true);
    expect(Math.abs(poor.filter(({ right }) => right).length / poor.length - 0.1)).toBeLessThan(0.06);
  });
});

describe('rawCorpus', () => {
  it('marks the answers', () => {
    for (const { text, positions } of rawCorpus(1, 20, { lines: 3 })) {
      const lines = parse(text);
      expect(positions.map((position) => text[position])).toEqual(lines.map(({ answer }) => answer));
      expect(lines.every(({ right, thought }) => right && thought === undefined)).toBe(true);
    }
  });

  it('depends on the seed', () => {
    expect(rawCorpus(1, 5)).toEqual(rawCorpus(1, 5));
    expect(rawCorpus(1, 5)).not.toEqual(rawCorpus(2, 5));
  });
});

describe('splits', () => {
  it('are disjoint, and a tenth is held out', () => {
    const digits = (texts: string[]) => texts.flatMap(parse).map((line) => line.digits);
    const train = digits([...baseCorpus(1, 300), ...rawCorpus(2, 300).map(({ text }) => text)]);
    const heldOut = digits(rawCorpus(2, 300, { split: 'held-out' }).map(({ text }) => text));
    expect(train.every((string) => splitOf(string) === 'train')).toBe(true);
    expect(heldOut.every((string) => splitOf(string) === 'held-out')).toBe(true);
    const all = Array.from({ length: 5000 }, (_, i) => String(i * 199).padStart(6, '0'));
    expect(Math.abs(all.filter((string) => splitOf(string) === 'held-out').length - 500)).toBeLessThan(90);
  });
});

describe('committed files', () => {
  it('are what the scripts write', async () => {
    using folder = temporaryFolder();
    await writeCorpus(folder.in('corpus'));
    await writeTokenizer(folder.path);
    for (const name of [
      'corpus/train.jsonl',
      'corpus/held-out.jsonl',
      'corpus/thoughts.jsonl',
      'tokenizer.json',
      'tokenizer_config.json',
    ]) {
      const committed = new URL(`../../../models/tiny-qwen3/${name}`, import.meta.url);
      expect(readFileSync(folder.in(name), 'utf8')).toBe(readFileSync(committed, 'utf8'));
    }
  });
});
