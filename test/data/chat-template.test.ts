import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type ChatMessage, type ChatSegment, ChatTemplate, loadChatTemplate } from '../../src/data/chat-template.ts';
import { loadTokenizer } from '../../src/data/tokenizer.ts';
import { UserError } from '../../src/errors.ts';
import { goldenPath, readGoldenJson } from '../golden/golden.ts';

type Name = 'keeps-thoughts' | 'drops-thoughts' | 'marked' | 'marked-keeps-thoughts';
interface GoldenChat {
  templates: Record<Name, string>;
  cases: { messages: ChatMessage[]; rendered: Record<Name, { text: string; ids: number[]; mask?: number[] }> }[];
}
const { templates, cases } = readGoldenJson<GoldenChat>('chat/chat');
const segmentsOf = (name: Name, messages: readonly ChatMessage[]) =>
  new ChatTemplate(name, templates[name]).segments(messages, 'chat.jsonl:1');
const textOf = (segments: readonly ChatSegment[]) => segments.map(({ text }) => text).join('');

/** Tokens and mask as SFT has them: piece by piece. */
async function tokensOf(segments: readonly ChatSegment[]) {
  const tokenizer = await loadTokenizer(goldenPath('chat'));
  const pieces = segments.map(({ text, trained }) => ({ ids: Array.from(tokenizer.encode(text)), trained }));
  return {
    ids: pieces.flatMap(({ ids }) => ids),
    mask: pieces.flatMap(({ ids, trained }) => ids.map(() => Number(trained))),
  };
}

describe.each(cases.map((golden, i) => [i, golden] as const))('golden conversation %i', (_, { messages, rendered }) => {
  it.each(['marked', 'marked-keeps-thoughts'] as const)(
    '%s: tokens and assistant mask are those of transformers',
    async (name) => {
      const [segments, ...others] = segmentsOf(name, messages);
      expect(others).toEqual([]);
      expect(textOf(segments)).toBe(rendered[name].text);
      expect(await tokensOf(segments)).toEqual({ ids: rendered[name].ids, mask: rendered[name].mask });
    },
  );

  it('a template that renders turns alike whatever follows gives the same mask without marks, up to the last response', async () => {
    const [segments, ...others] = segmentsOf('keeps-thoughts', messages);
    expect(others).toEqual([]);
    const { ids, mask } = await tokensOf(segments);
    const golden = rendered['marked-keeps-thoughts'];
    const end = (golden.mask?.lastIndexOf(1) ?? 0) + 1;
    expect(ids).toEqual(golden.ids.slice(0, end));
    expect(mask).toEqual(golden.mask?.slice(0, end));
  });

  it('a template that drops the thoughts of earlier turns gives a sequence a turn, the last of them the whole', () => {
    if (messages[0].role === 'assistant') {
      // The first of two answers in a row loses its thought to the second: the template cannot say what was written.
      expect(() => segmentsOf('drops-thoughts', messages)).toThrow('renders message 2 otherwise than behind its own');
      return;
    }
    const sequences = segmentsOf('drops-thoughts', messages);
    const turns = messages.flatMap(({ role }, i) => (role === 'assistant' ? [i] : []));
    expect(sequences).toHaveLength(turns.length);
    for (const segments of sequences) expect(segments.filter(({ trained }) => trained)).toHaveLength(1);
    if (messages.at(-1)?.role === 'assistant') {
      expect(`${textOf(sequences[sequences.length - 1])}\n`).toBe(rendered['drops-thoughts'].text);
    }
  });
});

it('trains each turn with its thought, and shows earlier ones without', () => {
  const sequences = segmentsOf('drops-thoughts', cases[1].messages);
  expect(sequences.map((segments) => segments.map(({ text }) => text))).toEqual([
    [
      '<|im_start|>system\nBe brief.\n<|im_end|>\n<|im_start|>user\n  né, déjà vu?  <|im_end|>\n<|im_start|>assistant\n',
      '<think>\nfrench\n</think>\n\nOui.<|im_end|>',
    ],
    [
      '<|im_start|>system\nBe brief.\n<|im_end|>\n<|im_start|>user\n  né, déjà vu?  <|im_end|>\n<|im_start|>assistant\nOui.' +
        '<|im_end|>\n<|im_start|>user\n日本語?<|im_end|>\n<|im_start|>assistant\n',
      '<think>\n\n</think>\n\nはい <b>👧</b>\n\n<|im_end|>',
    ],
  ]);
});

