import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { goldenPath } from '../golden/golden.ts';
import { argumentsOf, refused, type Workplace, workplace } from './refused.ts';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
});
afterAll(() => folder[Symbol.dispose]());

const long = JSON.stringify({ text: 'long enough' });
const FILES: [what: string, file: string, content: string | Buffer | undefined, message: string | RegExp][] = [
  [
    'a file that is not there',
    'nowhere.txt',
    undefined,
    /cannot read .*nowhere\.txt: no such file or folder \(ENOENT\)/,
  ],
  [
    'a file of unknown format',
    'text.tsv',
    'a,b',
    /text\.tsv: cannot tell how to read it: expected \.txt, \.jsonl, \.json, \.csv, \.parquet/,
  ],
  ['an empty text', 'empty.txt', '', /empty\.txt: the file is empty/],
  ['white space alone', 'white.txt', ' \n\t\n', /white\.txt: the file holds white space only/],
  ['an empty .jsonl', 'empty.jsonl', '\n\n', /empty\.jsonl: the file holds no rows; expected a JSON object a line/],
  ['an empty document', 'row.jsonl', `${long}\n{"text": ""}\n`, /row\.jsonl:2: "text" is empty/],
  [
    'text that is not UTF-8',
    'latin.txt',
    Buffer.from('caf\xe9 au lait', 'latin1'),
    /latin\.txt: byte 3 \(0xe9\) is not UTF-8\. Convert the file/,
  ],
  [
    'a .jsonl that is not UTF-8',
    'latin.jsonl',
    Buffer.from(`${long}\n{"text": "caf\xe9"}\n`, 'latin1'),
    /latin\.jsonl:2: byte 36 \(0xe9\) is not UTF-8\. Convert the file/,
  ],
  ['a broken row', 'torn.jsonl', `${long}\n{"text": "to`, /torn\.jsonl:2: not a JSON object on one line/],
  [
    'another column',
    'column.jsonl',
    '{"content": "x"}\n',
    /column\.jsonl:1: expected a column "text", found .*"content"/,
  ],
  [
    'two documents of one id',
    'twice.jsonl',
    '{"id":1,"text":"ab"}\n{"id":1,"text":"cd"}\n',
    /twice\.jsonl:2: the id "1" is also/,
  ],
];

describe.each(['rollout', 'train rlp', 'train cpt'])('%s refuses', (command) => {
  it.each(FILES)('%s', async (_what, name, content, message) => {
    const file = folder.in(name);
    if (content !== undefined) writeFileSync(file, content);
    expect(await refused(folder, argumentsOf(command, folder, { data: file }))).toMatch(message);
  });

  it('a folder', async () => {
    mkdirSync(folder.in('texts.txt'), { recursive: true });
    expect(await refused(folder, argumentsOf(command, folder, { data: folder.in('texts.txt') }))).toMatch(
      /cannot read .*texts\.txt: it is a folder, not a file \(EISDIR\)/,
    );
  });
});

describe.each(['rollout', 'train rlp'])('%s refuses', (command) => {
  it('documents that are shorter than one position', async () => {
    writeFileSync(folder.in('short.jsonl'), '{"text":"a"}\n{"text":"b"}\n');
    expect(await refused(folder, argumentsOf(command, folder, { data: folder.in('short.jsonl') }))).toMatch(
      /none of the 2 has a position to think at, which takes at least 2 tokens \(1 before, 1 after\) \(the first, .*short\.jsonl:1, has 1\)/,
    );
  });

  it('a horizon longer than every document', async () => {
    expect(await refused(folder, argumentsOf(command, folder, { horizon: '60' }))).toMatch(
      /none of the 1 has a position to think at, which takes at least 61 tokens/,
    );
  });

  it('positions that the data does not list, or that lie outside of it', async () => {
    expect(await refused(folder, argumentsOf(command, folder, { 'position-strategy': 'column' }))).toMatch(
      /text\.txt:1: --position-strategy column, but the data has no column "positions" for it/,
    );
    writeFileSync(folder.in('far.jsonl'), '{"text":"abc","positions":[9]}\n');
    const args = argumentsOf(command, folder, { 'position-strategy': 'column', data: folder.in('far.jsonl') });
    expect(await refused(folder, args)).toMatch(/far\.jsonl:1: "positions"\[0\] must be an integer from 0 to 2/);
  });

  it('thoughts longer than the model has positions', async () => {
    expect(await refused(folder, argumentsOf(command, folder, { 'max-thought-tokens': '512' }))).toMatch(
      /--max-thought-tokens 512: with the delimiters and --horizon 1 this leaves no room for text in the model's 512 positions/,
    );
    expect(await refused(folder, argumentsOf(command, folder, { prompt: 'Think! '.repeat(80) }))).toMatch(
      /--max-thought-tokens 4: with the delimiters, 560 tokens of --prompt and --horizon 1 this leaves no room for text/,
    );
  });

  it('a prompt that the vocabulary cannot spell', async () => {
    const file = folder.in('model', 'tokenizer.json');
    const original = readFileSync(file, 'utf8');
    const tokenizer = JSON.parse(original);
    delete tokenizer.model.vocab['!'];
    writeFileSync(file, JSON.stringify(tokenizer));
    const message = await refused(folder, argumentsOf(command, folder, { prompt: 'Think!' })).finally(() =>
      writeFileSync(file, original),
    );
    expect(message).toMatch(
      /^--prompt: the vocabulary of .*tokenizer\.json cannot spell it, and makes "Think" of it; word it otherwise, or leave it out: --prompt none$/,
    );
  });
});

