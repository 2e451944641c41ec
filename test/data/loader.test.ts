import { appendFileSync, copyFileSync, utimesSync, writeFileSync } from 'node:fs';
import { beforeEach, describe, expect, it } from 'vitest';
import { Corpus, type CorpusOptions } from '../../src/data/corpus.ts';
import { type Document, documentOf } from '../../src/data/document.ts';
import { type DataCursor, DataLoader, type LoaderOptions } from '../../src/data/loader.ts';
import { PackedStream } from '../../src/data/packed-stream.ts';
import type { WeightedCorpus } from '../../src/data/weighted-corpora.ts';
import { UserError } from '../../src/errors.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { goldenPath } from '../golden/golden.ts';
import { collect } from './fixture.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

const OPTIONS: CorpusOptions<Document> = {
  columns: { text: 'text', all: ['text', 'id', 'positions'] },
  parse: (row) => documentOf(row),
  onBadRows: 'error',
};

/** A .jsonl whose rows are named NAME0, NAME1, ... */
function rowsFile(name: string, count: number): string {
  const path = folder.in(`${name}.jsonl`);
  const rows = Array.from({ length: count }, (_, i) => ({ text: `${name} ${i}`, id: `${name}${i}` }));
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

const corpusOf = (...paths: string[]) => Corpus.open(paths, OPTIONS);
const alone = async (...paths: string[]): Promise<WeightedCorpus<Document>[]> => [
  { corpus: await corpusOf(...paths), weight: 1, name: 'all' },
];

function loaderOf(corpora: readonly WeightedCorpus<Document>[], more: Partial<LoaderOptions<Document, string>> = {}) {
  return new DataLoader(corpora, {
    ...{ seed: 3, shuffleBuffer: 100, prepare: ({ id }) => id, noneOfUse: () => new UserError('none of use') },
    ...more,
  });
}

const draw = async (loader: { next: () => Promise<string> }, count: number) => {
  const drawn: string[] = [];
  for (let i = 0; i < count; i++) drawn.push(await loader.next());
  return drawn;
};
const sorted = (values: readonly string[]) => [...values].sort();
const ids = (name: string, count: number) => Array.from({ length: count }, (_, i) => `${name}${i}`);

describe('DataLoader', () => {
  it.each([100, 10, 4, 3, 1])(
    'gives every row once an epoch, in another order each (buffer %i)',
    async (shuffleBuffer) => {
      const corpora = await alone(rowsFile('a', 7), rowsFile('b', 3));
      const loader = loaderOf(corpora, { shuffleBuffer });
      const epochs = [await draw(loader, 10), await draw(loader, 10), await draw(loader, 10)];
      for (const epoch of epochs) expect(sorted(epoch)).toEqual(sorted([...ids('a', 7), ...ids('b', 3)]));
      expect(new Set(epochs.map(String)).size).toBeGreaterThan(1);
      expect(loader.epochs).toEqual([3]);
      // Another seed, another order; the same seed, the same.
      expect(await draw(loaderOf(corpora, { shuffleBuffer }), 30)).toEqual(epochs.flat());
      expect(await draw(loaderOf(corpora, { shuffleBuffer, seed: 4 }), 30)).not.toEqual(epochs.flat());
    },
  );

  it('keeps rows within a block of the buffer together', async () => {
    const loader = loaderOf(await alone(rowsFile('a', 12)), { shuffleBuffer: 5 });
    const epoch = await draw(loader, 12);
    expect(sorted(epoch.slice(0, 5))).toEqual(sorted(ids('a', 5)));
    expect(sorted(epoch.slice(5, 10))).toEqual(sorted(['a5', 'a6', 'a7', 'a8', 'a9']));
  });

  it('shuffles a corpus of one block without bias', async () => {
    // Each of the 6 orders of 3 rows as often as the others: chi-square with 5 degrees of freedom, p = 0.001 at 20.5.
    const loader = loaderOf(await alone(rowsFile('a', 3)));
    const counts = new Map<string, number>();
    for (let epoch = 0; epoch < 1200; epoch++) {
      const order = String(await draw(loader, 3));
      counts.set(order, (counts.get(order) ?? 0) + 1);
    }
    expect(counts.size).toBe(6);
    expect([...counts.values()].reduce((sum, count) => sum + (count - 200) ** 2 / 200, 0)).toBeLessThan(20.5);
  });

  it.each([
    { files: ['a', 'b', 'c'], weights: undefined, shuffleBuffer: 4 },
    { files: ['a', 'b', 'c'], weights: undefined, shuffleBuffer: 100 },
    { files: ['a', 'b', 'c'], weights: [5, 2, 1], shuffleBuffer: 3 },
  ])('continues from its cursor at every place ($weights, buffer $shuffleBuffer)', async (setup) => {
    const paths = setup.files.map((name, i) => rowsFile(name, 5 + 2 * i));
    const corpora: WeightedCorpus<Document>[] = [];
    if (setup.weights === undefined) corpora.push(...(await alone(...paths)));
    for (const [i, weight] of (setup.weights ?? []).entries()) {
      corpora.push({ corpus: await corpusOf(paths[i]), weight, name: setup.files[i] });
    }
    const options = { shuffleBuffer: setup.shuffleBuffer };
    const loader = loaderOf(corpora, options);
    const cursors: DataCursor[] = [];
    const drawn: string[] = [];
    for (let i = 0; i < 100; i++) {
      cursors.push(JSON.parse(JSON.stringify(loader.cursor)));
      drawn.push(await loader.next());
    }
    expect(loader.epochs.every((epochs) => epochs > 1)).toBe(true);
    for (const [i, cursor] of cursors.entries()) {
      const resumed = loaderOf(corpora, { ...options, cursor });
      expect(resumed.cursor).toEqual(cursor);
      expect(await draw(resumed, 100 - i)).toEqual(drawn.slice(i));
    }
    // In batches, too, and with rows that are passed over.
    const prepare = ({ id }: Document) => (id.endsWith('1') ? undefined : id);
    const batches = loaderOf(corpora, { ...options, prepare });
    for (let step = 0; step < 12; step++) {
      const { cursor } = batches;
      const batch = await batches.nextBatch(3, '--size');
      expect(new Set(batch).size).toBe(3);
      expect(await loaderOf(corpora, { ...options, prepare, cursor }).nextBatch(3, '--size')).toEqual(batch);
    }
  });

  it('reads the same rows from tables of row groups and of batches', async () => {
    for (const name of ['zstd.parquet', 'stream.arrow', 'lz4.feather', 'documents.jsonl.gz']) {
      const corpora = await alone(goldenPath('data', name));
      const loader = loaderOf(corpora, { shuffleBuffer: 2 });
      const expected = loaderOf(await alone(goldenPath('data', 'documents.jsonl')), { shuffleBuffer: 2 });
      for (let i = 0; i < 16; i++) {
        const { cursor } = loader;
        const [id] = await draw(loader, 1);
        expect(id.split(':').at(-1)).toEqual((await expected.next()).split(':').at(-1));
        expect(await loaderOf(corpora, { shuffleBuffer: 2, cursor }).next()).toEqual(id);
      }
    }
  });

  it('never has a row twice in a batch, and uses all of them in time', async () => {
    const loader = loaderOf(await alone(rowsFile('a', 10)));
    const seen = new Set<string>();
    for (let step = 0; step < 30; step++) {
      const batch = await loader.nextBatch(4, '--size');
      expect(new Set(batch).size).toBe(4);
      for (const id of batch) seen.add(id);
    }
    // Two batches an epoch: what is left of it is passed over.
    expect(loader.cursor.streams).toEqual([{ epoch: 14, block: 0, start: { file: 0, row: 0, byte: 0 }, index: 8 }]);
    expect(seen.size).toBe(10);
  });

  it('takes turns by weight: at any time each corpus has given its share', async () => {
    const corpora = await Promise.all(
      [0.5, 0.3, 0.2].map(async (weight, i) => {
        const name = 'abc'[i];
        return { corpus: await corpusOf(rowsFile(name, 4)), weight, name };
      }),
    );
    const loader = loaderOf(corpora);
    const drawn = await draw(loader, 200);
    for (let n = 1; n <= 200; n++) {
      for (const { name, weight } of corpora) {
        const given = drawn.slice(0, n).filter((id) => id.startsWith(name)).length;
        expect(Math.abs(given - n * weight)).toBeLessThan(1.01);
      }
    }
    expect(loader.epochs).toEqual([25, 15, 10]);
    // Each in an order of its own.
    expect(drawn.filter((id) => id.startsWith('a')).slice(0, 12)).toEqual(await draw(loaderOf([corpora[0]]), 12));
  });

  it('refuses batches that are larger than the data, and data that is of no use', async () => {
    const corpora = await alone(rowsFile('a', 10));
    await expect(loaderOf(corpora).nextBatch(11, '--size')).rejects.toThrow(
      'the data has 10 documents that can be used, but a step takes 11. Lower --size to 10 or less, or add data',
    );
    const mixed = [...corpora, { corpus: await corpusOf(rowsFile('b', 2)), weight: 3, name: 'b.jsonl' }];
    await expect(loaderOf(mixed).nextBatch(8, '--size')).rejects.toThrow(
      'data b.jsonl: has 2 documents that can be used, but a step takes 6 by its weight 3. Lower --size or the weight, or add data',
    );
    const none = loaderOf(corpora, { prepare: () => undefined });
    await expect(none.nextBatch(1, '--size')).rejects.toThrow('none of use');
    await expect(none.next()).rejects.toThrow('none of use');
  });
});

describe('several corpora', () => {
  const weighted = async (
    sizes: readonly number[],
    weights: readonly number[],
  ): Promise<WeightedCorpus<Document>[]> => {
    const corpora: WeightedCorpus<Document>[] = [];
    for (const [i, size] of sizes.entries()) {
      const name = 'abc'[i];
      corpora.push({ corpus: await corpusOf(rowsFile(name, size)), weight: weights[i], name: `${name}.jsonl` });
    }
    return corpora;
  };

  it('with too few rows for a later batch are found at the first', async () => {
    // Shares of 2.5 and 1.5: the first batch takes 3 and 1, the second 2 and 2.
    await expect(loaderOf(await weighted([9, 1], [5, 3])).nextBatch(4, '--size')).rejects.toThrow(
      'data b.jsonl: has 1 documents that can be used, but a step takes 2 by its weight 3. Lower --size or the weight',
    );
    const loader = loaderOf(await weighted([9, 2], [5, 3]));
    const counts: number[] = [];
    for (let i = 0; i < 4; i++)
      counts.push((await loader.nextBatch(4, '--size')).filter((id) => id.startsWith('b')).length);
    expect(counts).toEqual([1, 2, 1, 2]);
  });

  it('of one size do not have one order', async () => {
    const drawn = await draw(loaderOf(await weighted([12, 12], [1, 1])), 24);
    const orderOf = (name: string) => drawn.filter((id) => id.startsWith(name)).map((id) => id.slice(1));
    expect(orderOf('a')).not.toEqual(orderOf('b'));
    // The first has the order that it has alone.
    expect(orderOf('a')).toEqual((await draw(loaderOf(await alone(rowsFile('a', 12))), 12)).map((id) => id.slice(1)));
  });
});

describe('PackedStream', () => {
  const prepare = ({ id }: Document) => ({ id, tokens: Int32Array.from(Buffer.from(id)) });
  const stream = async (length: number, eosId: number | undefined = 0) => {
    const corpora = await alone(rowsFile('document-', 12));
    const makeLoader = (cursor?: DataCursor) =>
      new DataLoader(corpora, {
        ...{ seed: 1, shuffleBuffer: 5, noneOfUse: () => new UserError('') },
        prepare,
        cursor,
      });
    return {
      makeLoader,
      make: (cursor?: PackedStream['cursor']) => new PackedStream(makeLoader, { length, eosId }, cursor),
    };
  };

  it.each([2, 7, 11, 12, 40])(
    'gives every token of the documents drawn once as a target (length %i)',
    async (length) => {
      const { make, makeLoader } = await stream(length);
      const blocks = await make().nextBatch(30);
      const joined = blocks.flatMap((block, i) => [...block.subarray(i === 0 ? 0 : 1)]);
      for (const [i, block] of blocks.entries()) {
        expect(block).toHaveLength(length);
        if (i > 0) expect(block[0]).toBe(blocks[i - 1].at(-1));
      }
      const loader = makeLoader();
      const text: number[] = [];
      while (text.length < joined.length) text.push(...(await loader.next()).tokens, 0);
      expect(joined).toEqual(text.slice(0, joined.length));
    },
  );

  it.each([2, 7, 12, 40])('continues from its cursor at every block, across epochs (length %i)', async (length) => {
    const { make } = await stream(length);
    const whole = make();
    const blocks: Int32Array[] = [];
    for (let i = 0; i < 40; i++) {
      const cursor = JSON.parse(JSON.stringify(whole.cursor));
      const resumed = make(cursor);
      blocks.push(...(await whole.nextBatch(1)));
      expect((await resumed.nextBatch(2))[0]).toEqual(blocks[i]);
    }
    if (length > 10) expect(whole.epochs[0]).toBeGreaterThan(1);
  });
});

describe('Corpus', () => {
  const BAD = [
    '{"text":"a"}',
    '{"text":',
    '{"text":""}',
    '{"content":"b"}',
    '{"text":"c","positions":[9]}',
    '{"text":"d"}',
  ];

  it('leaves bad rows out and counts them, or stops at the first', async () => {
    writeFileSync(folder.in('bad.jsonl'), `${BAD.join('\n')}\n`);
    const paths = [folder.in('bad.jsonl'), goldenPath('data', 'null.parquet'), goldenPath('data', 'latin1.feather')];
    const corpus = await Corpus.open(paths, { ...OPTIONS, onBadRows: 'skip' });
    expect((await collect(corpus.read())).map(({ item }) => item.text)).toEqual([
      'a',
      'd',
      'good',
      'fine',
      'good',
      'fine',
    ]);
    expect(corpus.size).toBe(6);
    expect(corpus.badRows.count).toBe(6);
    expect(corpus.badRows.first).toEqual([
      expect.stringMatching(/bad\.jsonl:2: not a JSON object on one line/),
      expect.stringMatching(/bad\.jsonl:3: "text" is empty/),
      expect.stringMatching(/bad\.jsonl:4: expected a column "text", found the columns "content"/),
      expect.stringMatching(/bad\.jsonl:5: "positions"\[0\] must be an integer from 0 to 0/),
      expect.stringMatching(/null\.parquet:2: "text" must be a string, found null/),
    ]);
    await expect(corpusOf(...paths)).rejects.toThrow(
      /bad\.jsonl:2: not a JSON object.*\. To leave such rows out and go on: --on-bad-rows skip/,
    );
  });

  it('of bad rows alone is an error', async () => {
    writeFileSync(folder.in('bad.jsonl'), '{"n":1}\n{}\n');
    await expect(Corpus.open([folder.in('bad.jsonl')], { ...OPTIONS, onBadRows: 'skip' })).rejects.toThrow(
      /bad\.jsonl: no rows to use: all 2 rows are bad, the first: .*bad\.jsonl:1: expected a column "text"/,
    );
  });

  it('refuses ids that occur twice, and files', async () => {
    const [a, b] = [rowsFile('a', 1000), rowsFile('b', 1000)];
    appendFileSync(b, '{"id":"a998","text":"x"}\n');
    await expect(corpusOf(a, b)).rejects.toThrow(/b\.jsonl:1001: the id "a998" is also that of .*a\.jsonl:999\./);
    appendFileSync(a, `{"id":${JSON.stringify(`${a}:1002`)},"text":"x"}\n{"text":"y"}\n`);
    await expect(corpusOf(a, a)).rejects.toThrow('given twice');
  });

  it('takes the first rows up to a limit', async () => {
    const corpus = await Corpus.open([rowsFile('a', 3), rowsFile('b', 3), rowsFile('c', 3)], { ...OPTIONS, limit: 4 });
    expect(sorted(await draw(loaderOf([{ corpus, weight: 1, name: '' }]), 8))).toEqual(
      sorted(['a0', 'a1', 'a2', 'b0', 'a0', 'a1', 'a2', 'b0']),
    );
  });

  it('has a hash of what is used, and where it is', async () => {
    const path = rowsFile('a', 5);
    const { hash } = await corpusOf(path);
    copyFileSync(path, folder.in('moved.jsonl'));
    expect((await corpusOf(folder.in('moved.jsonl'))).hash).toBe(hash);
    expect((await Corpus.open([path], { ...OPTIONS, limit: 4 })).hash).not.toBe(hash);
    for (const change of ['{"text":"more"}\n', '\n{"text":"more"}\n', '{"text":"more","id":"1"}\n']) {
      copyFileSync(folder.in('moved.jsonl'), path);
      appendFileSync(path, change);
      const changed = (await corpusOf(path)).hash;
      expect(changed).not.toBe(hash);
      writeFileSync(folder.in(`${Buffer.from(change).toString('hex')}.jsonl`), change);
    }
  });

  it('is an error when a file changes between two epochs', async () => {
    const path = rowsFile('a', 5);
    const loader = loaderOf(await alone(path), { shuffleBuffer: 2 });
    await draw(loader, 7);
    utimesSync(path, new Date(0), new Date(0));
    await expect(draw(loader, 5)).rejects.toThrow(
      /a\.jsonl: changed while it was read \(it was written to or replaced\)/,
    );
  });
});
