/**
 * Peak memory of going through data: opening (check, hash) and drawing an epoch in random order, for files of 20 MB and of
 * 200 MB that are read as streams, each in a process of its own.
 *
 *     npx tsx scripts/data-memory.ts [MEGABYTES..]
 */
import { execFileSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, statSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Corpus, DataLoader, type Document, documentOf } from '../src/data/index.ts';
import { UserError } from '../src/errors.ts';
import { Random } from '../src/random.ts';

const MIB = 2 ** 20;

/** How documents of 200 to 4,000 characters are written; those of a .txt, a line each, have no ids of their own. */
const FORMATS: Record<string, { start: string; document: (i: number, text: string) => string; end: string }> = {
  jsonl: { start: '', document: (i, text) => `${JSON.stringify({ id: `document-${i}`, text })}\n`, end: '' },
  json: {
    start: '[',
    document: (i, text) => `${i === 0 ? '' : ','}${JSON.stringify({ id: `document-${i}`, text })}`,
    end: ']',
  },
  txt: { start: '', document: (_, text) => `${text}\n`, end: '' },
};

function writeData(path: string, bytes: number, { start, document, end }: (typeof FORMATS)[string]): void {
  const random = new Random(0, 'data-memory');
  const file = openSync(path, 'w');
  writeSync(file, start);
  for (let i = 0, written = 0; written < bytes; i++) {
    written += writeSync(file, document(i, 'all work and no play '.repeat(10 + random.integer(180))));
  }
  writeSync(file, end);
  closeSync(file);
}

async function goThrough(path: string, shuffleBuffer: number): Promise<void> {
  const start = performance.now();
  const corpus = await Corpus.open([path], {
    columns: { text: 'text', all: ['text', 'id'], txtDocuments: 'line' },
    parse: (row) => documentOf(row),
    onBadRows: 'error',
  });
  const opened = performance.now();
  const loader = new DataLoader<Document, number>([{ corpus, weight: 1, name: path }], {
    ...{ seed: 0, shuffleBuffer, prepare: ({ text }) => text.length, noneOfUse: () => new UserError('none') },
  });
  for (let i = 0; i < corpus.size; i++) await loader.next();
  const drawn = performance.now();
  const [size, peak] = [statSync(path).size / MIB, process.resourceUsage().maxRSS / 1024];
  const speed = (ms: number) => `${((1000 * size) / ms).toFixed(0)} MiB/s`;
  console.log(
    `${extname(path)}, ${size.toFixed(0).padStart(4)} MiB, ${corpus.size} documents, buffer ${shuffleBuffer}: peak ${peak.toFixed(0)} MiB, ` +
      `opened at ${speed(opened - start)}, an epoch drawn at ${speed(drawn - opened)}`,
  );
}

const [path, buffer] = process.argv.slice(2);
if (path !== undefined && Number.isNaN(Number(path))) await goThrough(path, Number(buffer));
else {
  const sizes = process.argv.length > 2 ? process.argv.slice(2).map(Number) : [20, 200];
  const folder = mkdtempSync(join(tmpdir(), 'data-memory-'));
  try {
    for (const [format, layout] of Object.entries(FORMATS)) {
      for (const megabytes of sizes) {
        const data = join(folder, `${megabytes}.${format}`);
        writeData(data, megabytes * 1e6, layout);
        for (const rows of [1000, 10_000]) {
          const args = [...process.execArgv, fileURLToPath(import.meta.url), data, String(rows)];
          execFileSync(process.execPath, args, { stdio: 'inherit' });
        }
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}
