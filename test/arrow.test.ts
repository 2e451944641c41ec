import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFile, mkdtemp, open, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Int32, RecordBatchReader, tableFromArrays, tableFromIPC, tableToIPC, vectorFromArray } from 'apache-arrow';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { partialPath, RolloutWriter, readRollouts, recoverRollouts } from '../src/arrow.ts';
import { scanFile } from '../src/arrow-file.ts';
import { UserError } from '../src/errors.ts';
import type { RolloutRecord } from '../src/records.ts';
import { goldenBatches, goldenMetadata, record } from './arrow/records.ts';

let folder: string;
let path: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rlp-ort-arrow-'));
  path = join(folder, 'rollouts.arrow');
});
afterEach(() => rm(folder, { recursive: true }));

async function write(batches: readonly RolloutRecord[][], finish = true): Promise<void> {
  await using writer = await RolloutWriter.open(path, goldenMetadata);
  for (const rows of batches) await writer.append(rows);
  if (finish) await writer.finish();
}

async function readAll(file: string): Promise<RolloutRecord[][]> {
  const batches: RolloutRecord[][] = [];
  for await (const rows of await readRollouts(file)) batches.push(rows);
  return batches;
}

async function layoutOf(file: string) {
  const handle = await open(file, 'r');
  try {
    const layout = await scanFile(file, handle);
    if (layout === undefined) throw new Error('no schema');
    return layout;
  } finally {
    await handle.close();
  }
}

describe('rollout files', () => {
  test('round trip', async () => {
    await write(goldenBatches);
    const file = await readRollouts(path);
    expect(file).toMatchObject({ metadata: goldenMetadata, complete: true, batches: 3, rows: 6 });
    expect(await readAll(path)).toEqual(goldenBatches);
    expect(await readdir(folder)).toEqual(['rollouts.arrow']);
  });

  test('without rows', async () => {
    await write([[], []]);
    expect(await readRollouts(path)).toMatchObject({ complete: true, batches: 0, rows: 0 });
    expect(await readAll(path)).toEqual([]);
  });

  test('equal the golden file byte for byte, which pyarrow reads (test/arrow/check.py)', async () => {
    await write(goldenBatches);
    const golden = await readFile(new URL('arrow/rollouts.arrow', import.meta.url));
    expect((await readFile(path)).equals(golden)).toBe(true);
  });

  test('are read by apache-arrow, as a file and as a stream behind the magic', async () => {
    await write(goldenBatches);
    const bytes = await readFile(path);
    const table = tableFromIPC(bytes);
    expect(table.numRows).toBe(6);
    expect([...(table.getChild('thought_tokens')?.get(0) ?? [])]).toEqual([...goldenBatches[0][0].thoughtTokens]);
    expect(table.schema.metadata.get('schema_version')).toBe('1');
    expect(RecordBatchReader.from(bytes).isFile()).toBe(true);
    expect(tableFromIPC(bytes.subarray(8)).numRows).toBe(6);
  });

  test('can be iterated more than once', async () => {
    await write(goldenBatches);
    const file = await readRollouts(path);
    for (let time = 0; time < 2; time++) {
      let rows = 0;
      for await (const batch of file) rows += batch.length;
      expect(rows).toBe(6);
    }
  });
});