const ANSWERED: ChatMessage[] = [
  { role: 'user', content: 'a' },
  { role: 'assistant', content: 'b' },
  { role: 'user', content: 'c' },
  { role: 'assistant', content: 'd' },
];

it.each(['keeps-thoughts', 'marked'] as const)('%s: trains from a given message on', (name) => {
  const sequences = new ChatTemplate(name, templates[name]).segments(ANSWERED, 'chat.jsonl:1', 2);
  const trained = sequences.flat().flatMap(({ text, trained }) => (trained ? [text] : []));
  expect(trained).toEqual(['<think>\n\n</think>\n\nd<|im_end|>']);
});

describe('refuses', () => {
  const refusal = (source: string) => {
    try {
      new ChatTemplate('my.jinja', source).segments(ANSWERED, 'chat.jsonl:7');
    } catch (thrown) {
      expect(thrown).toBeInstanceOf(UserError);
      return (thrown as Error).message;
    }
    throw new Error('it did not');
  };

  it('what is no template', () => {
    expect(refusal('{% for %}')).toMatch(/^my\.jinja: not a chat template that can be used here \(/);
  });

  it('messages that the template refuses', () => {
    expect(refusal("{{ raise_exception('no roles here') }}")).toBe(
      'chat.jsonl:7: the chat template (my.jinja) refuses the messages: no roles here',
    );
  });

  it('a turn that does not begin with its generation prompt', () => {
    expect(
      refusal('{% for m in messages %}{{ m.content }}{% endfor %}{% if add_generation_prompt %}bot: {% endif %}'),
    ).toBe(
      'chat.jsonl:7: the chat template (my.jinja) renders message 2 otherwise than behind its own generation prompt, so that ' +
        'what the assistant wrote cannot be told. Put {% generation %} and {% endgeneration %} around it in the template, and ' +
        'give that with --chat-template',
    );
  });
});

describe('is loaded from', () => {
  const folder = () => {
    const path = mkdtempSync(join(tmpdir(), 'chat-'));
    onTestFinished(() => rmSync(path, { recursive: true, force: true }));
    return path;
  };
  const text = (template: ChatTemplate | undefined) =>
    template && textOf(template.segments(ANSWERED.slice(0, 2), 'x')[0]);

  it('chat_template.jinja, as transformers writes it', async () => {
    expect((await loadChatTemplate(goldenPath('chat')))?.path).toBe(goldenPath('chat', 'chat_template.jinja'));
  });

  it('tokenizer_config.json, where it may be one of several, with the special tokens', async () => {
    const path = folder();
    const template = '{% for m in messages %}{{ m.content + eos_token }}{% endfor %}';
    for (const chat_template of [
      template,
      [
        { name: 'tool_use', template: 'x' },
        { name: 'default', template },
      ],
    ]) {
      writeFileSync(
        join(path, 'tokenizer_config.json'),
        JSON.stringify({ chat_template, eos_token: { content: '<end>' } }),
      );
      expect(text(await loadChatTemplate(path))).toBe('a<end>b<end>');
    }
  });

  it('a file of its own', async () => {
    const path = folder();
    writeFileSync(join(path, 'mine.jinja'), '{% for m in messages %}{{ m.content }}/{% endfor %}');
    expect(text(await loadChatTemplate(path, join(path, 'mine.jinja')))).toBe('a/b/');
    await expect(loadChatTemplate(path, join(path, 'none.jinja'))).rejects.toThrow(
      `--chat-template ${join(path, 'none.jinja')}: no such file; expected a Jinja template`,
    );
  });

  it('nowhere', async () => {
    expect(await loadChatTemplate(folder())).toBeUndefined();
  });
});
