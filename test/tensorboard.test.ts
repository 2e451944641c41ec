import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EventWriter, encodeRecord, maskedCrc32c, type TensorBoardEvent } from '../src/tensorboard.ts';
import { withTemporaryFolder } from './cli/run-cli.ts';
import { goldenPath, readGoldenJson } from './golden/golden.ts';

/** JSON has no NaN and no infinity: they stand as text. */
type GoldenEvent = Omit<TensorBoardEvent, 'what'> & {
  what: { fileVersion: string } | { scalars: Record<string, number | string> } | 'session start';
};

function eventOf({ wallTime, step, what }: GoldenEvent): TensorBoardEvent {
  if (what === 'session start' || 'fileVersion' in what) return { wallTime, step, what };
  const scalars = Object.fromEntries(Object.entries(what.scalars).map(([tag, value]) => [tag, Number(value)]));
  return { wallTime, step, what: { scalars } };
}

test('records are byte for byte what TensorBoard itself writes', async () => {
  const golden = await readFile(goldenPath('tensorboard', 'events.out.tfevents.golden'));
  const events = readGoldenJson<GoldenEvent[]>('tensorboard/events').map(eventOf);
  expect(Buffer.concat(events.map(encodeRecord)).equals(golden)).toBe(true);
});

test('the checksum is CRC-32C, masked', () => {
  // RFC 3720, B.4: 32 bytes of zeros have CRC 0x8a9136aa.
  const crc = 0x8a9136aa;
  expect(maskedCrc32c(new Uint8Array(32))).toBe((((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0);
});

/** Payloads of the records of a file. */
function payloads(bytes: Buffer): Buffer[] {
  const found: Buffer[] = [];
  for (let offset = 0; offset < bytes.length; ) {
    const length = Number(bytes.readBigUInt64LE(offset));
    expect(bytes.readUInt32LE(offset + 8)).toBe(maskedCrc32c(bytes.subarray(offset, offset + 8)));
    const data = bytes.subarray(offset + 12, offset + 12 + length);
    expect(bytes.readUInt32LE(offset + 12 + length)).toBe(maskedCrc32c(data));
    found.push(data);
    offset += length + 16;
  }
  return found;
}

test('a file says its version, from which step it counts, and then the figures', async () => {
  await withTemporaryFolder(async (folder) => {
    const before = Date.now() / 1000;
    await using writer = await EventWriter.open(folder, 7);
    await writer.scalars(7, { loss: 0.5 });
    const [name] = await readdir(folder);
    expect(name).toMatch(new RegExp(`^events\\.out\\.tfevents\\.\\d{10}\\..+\\.${process.pid}\\.0$`));
    const records = payloads(await readFile(join(folder, name)));
    const wallTimes = records.map((record) => record.readDoubleLE(1));
    for (const time of wallTimes) expect(time).toBeGreaterThanOrEqual(before);
    const expected = ([what, step]: [TensorBoardEvent['what'], number], i: number) =>
      payloads(Buffer.from(encodeRecord({ wallTime: wallTimes[i], step, what })))[0];
    expect(records).toEqual(
      (
        [
          [{ fileVersion: 'brain.Event:2' }, 0],
          ['session start', 7],
          [{ scalars: { loss: 0.5 } }, 7],
        ] as [TensorBoardEvent['what'], number][]
      ).map(expected),
    );
  });
});

test('a later file has a later name, however quickly it follows', async () => {
  await withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, 'metrics.jsonl'), '');
    for (let step = 0; step < 4; step++) await (await EventWriter.open(folder, step)).close();
    const files = (await readdir(folder)).filter((name) => name.startsWith('events')).sort();
    const steps = await Promise.all(
      files.map(async (name) => {
        const [, start] = payloads(await readFile(join(folder, name)));
        return start.length === 13 ? 0 : start[10]; // a step of 0 is left out
      }),
    );
    expect(steps).toEqual([0, 1, 2, 3]);
  });
});
