const MAGIC = 0x184d2204;
const FLAGS = { blockChecksum: 0x10, contentSize: 0x08, dictionary: 0x01 };
const UNCOMPRESSED = 0x80000000;
const SHORTEST_MATCH = 4;

/**
 * Content of an LZ4 frame (github.com/lz4/lz4, doc/lz4_Frame_format.md and lz4_Block_format.md), whose blocks may refer to
 * each other. Checksums are not looked at.
 * @throws Error if the bytes are no whole frame
 */
export function decompressLz4Frame(frame: Uint8Array): Uint8Array {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
  if (frame.length < 7 || view.getUint32(0, true) !== MAGIC) throw new Error('not an LZ4 frame');
  const flags = view.getUint8(4);
  if ((flags & FLAGS.dictionary) !== 0) throw new Error('LZ4 frames with a dictionary are not supported');
  const output = new Output(4 * frame.length);
  let position = (flags & FLAGS.contentSize) === 0 ? 7 : 15;
  for (;;) {
    const header = view.getUint32(position, true);
    position += 4;
    if (header === 0) return output.bytes();
    const end = position + (header & ~UNCOMPRESSED);
    if (end > frame.length) throw new Error('an LZ4 frame that was cut off');
    const block = frame.subarray(position, end);
    if ((header & UNCOMPRESSED) !== 0) output.append(block);
    else decompressBlock(block, output);
    position = end + ((flags & FLAGS.blockChecksum) === 0 ? 0 : 4);
  }
}

/** Sequences of literals and of a match, which repeats what has been put out before. */
function decompressBlock(block: Uint8Array, output: Output): void {
  let i = 0;
  const length = (nibble: number): number => {
    let total = nibble;
    for (let byte = nibble === 15 ? 255 : 0; byte === 255; ) total += byte = block[i++];
    return total;
  };
  while (i < block.length) {
    const token = block[i++];
    const literals = length(token >>> 4);
    output.append(block.subarray(i, i + literals));
    i += literals;
    if (i >= block.length) return; // the last sequence has no match
    const offset = block[i] | (block[i + 1] << 8);
    i += 2;
    output.repeat(offset, length(token & 15) + SHORTEST_MATCH);
  }
}

/** Bytes that grow at the end. */
class Output {
  #buffer: Uint8Array;
  #length = 0;

  constructor(capacity: number) {
    this.#buffer = new Uint8Array(capacity);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#buffer.length) return;
    const grown = new Uint8Array(2 * (this.#length + more));
    grown.set(this.bytes());
    this.#buffer = grown;
  }

  append(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** `length` bytes from `offset` bytes back; they may be among those that it puts out. */
  repeat(offset: number, length: number): void {
    if (offset === 0 || offset > this.#length) throw new Error(`an LZ4 match ${offset} bytes back, where nothing is`);
    this.#reserve(length);
    for (let i = 0; i < length; i++, this.#length++) this.#buffer[this.#length] = this.#buffer[this.#length - offset];
  }

  bytes(): Uint8Array {
    return this.#buffer.subarray(0, this.#length);
  }
}