describe('a crash', () => {
  /** Ends of the header and of every batch in an unfinished file. */
  async function boundaries(): Promise<number[]> {
    const ends: number[] = [];
    await using writer = await RolloutWriter.open(path, goldenMetadata);
    for (const rows of [[], ...goldenBatches]) {
      await writer.append(rows);
      ends.push((await readFile(partialPath(path))).length);
    }
    await writer.finish();
    return ends;
  }

  test('at any byte leaves exactly the whole batches before it', async () => {
    const ends = await boundaries();
    const whole = await readFile(path);
    const partial = partialPath(path);
    await rm(path);
    await writeFile(partial, whole);
    for (let size = whole.length; size >= 0; size--) {
      const near = ends.some((end) => Math.abs(size - end) <= 9);
      if (size % 11 !== 0 && !near && size !== whole.length) continue;
      await truncate(partial, size);
      const batches = ends.filter((end) => end <= size).length - 1;
      if (batches < 0) {
        await expect(readRollouts(partial)).rejects.toThrow('ends before the first batch, there is nothing to read');
        continue;
      }
      const file = await readRollouts(partial);
      const rows = goldenBatches.slice(0, batches).reduce((total, batch) => total + batch.length, 0);
      expect(file).toMatchObject({ batches, rows, complete: size === whole.length });
      if (near) expect(await readAll(partial)).toEqual(goldenBatches.slice(0, batches));
    }
  });

  test('and a resume give the bytes of an uninterrupted run', async () => {
    const ends = await boundaries();
    const whole = await readFile(path);
    await rm(path);
    const cuts = [0, 3, 8, 100, ...ends.flatMap((end) => [end - 1, end, end + 1, end + 100]), whole.length - 1];
    for (const cut of [...cuts, whole.length]) {
      await writeFile(partialPath(path), whole.subarray(0, cut));
      await using writer = await RolloutWriter.open(path, goldenMetadata, { resume: true });
      for (const rows of goldenBatches.slice(writer.batches)) await writer.append(rows);
      await writer.finish();
      expect((await readFile(path)).equals(whole)).toBe(true);
      await rm(path);
    }
  });

  test('that leaves garbage or zeros behind the last batch loses nothing before it', async () => {
    const [, first] = await boundaries();
    const start = (await readFile(path)).subarray(0, first);
    const continuation = Buffer.from([255, 255, 255, 255, 16, 0, 0, 0]);
    for (const tail of [
      Buffer.alloc(4096),
      Buffer.alloc(99, 0xab),
      Buffer.concat([continuation, Buffer.alloc(64, 1)]),
    ]) {
      await writeFile(partialPath(path), Buffer.concat([start, tail]));
      expect(await readAll(partialPath(path))).toEqual(goldenBatches.slice(0, 1));
    }
  });

  test('recoverRollouts makes a finished file of the whole batches', async () => {
    await write(goldenBatches.slice(0, 2), false);
    await appendFile(partialPath(path), Buffer.from([255, 255, 255, 255, 64, 1, 0, 0, 9]));
    expect(await recoverRollouts(path)).toEqual({ batches: 2, rows: 5 });
    expect(await readRollouts(path)).toMatchObject({ complete: true, batches: 2 });
    expect(tableFromIPC(await readFile(path)).numRows).toBe(5);
    expect(await readdir(folder)).toEqual(['rollouts.arrow']);
  });

  test('a finished file can be resumed', async () => {
    await write(goldenBatches);
    const whole = await readFile(path);
    await rm(path);
    await write(goldenBatches.slice(0, 1));
    await using writer = await RolloutWriter.open(path, goldenMetadata, { resume: true });
    expect([writer.batches, writer.rows]).toEqual([1, goldenBatches[0].length]);
    for (const rows of goldenBatches.slice(1)) await writer.append(rows);
    await writer.finish();
    expect((await readFile(path)).equals(whole)).toBe(true);
  });
});

describe('writing refuses', () => {
  test('a path that is taken', async () => {
    await write(goldenBatches, false);
    await expect(RolloutWriter.open(path, goldenMetadata)).rejects.toThrow(
      `${path}.partial: an unfinished file is there; resume to continue it, or remove it`,
    );
    await recoverRollouts(path);
    await expect(RolloutWriter.open(path, goldenMetadata)).rejects.toThrow(`${path}: exists already`);
    await writeFile(partialPath(path), '');
    await expect(RolloutWriter.open(path, goldenMetadata, { resume: true })).rejects.toThrow('both it and');
  });

  test('to continue a run with other settings or another model, and leaves the file alone', async () => {
    await write(goldenBatches);
    const config = { ...goldenMetadata.config, rollout: { group_size: 8, temperature: 0.7 } };
    await expect(RolloutWriter.open(path, { ...goldenMetadata, config }, { resume: true })).rejects.toThrow(
      'cannot continue a file of another run: config.rollout.group_size is 2 in the file and 8 now',
    );
    await expect(
      RolloutWriter.open(path, { ...goldenMetadata, modelHash: 'sha256:00' }, { resume: true }),
    ).rejects.toThrow('modelHash is "sha256:5eed" in the file and "sha256:00" now');
    expect(await readRollouts(path)).toMatchObject({ complete: true });
  });

  test('values that are not finite, naming the row; the writer goes on', async () => {
    await using writer = await RolloutWriter.open(path, goldenMetadata);
    const bad = record({ rollout: 1, reasonedLogProbs: Float32Array.of(-1, Number.NaN) });
    await expect(writer.append([record({}), bad])).rejects.toThrow(
      'rollout (step 3, document doc-a, position 17, rollout 1): reasoned_logprobs[1] is NaN, not finite',
    );
    await expect(writer.append([record({ reward: Number.POSITIVE_INFINITY })])).rejects.toThrow('reward is Infinity');
    await expect(writer.append([record({ thoughtTokens: Int32Array.of(1) })])).rejects.toThrow(
      'internal: rollout row (step 3, document doc-a, position 17, rollout 0): thoughtLogProbs has 3 values for 1 tokens',
    );
    await expect(writer.append([record({ position: 2 ** 31 })])).rejects.toThrow('position is 2147483648');
    await writer.append([record({})]);
    await writer.finish();
    expect(await readAll(path)).toEqual([[record({})]]);
  });

  test('two writes at once, and writes after the end', async () => {
    const writer = await RolloutWriter.open(path, goldenMetadata);
    const first = writer.append([record({})]);
    await expect(writer.append([record({})])).rejects.toThrow('used while busy');
    await first;
    await writer.finish();
    await expect(writer.append([record({})])).rejects.toThrow('used while closed');
    await writer.close();
  });

  test('a folder that is not there', async () => {
    const missing = join(folder, 'no', 'rollouts.arrow');
    await expect(RolloutWriter.open(missing, goldenMetadata)).rejects.toThrow(
      `cannot write ${missing}.lock: no such file or folder (ENOENT)`,
    );
  });
});

