import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { trainSchema } from '../../src/config.ts';
import { ChatTemplate } from '../../src/data/chat-template.ts';
import { SFT_COLUMNS, type SftColumns, SftLayout } from '../../src/data/sft-columns.ts';
import { SftData } from '../../src/data/sft-data.ts';
import { type SftRow, sftRowOf } from '../../src/data/sft-row.ts';
import { type SftOptions, type SftSample, SftTokenizer } from '../../src/data/sft-sample.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { byteTokenizer } from './fixture.ts';

/** Has the tokenizer of the fixture. */
const TINY = 'models/tiny-qwen3';
const tokenizer = byteTokenizer();
const row = (values: Record<string, unknown>, columns: Partial<SftColumns> = {}): SftRow =>
  sftRowOf(
    { file: 'a.jsonl', row: 3, values, columns: Object.keys(values) },
    new SftLayout({ ...SFT_COLUMNS, ...columns }),
  );
const refusal = (values: Record<string, unknown>, columns: Partial<SftColumns> = {}): string => {
  try {
    row(values, columns);
  } catch (thrown) {
    return (thrown as Error).message;
  }
  throw new Error('it was not refused');
};

const TEMPLATE = new ChatTemplate(
  'my.jinja',
  '{% for m in messages %}{{ m.role[0] + ":" + m.content + ";" }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}',
);
const OPTIONS: SftOptions = {
  ...{ tokenizer, chatTemplate: TEMPLATE, promptsAreChat: false, lossOn: 'response', lossOnTarget: false },
  ...{ think: tokenizer.thinkTokens(), thinkOpen: '<think>', thinkClose: '</think>' },
  ...{ prompt: new Int32Array(0), maxTokens: 100 },
};
const make = (more: Partial<SftOptions> = {}) => new SftTokenizer({ ...OPTIONS, ...more });
/** The text with its targets in brackets. */
const bracketed = ({ tokens, targets }: SftSample) =>
  Array.from(tokens, (token, i) => {
    const text = tokenizer.decode([token]);
    return targets.includes(i) ? `[${text}]` : text;
  }).join('');
const shown = (values: Record<string, unknown>, more: Partial<SftOptions> = {}) =>
  make(more).take(row(values))?.map(bracketed);

const MESSAGES = [
  { role: 'user', content: 'ab' },
  { role: 'assistant', content: 'c' },
  { role: 'user', content: 'd' },
  { role: 'assistant', content: 'ef' },
];

describe('an example is', () => {
  it('a prompt and a response, or completion, that ends the text', () => {
    expect(shown({ prompt: 'ab', response: 'c' })).toEqual(['ab[c][<|endoftext|>]']);
    expect(shown({ prompt: 'ab', completion: 'c' })).toEqual(['ab[c][<|endoftext|>]']);
    expect(shown({ prompt: 'ab', response: 'c' }, { lossOn: 'all' })).toEqual(['a[b][c][<|endoftext|>]']);
  });

  it('a prompt and a response as messages, on demand', () => {
    expect(shown({ prompt: 'ab', response: 'c' }, { promptsAreChat: true })).toEqual(['u:ab;a:[c][;]']);
  });

  it('a conversation, with each turn of the assistant', () => {
    expect(shown({ messages: MESSAGES })).toEqual(['u:ab;a:[c][;]u:d;a:[e][f][;]']);
  });

  it('a conversation as prompt and completion, with the turns of the completion', () => {
    const [first, ...rest] = MESSAGES.toReversed();
    expect(shown({ prompt: rest.toReversed(), completion: [first] })).toEqual(['u:ab;a:c;u:d;a:[e][f][;]']);
  });

  it('a thought behind a prefix, and what follows', () => {
    const values = { prefix: 'ab ', thought: 'xy', target: 'c' };
    expect(shown(values)).toEqual(['ab <think>[x][y][</think>]c']);
    expect(shown(values, { lossOnTarget: true })).toEqual(['ab <think>[x][y][</think>][c]']);
    expect(shown(values, { prompt: tokenizer.encode('p:') })).toEqual(['p:ab <think>[x][y][</think>]c']);
    // As `rollout` writes it: the delimiter that was sampled is part of the thought.
    const rollout = { context: 'ab ', thought: 'xy</think>', target: 'c', finish_reason: 'closed' };
    expect(shown(rollout)).toEqual(['ab <think>[x][y][</think>]c']);
  });

  it('a thought at a position, in characters, of a text', () => {
    expect(shown({ text: '👧bcd', position: 2, thought: 'x' })?.[0]).toMatch(/b<think>\[x\]\[<\/think>\]cd$/);
  });
});

