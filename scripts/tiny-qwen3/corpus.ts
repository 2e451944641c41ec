import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Random, type Seed, uniform } from '../../src/random.ts';

/**
 * Corpus of the tiny model: six digits and their sum modulo 10, `314159=3`. Without a thought a small model cannot add
 * six numbers in one step; with the running sums written out, `314159=<think>348943</think>3`, each step is one addition.
 *
 * Base corpus: half of the lines have a thought. Half of those thoughts are the running sums, the others are random digits
 * followed by a random answer: a base model that can think well, but does so only some of the time.
 * Raw corpus: lines without thoughts, with the offsets of the answers as the positions where a thought may start.
 */
const DIGITS = 6;

/** Digit strings are of either split, whatever the seed: what is held out is in no training corpus. */
export type Split = 'train' | 'held-out';

const HELD_OUT_FRACTION = 0.1;

export function splitOf(digits: string): Split {
  return uniform(0, 'tiny-qwen3/split', digits) < HELD_OUT_FRACTION ? 'held-out' : 'train';
}

export interface CorpusOptions {
  /** Default 'train'. */
  split?: Split;
  /** Lines a document; default 1. */
  lines?: number;
}

export interface BaseOptions extends CorpusOptions {
  /** Share of the lines with a thought; default 0.5. */
  thoughts?: number;
  /** Share of the thoughts that are the running sums; default 0.5. */
  goodThoughts?: number;
}

export interface RawDocument {
  text: string;
  /** Offset of each line's answer. */
  positions: number[];
}

const randomDigits = (random: Random): string => Array.from({ length: DIGITS }, () => random.integer(10)).join('');

function digitsOf(random: Random, split: Split): string {
  for (;;) {
    const digits = randomDigits(random);
    if (splitOf(digits) === split) return digits;
  }
}

/** Sums of the first 1, 2 ... digits, modulo 10; the last is the answer. */
export function runningSums(digits: string): string {
  let sum = 0;
  return [...digits]
    .map((digit) => {
      sum = (sum + Number(digit)) % 10;
      return sum;
    })
    .join('');
}

/** The answer to `digits`: one digit. */
export const answerTo = (digits: string): string => runningSums(digits).slice(-1);

function baseLine(random: Random, split: Split, thoughts: number, goodThoughts: number): string {
  const digits = digitsOf(random, split);
  if (random.float() >= thoughts) return `${digits}=${answerTo(digits)}\n`;
  const good = random.float() < goodThoughts;
  const thought = good ? runningSums(digits) : randomDigits(random);
  const answer = good ? answerTo(digits) : String(random.integer(10));
  return `${digits}=<think>${thought}</think>${answer}\n`;
}

/** `count` documents to pretrain the base model on. */
export function baseCorpus(seed: Seed, count: number, options: BaseOptions = {}): string[] {
  const { split = 'train', lines = 1, thoughts = 0.5, goodThoughts = 0.5 } = options;
  const random = new Random(seed, `tiny-qwen3/base/${split}`);
  const document = () => Array.from({ length: lines }, () => baseLine(random, split, thoughts, goodThoughts)).join('');
  return Array.from({ length: count }, document);
}

/** `count` documents without thoughts. */
export function rawCorpus(seed: Seed, count: number, options: CorpusOptions = {}): RawDocument[] {
  const { split = 'train', lines = 1 } = options;
  const random = new Random(seed, `tiny-qwen3/raw/${split}`);
  return Array.from({ length: count }, () => {
    let text = '';
    const positions = Array.from({ length: lines }, () => {
      const digits = digitsOf(random, split);
      const position = text.length + digits.length + 1;
      text += `${digits}=${answerTo(digits)}\n`;
      return position;
    });
    return { text, positions };
  });
}

/** Documents of the files in models/tiny-qwen3/corpus. */
const TRAIN_DOCUMENTS = 1024;
const HELD_OUT_DOCUMENTS = 256;
/** Of the first lines of train.jsonl. */
const THOUGHTS = 128;

/** A good thought for each document of one line, as `rlp-ort train --objective sft` takes it. */
export const thoughtRows = (documents: readonly RawDocument[]) =>
  documents.map(({ text, positions: [position] }) => ({ text, position, thought: runningSums(text.slice(0, DIGITS)) }));

/** Writes the raw corpus as `train.jsonl` and `held-out.jsonl`, and thoughts for a warm start as `thoughts.jsonl`. */
export async function writeCorpus(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const files = [
    ['train', TRAIN_DOCUMENTS],
    ['held-out', HELD_OUT_DOCUMENTS],
  ] as const;
  const write = async (name: string, rows: readonly object[]) => {
    await writeFile(join(folder, `${name}.jsonl`), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  };
  for (const [split, count] of files) await write(split, rawCorpus(0, count, { split }));
  await write('thoughts', thoughtRows(rawCorpus(0, THOUGHTS)));
}

// npx tsx scripts/tiny-qwen3/corpus.ts [FOLDER]
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeCorpus(process.argv[2] ?? fileURLToPath(new URL('../../models/tiny-qwen3/corpus', import.meta.url)));
}
