import { describe, expect, it } from 'vitest';
import { ChatTemplate } from '../../src/data/chat-template.ts';
import { type SftRow, sftRowOf } from '../../src/data/sft-row.ts';
import { type SftOptions, SftTokenizer } from '../../src/data/sft-sample.ts';
import { byteTokenizer } from './fixture.ts';

const tokenizer = byteTokenizer();
const row = (values: Record<string, unknown>): SftRow =>
  sftRowOf({ file: 'a.jsonl', row: 3, values, columns: Object.keys(values) });
const refusal = (values: Record<string, unknown>): string => {
  try {
    row(values);
  } catch (thrown) {
    return (thrown as Error).message;
  }
  throw new Error('it was not refused');
};

const TEMPLATE = new ChatTemplate(
  'my.jinja',
  '{% for m in messages %}{{ m.role[0] + ":" + m.content + ";" }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}',
);
const make = (more: Partial<SftOptions> = {}) =>
  new SftTokenizer({
    ...{ tokenizer, chatTemplate: TEMPLATE, promptsAreChat: false, lossOn: 'response', lossOnTarget: false },
    ...{ think: tokenizer.thinkTokens(), thinkOpen: '<think>', thinkClose: '</think>' },
    ...{ prompt: new Int32Array(0), maxTokens: 100 },
    ...more,
  });
/** The text with its targets in brackets. */
const shown = (values: Record<string, unknown>, more: Partial<SftOptions> = {}) =>
  make(more)
    .take(row(values))
    ?.map(({ tokens, targets }) =>
      Array.from(tokens, (token, i) => {
        const text = tokenizer.decode([token]);
        return targets.includes(i) ? `[${text}]` : text;
      }).join(''),
    );

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
      'expected the columns "messages", or "prompt" and "response" (or "completion"), or "thought" and "prefix" (or "text" and ' +
        '"position"), found "text", "prompt" (null)',
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
