/**
 * The byte alphabet of byte-level BPE (GPT-2, Radford et al. 2019): each of the 256 bytes stands as one printable
 * character. Printable Latin-1 bytes are themselves; the other 68 take the code points from 256 on, in order.
 */
const isPrintable = (byte: number): boolean =>
  (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);

function byteSymbols(): string[] {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isPrintable(byte) ? byte : next++));
}

/** Character of each byte, by byte. */
export const BYTE_SYMBOLS: readonly string[] = byteSymbols();

const BYTE_OF = new Map(BYTE_SYMBOLS.map((symbol, byte) => [symbol, byte]));

/** Bytes of a vocabulary entry in the byte alphabet; undefined if it has a character outside of it. */
export function bytesOfToken(token: string): Uint8Array | undefined {
  const bytes = new Uint8Array(token.length);
  for (let i = 0; i < token.length; i++) {
    const byte = BYTE_OF.get(token[i]);
    if (byte === undefined) return undefined;
    bytes[i] = byte;
  }
  return bytes;
}
