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
    const isUtf16 = offset === 0 && (bytes[0] === 0xff || bytes[0] === 0xfe);
    const encoding = isUtf16 ? 'UTF-16' : 'ITS-ENCODING';
    throw new UserError(
      `${path}: byte ${offset + invalid} (0x${byte}) is not UTF-8${isUtf16 ? '; the file looks like UTF-16' : ''}. ` +
        `Convert the file, for example with: iconv -f ${encoding} -t UTF-8`,
      { cause },
    );
  }
}
