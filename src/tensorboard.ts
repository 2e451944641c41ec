import { type FileHandle, open, readdir } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { BinaryWriter, WireType } from '@bufbuild/protobuf/wire';
import { fileError } from './file-error.ts';

/** One record of an event file. */
export interface TensorBoardEvent {
  /** Seconds since 1970. */
  wallTime: number;
  step: number;
  what: { fileVersion: string } | { scalars: Readonly<Record<string, number>> } | 'session start';
}

/** From this version on a session start says where a run went on, and readers drop what came after that step before. */
const FILE_VERSION = 'brain.Event:2';
/** SessionLog.SessionStatus. */
const SESSION_START = 1;

/** `Event` of tensorflow's event.proto with the parts of summary.proto that scalars need, by their field numbers. */
function encodeEvent({ wallTime, step, what }: TensorBoardEvent): Uint8Array {
  const event = new BinaryWriter().tag(1, WireType.Bit64).double(wallTime);
  if (step !== 0) event.tag(2, WireType.Varint).int64(step);
  if (what === 'session start') {
    event.tag(7, WireType.LengthDelimited).fork().tag(1, WireType.Varint).int32(SESSION_START).join();
  } else if ('fileVersion' in what) {
    event.tag(3, WireType.LengthDelimited).string(what.fileVersion);
  } else {
    event.tag(5, WireType.LengthDelimited).fork(); // Summary
    for (const [tag, value] of Object.entries(what.scalars)) {
      event.tag(1, WireType.LengthDelimited).fork(); // Summary.Value
      event.tag(1, WireType.LengthDelimited).string(tag).tag(2, WireType.Bit32).float(value).join();
    }
    event.join();
  }
  return event.finish();
}

/** CRC-32C (Castagnoli), reflected, by the byte. */
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = (crc & 1 ? 0x82f63b78 : 0) ^ (crc >>> 1);
  return crc >>> 0;
});

/** As TFRecord files keep it: rotated, and a constant added, so that a checksum of data that holds checksums is no trouble. */
export function maskedCrc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC_TABLE[(crc ^ byte) & 0xff] ^ (crc >>> 8);
  crc = ~crc;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** An event in its TFRecord frame: length (uint64) and its checksum, the event and its checksum. Little-endian. */
export function encodeRecord(event: TensorBoardEvent): Uint8Array {
  const data = encodeEvent(event);
  const record = Buffer.alloc(16 + data.length);
  record.writeBigUInt64LE(BigInt(data.length));
  record.writeUInt32LE(maskedCrc32c(record.subarray(0, 8)), 8);
  record.set(data, 12);
  record.writeUInt32LE(maskedCrc32c(data), 12 + data.length);
  return record;
}

const EVENT_FILE = /^events\.out\.tfevents\.(\d+)\./;

/**
 * Writes scalars for TensorBoard: `tensorboard --logdir FOLDER`, or a folder above it. Every call of `open` begins a file of its
 * own, which readers take after those that are there; it says from which step on it replaces them, so that steps taken
 * again after an interruption are not shown twice.
 */
export class EventWriter implements AsyncDisposable {
  readonly #path: string;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle) {
    this.#path = path;
    this.#file = file;
  }

  /** @param firstStep what earlier files say of this step and later ones is void */
  static async open(folder: string, firstStep: number): Promise<EventWriter> {
    try {
      const seconds = (await readdir(folder)).map((name) => Number(EVENT_FILE.exec(name)?.[1] ?? 0));
      // Readers go by the order of the names, and a run may be killed and resumed within a second.
      const time = Math.max(Math.floor(Date.now() / 1000), ...seconds.map((second) => second + 1));
      const name = `events.out.tfevents.${String(time).padStart(10, '0')}.${hostname()}.${process.pid}.0`;
      const path = join(folder, name);
      const writer = new EventWriter(path, await open(path, 'wx'));
      await writer.#write({ step: 0, what: { fileVersion: FILE_VERSION } });
      await writer.#write({ step: firstStep, what: 'session start' });
      return writer;
    } catch (thrown) {
      throw fileError('cannot write into', folder, thrown);
    }
  }

  /** Appends the figures of a step, and waits until they are on disk. */
  async scalars(step: number, scalars: Readonly<Record<string, number>>): Promise<void> {
    try {
      await this.#write({ step, what: { scalars } });
      await this.#file.datasync();
    } catch (thrown) {
      throw fileError('cannot write', this.#path, thrown);
    }
  }

  async #write(event: Omit<TensorBoardEvent, 'wallTime'>): Promise<void> {
    await this.#file.appendFile(encodeRecord({ wallTime: Date.now() / 1000, ...event }));
  }

  async close(): Promise<void> {
    await this.#file.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}