describe('reading refuses', () => {
  test('what is not there, and points to the partial file', async () => {
    await expect(readRollouts(path)).rejects.toThrow(`cannot open ${path}: no such file`);
    await write(goldenBatches, false);
    await expect(readRollouts(path)).rejects.toThrow(`not there, but ${path}.partial is`);
  });

  test('what is no Arrow file', async () => {
    await writeFile(path, '{"step": 1}\n');
    await expect(readRollouts(path)).rejects.toThrow(
      `${path}: not an Arrow IPC file: expected it to start with 'ARROW1', found "{\\"step"`,
    );
    await expect(readRollouts(path)).rejects.toBeInstanceOf(UserError);
    await expect(readRollouts(folder)).rejects.toThrow('it is a folder');
  });

  /** A stream of another tool as the body of a file: what pyarrow writes, too. */
  async function writeForeign(stream: Uint8Array): Promise<void> {
    await writeFile(path, Buffer.concat([Buffer.from('ARROW1\0\0'), stream]));
  }

  test('other columns, and says which', async () => {
    await writeForeign(tableToIPC(tableFromArrays({ step: Float64Array.of(1), position: Int32Array.of(2) }), 'stream'));
    await expect(readRollouts(path)).rejects.toThrow(/expected columns step: Int32, document_id: Utf8, rollout: Int32/);
    await expect(readRollouts(path)).rejects.toThrow(/found step: Float64, document_id: missing/);
    await expect(readRollouts(path)).rejects.toThrow('(columns of the file: step, position)');
  });

  test('another schema version', async () => {
    await write(goldenBatches);
    const table = tableFromIPC(await readFile(path));
    table.schema.metadata.set('schema_version', '99');
    await writeForeign(tableToIPC(table, 'stream'));
    await expect(readRollouts(path)).rejects.toThrow('expected rollout schema_version 1, found version 99');
    table.schema.metadata.clear();
    await writeForeign(tableToIPC(table, 'stream'));
    await expect(readRollouts(path)).rejects.toThrow('found none (did another tool drop the schema metadata?)');
  });

  test('a damaged file', async () => {
    await write(goldenBatches);
    const bytes = await readFile(path);
    const { blocks } = await layoutOf(path);
    bytes.fill(0, blocks[1].offset, blocks[1].offset + 8);
    await writeFile(path, bytes);
    await expect(readRollouts(path)).rejects.toThrow(`expected a record batch at byte ${blocks[1].offset}`);
  });

  test('nulls', async () => {
    await write(goldenBatches);
    const table = tableFromIPC(await readFile(path));
    const withNull = table.setChild('position', vectorFromArray([1, null, 3, 4, 5, 6], new Int32()));
    for (const [key, value] of table.schema.metadata) withNull.schema.metadata.set(key, value);
    await writeForeign(tableToIPC(withNull, 'stream'));
    await expect(readAll(path)).rejects.toThrow(/column position has 1 nulls in a batch, expected none/);
  });

  test('a file that shrinks while it is read', async () => {
    await write(goldenBatches);
    const file = await readRollouts(path);
    await truncate(path, 3000);
    await expect(
      (async () => {
        for await (const _ of file);
      })(),
    ).rejects.toThrow('became shorter while it was read');
  });
});

test('a writer killed with SIGKILL leaves every batch that it reported', async () => {
  const script = fileURLToPath(new URL('arrow/append-forever.ts', import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', script, path], { stdio: ['ignore', 'pipe', 'inherit'] });
  const exited = once(child, 'exit');
  let reported = 0;
  for await (const line of createInterface(child.stdout)) {
    reported = Number(line);
    if (reported >= 20) child.kill('SIGKILL');
  }
  expect((await exited)[1]).toBe('SIGKILL');
  const file = await readRollouts(partialPath(path));
  expect(file.complete).toBe(false);
  // Killed between the sync of a batch and its report, there may be one more.
  expect([reported, reported + 1]).toContain(file.batches);
  for await (const rows of file) expect(rows).toEqual(goldenBatches[0]);
  expect((await recoverRollouts(path)).batches).toBe(file.batches);
});