describe('columns of other names', () => {
  const source = { id: 'a.jsonl:3', source: { file: 'a.jsonl', row: 3 } };

  it.each<[Partial<SftColumns>, Record<string, unknown>, object]>([
    [
      { prompt: 'q', response: 'a' },
      { q: 'x', a: 'y' },
      { kind: 'text', prompt: 'x', response: 'y' },
    ],
    [{ prompt: 'q' }, { q: 'x', completion: 'y' }, { kind: 'text', prompt: 'x', response: 'y' }],
    [{ messages: 'chat' }, { chat: MESSAGES }, { kind: 'chat', messages: MESSAGES, firstTrained: 0 }],
    [
      { thought: 'why', prefix: 'before', target: 'after' },
      { why: 'x', before: 'y', after: ' ' },
      { kind: 'thought', thought: 'x', prefix: 'y', target: ' ' },
    ],
    [
      { thought: 'why', text: 'body', position: 'at' },
      { why: 'x', body: 'yz', at: 1 },
      { kind: 'thought', thought: 'x', prefix: 'y', target: 'z' },
    ],
  ])('%j', (columns, values, expected) => {
    expect(row(values, columns)).toEqual({ ...source, ...expected });
  });

  it('say which kind of example a row is that could be several', () => {
    const values = { messages: MESSAGES, prompt: 'x', q: 'y', response: 'z' };
    expect(row(values)).toMatchObject({ kind: 'chat' });
    expect(row(values, { prompt: 'q' })).toMatchObject({ kind: 'text', prompt: 'y' });
  });

  it.each<[Partial<SftColumns>, Record<string, unknown>, string]>([
    [{ prompt: 'q' }, { prompt: 'x', q: null }, '"q" and "response" (or "completion"), found "prompt", "q" (null)'],
    [{ response: 'a' }, { prompt: 'x', completion: 'y' }, '"prompt" and "a", found "prompt", "completion"'],
    [{ messages: 'chat' }, { messages: MESSAGES }, '"chat", found "messages"'],
    [{ prefix: 'p' }, { context: 'x' }, '"thought" and "p" (or "text" and "position"), found "context"'],
    [{ messages: 'chat', response: 'a' }, {}, '"chat", or "prompt" and "a", found no columns'],
  ])('%j are asked for by these names', (columns, values, message) => {
    expect(refusal(values, columns)).toBe(`a.jsonl:3: expected the columns ${message}`);
  });

  it.each<[string[], Record<string, unknown>, string]>([
    [['prompt', 'response'], { q0: 'ab', q1: 'c' }, 'ab[c][<|endoftext|>]'],
    [['messages'], { q0: MESSAGES.slice(0, 2) }, 'u:ab;a:[c][;]'],
    [['thought', 'prefix', 'target'], { q0: 'x', q1: 'ab', q2: 'c' }, 'ab<think>[x][</think>]c'],
    [['thought', 'text', 'position'], { q0: 'x', q1: 'abc', q2: 2 }, 'ab<think>[x][</think>]c'],
  ])('come from the flags of %j', async (flags, values, expected) => {
    using folder = temporaryFolder();
    writeFileSync(folder.in('a.jsonl'), JSON.stringify(values));
    const named = Object.fromEntries(flags.map((flag, i) => [`${flag}Column`, `q${i}`]));
    const settings = { model: 'm', data: [folder.in('a.jsonl')], run: 'r', objective: 'sft', ...named };
    const { data } = trainSchema.parse(settings);
    const opened = await SftData.open(
      data,
      { ...OPTIONS, tokenizer: await loadTokenizer(TINY) },
      trainSchema.parse(settings),
    );
    expect((await opened.all()).map(bracketed)).toEqual([expected]);
  });

  it('are named in what is wrong with a value', () => {
    expect(refusal({ chat: 'x' }, { messages: 'chat' })).toBe(
      'a.jsonl:3: "chat" must be an array of messages, found a string',
    );
    expect(refusal({ why: 'x', body: 'ab', at: '1' }, { thought: 'why', text: 'body', position: 'at' })).toBe(
      'a.jsonl:3: "at" must be an integer from 1 to 2 ("body" has 2 characters), found a string',
    );
  });
});

describe('counted is', () => {
  it('what has no response: a conversation without one, a thought that was cut off, a response behind the limit', () => {
    const samples = make({ maxTokens: 4 });
    expect(samples.take(row({ messages: MESSAGES.slice(0, 1) }))).toBeUndefined();
    expect(samples.take(row({ prefix: 'a', thought: 'x', finish_reason: 'length' }))).toBeUndefined();
    expect(samples.take(row({ prompt: 'abcd', response: 'e' }))).toBeUndefined();
    expect(samples.skipped).toBe(3);
    expect(samples.noneOfUse().message).toBe(
      'the data has nothing to train on: none of its 3 examples has a token of a response within 4 tokens (--block-length, and ' +
        "the model's positions); the first is a.jsonl:3",
    );
  });

  it('what is cut', () => {
    const samples = make({ maxTokens: 4 });
    expect(samples.take(row({ prompt: 'abc', response: 'defg' }))).toEqual([
      { tokens: Int32Array.from(tokenizer.encode('abcd')), targets: [3] },
    ]);
    expect([samples.skipped, samples.truncated]).toEqual([0, 1]);
  });
});

describe('refused is', () => {
  it.each([
    [
      { text: 'a', prompt: null },
      'expected the columns "messages", or "prompt" and "response" (or "completion"), or "thought" and "prefix" (or ' +
        '"context", or "text" and "position"), found "text", "prompt" (null)',
    ],
    [{ prompt: 'a', response: '' }, '"response" is empty'],
    [{ messages: 'a' }, '"messages" must be an array of messages, found a string'],
    [{ messages: [] }, '"messages" has no messages'],
    [{ messages: [1] }, '"messages"[0] must be an object with "role" and "content", found a number'],
    [{ messages: [{ content: 'a' }] }, '"messages"[0].role must be a string, found null'],
    [{ messages: [{ role: 'user', content: 3 }] }, '"messages"[0].content must be a string, found a number'],
    [
      { text: 'ab', position: 3, thought: 'x' },
      '"position" must be an integer from 1 to 2 ("text" has 2 characters), found 3',
    ],
  ])('%j', (values, message) => {
    expect(refusal(values)).toBe(`a.jsonl:3: ${message}`);
  });

  it('a conversation for a model without a chat template', () => {
    expect(() => make({ chatTemplate: undefined }).take(row({ messages: MESSAGES }))).toThrow(
      'a.jsonl:3: a conversation needs a chat template, and the model has none (chat_template.jinja, or "chat_template" in ' +
        'tokenizer_config.json); give one with --chat-template FILE',
    );
  });
});
