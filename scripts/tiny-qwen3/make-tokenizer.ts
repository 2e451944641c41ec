import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BYTE_SYMBOLS } from '../../src/data/byte-level.ts';

/**
 * Tokenizer of the tiny model: byte-level BPE without merges, so that one byte is one token and its id is the byte.
 * Qwen3's special tokens follow: end of text, and the tags of a thought. As with Qwen3 the tags are not "special" in the
 * sense of transformers: decoding with skip_special_tokens keeps them.
 */
const ADDED_TOKENS = [
  { content: '<|endoftext|>', special: true },
  { content: '<think>', special: false },
  { content: '</think>', special: false },
];

const BYTE_LEVEL = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: false, use_regex: true };

/** Content of tokenizer.json. */
export function tokenizerJson(): Record<string, unknown> {
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: ADDED_TOKENS.map(({ content, special }, i) => ({
      id: BYTE_SYMBOLS.length + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special,
    })),
    normalizer: null,
    pre_tokenizer: BYTE_LEVEL,
    post_processor: null,
    decoder: BYTE_LEVEL,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      vocab: Object.fromEntries(BYTE_SYMBOLS.map((symbol, byte) => [symbol, byte])),
      merges: [],
    },
  };
}

/** Content of tokenizer_config.json. */
export function tokenizerConfig(): Record<string, unknown> {
  return {
    tokenizer_class: 'PreTrainedTokenizerFast',
    bos_token: null,
    eos_token: '<|endoftext|>',
    pad_token: '<|endoftext|>',
    unk_token: null,
    clean_up_tokenization_spaces: false,
    model_max_length: 4096,
  };
}

/** Writes tokenizer.json and tokenizer_config.json. */
export async function writeTokenizer(folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  const files = { 'tokenizer.json': tokenizerJson(), 'tokenizer_config.json': tokenizerConfig() };
  for (const [name, content] of Object.entries(files)) {
    await writeFile(join(folder, name), `${JSON.stringify(content, null, 2)}\n`);
  }
}

// npx tsx scripts/tiny-qwen3/make-tokenizer.ts [FOLDER]
if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await writeTokenizer(process.argv[2] ?? fileURLToPath(new URL('../../models/tiny-qwen3', import.meta.url)));
}
