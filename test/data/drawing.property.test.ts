import { writeFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import { afterAll, describe, expect, it } from 'vitest';
import { Corpus } from '../../src/data/corpus.ts';
import { type Document, documentOf } from '../../src/data/document.ts';
import { type DataCursor, DataLoader } from '../../src/data/loader.ts';
import { type PackedCursor, PackedStream } from '../../src/data/packed-stream.ts';
import type { WeightedCorpus } from '../../src/data/weighted-corpora.ts';
import { UserError } from '../../src/errors.ts';
import { Random } from '../../src/random.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

/** Ways to write rows whose texts are their names. */
const FORMATS: Record<string, (texts: readonly string[]) => string | Buffer> = {
  jsonl: (texts) => texts.map((text) => `${JSON.stringify({ text })}\n`).join(''),
  'jsonl.gz': (texts) => gzipSync(texts.map((text) => JSON.stringify({ text })).join('\n')),
  json: (texts) =>
    JSON.stringify(
      texts.map((text) => ({ text })),
      null,
      1,
    ),
  csv: (texts) => `text\n${texts.map((text) => `"${text}"\n`).join('')}`,
  txt: (texts) => texts.join('\n\n'),
};

/** Random corpora, a buffer, a size of batches, and which rows are of use. */
interface Setup {
  files: string[][];
  texts: string[][];
  weights: number[];
  shuffleBuffer: number;
  seed: number;
  isOfUse: (text: string) => boolean;
  random: Random;
}

function setupOf(number: number): Setup {
  const random = new Random(number, 'drawing');
  const below = (n: number) => random.integer(n);
  const formats = Object.keys(FORMATS);
  const files: string[][] = [];
  const texts: string[][] = [];
  for (let corpus = 0; corpus <= below(3); corpus++) {
    files.push([]);
    texts.push([]);
    for (let file = 0; file <= below(3); file++) {
      const rows = Array.from({ length: 1 + below(corpus === 0 ? 30 : 8) }, (_, i) => `c${corpus}f${file}r${i}`);
      const format = formats[below(formats.length)];
      const path = folder.in(`${number}-${corpus}-${file}.${format}`);
      writeFileSync(path, FORMATS[format](rows));
      files[corpus].push(path);
      texts[corpus].push(...rows);
    }
  }
  const skipped = new Set(below(2) === 0 ? texts.flatMap((rows) => rows.slice(1).filter(() => below(4) === 0)) : []);
  return {
    ...{ files, texts, random },
    weights: files.map(() => 1 + below(9)),
    shuffleBuffer: 1 + below(12),
    seed: below(1000),
    isOfUse: (text) => !skipped.has(text),
  };
}

/** Opens the files anew, as a process does that goes on with a run. */
async function open({ files, weights, shuffleBuffer, seed, isOfUse }: Setup) {
  const corpora: WeightedCorpus<Document>[] = [];
  for (const [i, paths] of files.entries()) {
    const columns = { text: 'text', all: ['text'], txtDocuments: 'paragraph' } as const;
    const corpus = await Corpus.open(paths, { columns, parse: documentOf, onBadRows: 'error' });
    corpora.push({ corpus, weight: weights[i], name: `corpus ${i}` });
  }
  const noneOfUse = () => new UserError('none of use');
  const loader = <U>(prepare: (document: Document) => U | undefined, cursor?: DataCursor) =>
    new DataLoader<Document, U>(corpora, { seed, shuffleBuffer, prepare, noneOfUse, cursor });
  return {
    texts: (cursor?: DataCursor) => loader(({ text }) => (isOfUse(text) ? text : undefined), cursor),
    tokens: (cursor?: DataCursor) =>
      loader(
        ({ id, text }) => (isOfUse(text) ? { id, tokens: Int32Array.from(Buffer.from(text)) } : undefined),
        cursor,
      ),
  };
}

/** What `draw` gives in all, when it is interrupted at random and goes on from a cursor that was JSON. */
async function interrupted<L extends { cursor: unknown }, U>(
  setup: Setup,
  count: number,
  make: (opened: Awaited<ReturnType<typeof open>>, cursor?: unknown) => L,
  draw: (loader: L) => Promise<U>,
): Promise<U[]> {
  const drawn: U[] = [];
  for (let cursor: unknown; drawn.length < count; ) {
    const loader = make(await open(setup), cursor);
    for (let rest = setup.random.integer(12); rest > 0 && drawn.length < count; rest--) drawn.push(await draw(loader));
    // What is drawn beyond the cursor is lost, as in a process that is killed.
    cursor = JSON.parse(JSON.stringify(loader.cursor));
    for (let lost = setup.random.integer(3); lost > 0; lost--) await draw(loader);
  }
  return drawn;
}

const corpusOf = (text: string) => Number(text.slice(1, 2));
const SETUPS = Array.from({ length: 16 }, (_, i) => i);

describe.each(SETUPS)('random data and settings %i', (number) => {
  const setup = setupOf(number);
  const usable = setup.texts.map((texts) => texts.filter(setup.isOfUse));
  const shares = setup.weights.map((weight) => weight / setup.weights.reduce((a, b) => a + b));
  const corpora = usable.length;

  it('one by one: each row once an epoch, corpora by weight, the same when interrupted', async () => {
    const loader = (await open(setup)).texts();
    const count = 100;
    const drawn: string[] = [];
    const counts = shares.map(() => 0);
    for (let n = 1; n <= count; n++) {
      drawn.push(await loader.next());
      counts[corpusOf(drawn[n - 1])]++;
      for (const [i, share] of shares.entries()) {
        // Whose turn it is is behind by at least 1/k of a row, and what is ahead in sum is behind in sum.
        expect(counts[i] - share * n).toBeLessThanOrEqual(1 - 1 / corpora + 1e-9);
        expect(counts[i] - share * n).toBeGreaterThanOrEqual(-(corpora - 1) * (1 - 1 / corpora) - 1e-9);
      }
    }
    for (const [i, rows] of usable.entries()) {
      const own = drawn.filter((text) => corpusOf(text) === i);
      for (let from = 0; from < own.length; from += rows.length) {
        const epoch = own.slice(from, from + rows.length);
        expect(new Set(epoch).size).toBe(epoch.length);
        if (epoch.length === rows.length) expect([...epoch].sort()).toEqual([...rows].sort());
      }
      expect(loader.epochs[i]).toBeGreaterThanOrEqual(Math.floor((own.length - 1) / rows.length));
      expect(loader.epochs[i]).toBeLessThanOrEqual(Math.ceil(own.length / rows.length));
    }
    const make = (opened: Awaited<ReturnType<typeof open>>, cursor?: unknown) => opened.texts(cursor as DataCursor);
    expect(await interrupted(setup, count, make, (resumed) => resumed.next())).toEqual(drawn);
  });

  it('in batches: no row twice in an epoch, corpora by weight, the same when interrupted', async () => {
    // As large as every corpus can give its share of.
    const size = Math.max(1, Math.floor(Math.min(...usable.map((rows, i) => (rows.length - 1) / shares[i]))));
    const loader = (await open(setup)).texts();
    const seen = usable.map(() => new Set<string>());
    const counts = usable.map(() => 0);
    const batches: string[][] = [];
    const possible = usable.every((rows) => rows.length > 1);
    for (let step = 1; possible && step <= 15; step++) {
      const batch = await loader.nextBatch(size);
      batches.push(batch);
      expect(new Set(batch).size).toBe(size);
      for (const [i, rows] of usable.entries()) {
        const own = batch.filter((text) => corpusOf(text) === i);
        counts[i] += own.length;
        // Another epoch begins where too little is left of this one, and not before.
        if (own.some((text) => seen[i].has(text))) {
          expect(rows.length - seen[i].size).toBeLessThan(own.length);
          seen[i].clear();
        } else if (rows.length - seen[i].size < own.length) seen[i].clear();
        for (const text of own) seen[i].add(text);
        expect(Math.abs(counts[i] - shares[i] * size * step)).toBeLessThanOrEqual(Math.max(1, corpora - 1));
      }
    }
    const make = (opened: Awaited<ReturnType<typeof open>>, cursor?: unknown) => opened.texts(cursor as DataCursor);
    expect(await interrupted(setup, batches.length, make, (resumed) => resumed.nextBatch(size))).toEqual(batches);
  });

  it('packed: the same when interrupted', async () => {
    const options = { length: 2 + setup.random.integer(20), eosId: setup.random.integer(2) === 0 ? 0 : undefined };
    const make = ({ tokens }: Awaited<ReturnType<typeof open>>, cursor?: unknown) =>
      new PackedStream(tokens, options, cursor as PackedCursor);
    const whole = await make(await open(setup)).nextBatch(40);
    const parts = await interrupted(setup, 40, make, (blocks) => blocks.nextBatch(1));
    expect(parts.flat()).toEqual(whole);
  });
});
