import { UserError } from '../errors.ts';

/**
 * Offset of the first byte that does not belong to a well-formed character; `bytes` must not be valid UTF-8 as a whole.
 */
export function firstInvalidByte(bytes: Uint8Array): number {
  const decodes = (length: number): string | undefined => {
    try {
      const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
      return decoder.decode(bytes.subarray(0, length), { stream: true });
    } catch {
      return undefined;
    }
  };
  // Streaming accepts a character cut off at the end, so "the first n bytes decode" holds up to some n and never after.
  let good = 0;
  let bad = bytes.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >>> 1;
    if (decodes(middle) === undefined) bad = middle;
    else good = middle;
  }
  return Buffer.byteLength(decodes(good) ?? '');
}

const UTF16 = { name: 'UTF-16', advice: 'Convert the file, for example with: iconv -f UTF-16 -t UTF-8' };

/** What files that are no UTF-8 begin with, and what to do about them. */
const FORMATS: readonly { start: readonly number[]; name: string; advice: string }[] = [
  { start: [0xff, 0xfe], ...UTF16 },
  { start: [0xfe, 0xff], ...UTF16 },
  { start: [0x1f, 0x8b], name: 'gzip', advice: 'Give it a name that ends in .gz, or decompress it: gunzip' },
  {
    start: [0x28, 0xb5, 0x2f, 0xfd],
    name: 'zstd',
    advice: 'Give it a name that ends in .zst, or decompress it: unzstd',
  },
];

/**
 * Text of `bytes`; a byte order mark at the start is dropped.
 * @param path file of the bytes, for the message
 * @param offset of `bytes` in that file
 * @throws UserError with the file's byte offset where `bytes` are not UTF-8
 */
export function decodeUtf8(bytes: Uint8Array, path: string, offset = 0): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    const invalid = firstInvalidByte(bytes);
    const byte = bytes[invalid].toString(16).padStart(2, '0');
    const looks = offset === 0 ? FORMATS.find(({ start }) => start.every((value, i) => bytes[i] === value)) : undefined;
    const advice = looks?.advice ?? 'Convert the file, for example with: iconv -f ITS-ENCODING -t UTF-8';
    const what = looks === undefined ? '' : `; the file looks like ${looks.name}`;
    throw new UserError(`${path}: byte ${offset + invalid} (0x${byte}) is not UTF-8${what}. ${advice}`, { cause });
  }
}