describe.each(['rollout', 'train rlp', 'train cpt'])('%s refuses', (command) => {
  const given = (data: string, more: Record<string, string> = {}) =>
    refused(folder, argumentsOf(command, folder, { data, ...more }));

  it('a pattern that nothing matches, and a folder', async () => {
    expect(await given(folder.in('none-*.jsonl'))).toMatch(/data .*none-\*\.jsonl: no file matches the pattern/);
    mkdirSync(folder.in('corpus'), { recursive: true });
    expect(await given(folder.in('corpus'))).toMatch(
      /corpus: is a folder; name its files, for example as ".*\*\.jsonl"/,
    );
  });

  it('a Parquet file that was cut off, columns that are not there, texts that are null', async () => {
    const whole = goldenPath('data', 'zstd.parquet');
    writeFileSync(folder.in('cut.parquet'), readFileSync(whole).subarray(0, 5000));
    expect(await given(folder.in('cut.parquet'))).toMatch(
      /cut\.parquet: not a whole Parquet file .*Is the download complete/,
    );
    expect(await given(whole, { 'text-column': 'body' })).toMatch(
      /zstd\.parquet:1: expected a column "body", found the columns "text", "id", .* --on-bad-rows skip$/,
    );
    expect(await given(goldenPath('data', 'null.feather'))).toMatch(
      /null\.feather:2: "text" must be a string, found null\. To leave such rows out and go on: --on-bad-rows skip$/,
    );
  });
});

describe('train refuses', () => {
  it.each([
    ['0', /--data-weights 0: must be numbers above 0/],
    ['much', /--data-weights much: must be numbers above 0/],
  ])('weights that are none: %s', async (weight, message) => {
    expect(await refused(folder, argumentsOf('train rlp', folder, { 'data-weights': weight }))).toMatch(message);
  });

  it('weights without their data', async () => {
    const args = [...argumentsOf('train rlp', folder, { 'data-weights': '0.5' }), '0.5'];
    expect(await refused(folder, args)).toMatch(
      /--data-weights .*: must be one for each --data \(1\); quote a pattern/,
    );
  });

  it.each(['train rlp', 'train cpt'])('held-out text that is missing (%s)', async (command) => {
    expect(await refused(folder, argumentsOf(command, folder, { 'eval-data': folder.in('nowhere.txt') }))).toMatch(
      /cannot read .*nowhere\.txt: no such file or folder/,
    );
  });

  it('fewer documents than a step takes', async () => {
    expect(await refused(folder, argumentsOf('train rlp', folder, { 'documents-per-step': '2' }))).toBe(
      'the data has 1 documents that can be used, but a step takes 2. Lower --documents-per-step to 1 or less, or add data',
    );
  });

  it('less text than a step takes', async () => {
    expect(await refused(folder, argumentsOf('train cpt', folder, { 'batch-tokens': '160' }))).toBe(
      'the data has 46 tokens, but a step takes 160. Lower --batch-tokens to 46 or less, or add data',
    );
  });

  it('blocks longer than the model has positions', async () => {
    const args = argumentsOf('train cpt', folder, { 'block-length': '513', 'batch-tokens': '513' });
    expect(await refused(folder, args)).toBe('--block-length 513: the model has 512 positions');
  });
});
