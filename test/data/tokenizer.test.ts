import { mkdirSync, writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { tokenizerConfig, tokenizerJson } from '../../scripts/tiny-qwen3/make-tokenizer.ts';
import { checkTokenizerFits, loadTokenizer, Tokenizer } from '../../src/data/tokenizer.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { byteTokenizer, mergingTokenizer } from './fixture.ts';

const TEXTS = [
  '314159=<think>348943</think>3\n',
  "  don't\t\r\n\n  ",
  'naïve 日本語 👩‍👩‍👧',
  'e\u0301\u0000\ufeff',
  '<think',
  '',
];

describe('encode and decode', () => {
  it.each(TEXTS)('round trip of %j', (text) => {
    const tokenizer = byteTokenizer();
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  it('gives bytes as ids, and tags as single tokens', () => {
    expect([...byteTokenizer().encode('1é<think>\n')]).toEqual([49, 0xc3, 0xa9, 257, 10]);
  });

  it('knows its special tokens', () => {
    const { vocabSize, eosId, padId, specialTokens } = byteTokenizer();
    expect({ vocabSize, eosId, padId }).toEqual({ vocabSize: 259, eosId: 256, padId: 256 });
    expect([...specialTokens]).toEqual([
      ['<|endoftext|>', 256],
      ['<think>', 257],
      ['</think>', 258],
    ]);
  });

  it('takes eos_token as an object, and has none without tokenizer_config.json', () => {
    const config = { eos_token: { content: '<|endoftext|>', special: true } };
    expect(new Tokenizer('t', tokenizerJson(), config).eosId).toBe(256);
    expect(new Tokenizer('t', tokenizerJson()).eosId).toBeUndefined();
  });

  it('leaves spaces before punctuation alone', () => {
    const tokenizer = new Tokenizer('t', tokenizerJson(), { clean_up_tokenization_spaces: true });
    expect(tokenizer.decode(tokenizer.encode('a . b'))).toBe('a . b');
  });

  it('shows padding rows of the embedding and halves of characters as U+FFFD', () => {
    expect(byteTokenizer().decode([97, 263, 98, 0xc3])).toBe('a\ufffdb\ufffd');
  });

  it('names a character outside of the vocabulary', () => {
    const json = {
      ...tokenizerJson(),
      model: { type: 'WordLevel', vocab: { a: 0 }, unk_token: null },
      pre_tokenizer: null,
    };
    expect(() => new Tokenizer('t', json).encode('b')).toThrow('t: the vocabulary has no token for "b"');
  });
});

describe('encodeWithOffsets', () => {
  it('follows tokens that split characters or join parts of them', () => {
    const tokenizer = mergingTokenizer(['ab', Buffer.from('日本').subarray(0, 4)]);
    // ab | c | 日 and the first byte of 本 | its second | its third | <think> | ab
    expect([...tokenizer.encodeWithOffsets('abc日本<think>ab').byteStarts]).toEqual([0, 2, 3, 7, 8, 9, 16]);
  });

  it('counts in the normalized text', () => {
    const { byteStarts, normalize } = mergingTokenizer(['é']).encodeWithOffsets('e\u0301x');
    expect([...byteStarts]).toEqual([0, 2]);
    expect(normalize('e\u0301')).toBe('é');
  });

  it('refuses tokenizers whose tokens do not spell the text', () => {
    const prefixed = { ...tokenizerJson(), pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } };
    expect(() => new Tokenizer('t.json', prefixed).encodeWithOffsets('a b')).toThrow(
      't.json: from token 0 ("Ġ") on, the tokens of a text do not spell it: "positions" need a byte-level tokenizer',
    );
    const stripping = {
      ...tokenizerJson(),
      normalizer: { type: 'NFC' },
      added_tokens: [{ id: 256, content: '<s>', lstrip: true }],
    };
    expect(() => new Tokenizer('t.json', stripping).encodeWithOffsets('a <s>')).toThrow('from token 1 ("<s>") on');
  });
});

describe('thinkTokens', () => {
  it('defaults to <think> and </think>', () => {
    expect(byteTokenizer().thinkTokens()).toEqual({ open: [257], close: [258] });
  });

  it('takes any single tokens', () => {
    expect(byteTokenizer().thinkTokens('[', ']')).toEqual({ open: [91], close: [93] });
  });

  it('spells delimiters that are no tokens', () => {
    expect(mergingTokenizer(['thought']).thinkTokens('<thought>', '</thought>')).toEqual({
      open: [60, 261, 62],
      close: [60, 47, 261, 62],
    });
  });

  it('tells of delimiters that are spelled with several tokens, and how to choose others', () => {
    expect(byteTokenizer().delimiterNotice('<think>', '</think>')).toBeUndefined();
    const tokenizer = mergingTokenizer(['thought']);
    const others = 'choose others with --think-open and --think-close. It has special tokens such as <think>';
    expect(tokenizer.delimiterNotice('<thought>', '</thought>')).toBe(
      '--think-open "<thought>" is spelled with 3 tokens, --think-close "</thought>" is spelled with 4 tokens: the vocabulary of ' +
        'bpe/tokenizer.json has no token for it. A delimiter of one token costs less and is found more easily by the model: ' +
        others,
    );
    expect(tokenizer.delimiterNotice('<think>', '</think>')).toMatch(
      /^--think-close "<\/think>" is spelled with 7 tokens: /,
    );
  });

  it('says how to choose delimiters where the vocabulary cannot spell them', () => {
    const model = { type: 'BPE', vocab: { h: 0, i: 1 }, merges: [], unk_token: null };
    const small = new Tokenizer('small.json', { ...tokenizerJson(), model });
    expect(() => small.thinkTokens('<thought>', '</think>')).toThrow(
      '--think-open "<thought>": the vocabulary of small.json cannot spell it. Delimit thoughts by text that it can, with ' +
        '--think-open and --think-close. It has special tokens such as <think> </think>',
    );
    expect(() => byteTokenizer().thinkTokens('|', '|')).toThrow('a thought could not end');
  });
});

describe('loadTokenizer', () => {
  it('reads a model directory', async () => {
    using folder = temporaryFolder();
    writeFileSync(folder.in('tokenizer.json'), JSON.stringify(tokenizerJson()));
    expect((await loadTokenizer(folder.path)).eosId).toBeUndefined();
    writeFileSync(folder.in('tokenizer_config.json'), JSON.stringify(tokenizerConfig()));
    expect((await loadTokenizer(folder.path)).eosId).toBe(256);
  });

  it('takes the ends of a text from generation_config.json, too', async () => {
    using folder = temporaryFolder();
    const config = folder.in('generation_config.json');
    writeFileSync(folder.in('tokenizer.json'), JSON.stringify(tokenizerJson()));
    const endsWith = async (generation: object) => {
      writeFileSync(config, JSON.stringify(generation));
      return (await loadTokenizer(folder.path)).endOfText;
    };
    expect((await loadTokenizer(folder.path)).endOfText).toEqual([]);
    expect(await endsWith({ eos_token_id: 10 })).toEqual([10]);
    writeFileSync(folder.in('tokenizer_config.json'), JSON.stringify(tokenizerConfig()));
    expect(await endsWith({ eos_token_id: 10 })).toEqual([256, 10]);
    expect(await endsWith({ eos_token_id: [257, 256] })).toEqual([256, 257]); // as Qwen3's is
    expect(await endsWith({ eos_token_id: null })).toEqual([256]);
    expect(await endsWith({ temperature: 0.6 })).toEqual([256]);
    const expected = 'expected a token id or a list of token ids';
    await expect(endsWith({ eos_token_id: '</s>' })).rejects.toThrow(`${config}: eos_token_id is "</s>": ${expected}`);
    await expect(endsWith({ eos_token_id: [1, -1] })).rejects.toThrow(`eos_token_id is [1,-1]: ${expected}`);
    writeFileSync(config, JSON.stringify({ eos_token_id: 300 }));
    const foreign = await loadTokenizer(folder.path);
    expect(() => checkTokenizerFits(foreign, 300)).toThrow(
      `${config}: eos_token_id 300 is no token of the model, whose ids go from 0 to 299. Use the file that belongs to the model`,
    );
    expect(() => checkTokenizerFits(foreign, 301)).not.toThrow();
  });

  it('says what is missing or broken', async () => {
    using folder = temporaryFolder();
    const path = folder.in('tokenizer.json');
    const fails = (message: string) =>
      expect(loadTokenizer(folder.path)).rejects.toMatchObject({
        name: 'UserError',
        message: expect.stringContaining(message),
      });
    await fails(`${path}: no such file. Expected the tokenizer of the model`);
    writeFileSync(path, '{"model": ');
    await fails(`${path}: not valid JSON`);
    writeFileSync(path, '[]');
    await fails(`${path}: expected a JSON object`);
    writeFileSync(path, '{"added_tokens": []}');
    await fails(`${path}: not a tokenizer that can be used here`);
    writeFileSync(path, JSON.stringify(tokenizerJson()));
    mkdirSync(folder.in('tokenizer_config.json'));
    await fails('it is a folder');
  });
});

describe('checkTokenizerFits', () => {
  it('allows padding rows, not missing ones', () => {
    checkTokenizerFits(byteTokenizer(), 264);
    checkTokenizerFits(byteTokenizer(), 259);
    expect(() => checkTokenizerFits(byteTokenizer(), 258)).toThrow(
      `byte/tokenizer.json: the tokenizer has ids up to 258 ("</think>"), but the model's embedding has only 258 rows`,
    );
  });
});
