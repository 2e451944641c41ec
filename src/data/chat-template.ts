import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { messageOf, UserError } from '../errors.ts';
import { errnoOf, fileError } from '../file-error.ts';

/** One message of a conversation; what else it holds (`tool_calls` ...) is for the template to read. */
export interface ChatMessage {
  role: string;
  content: string;
  [key: string]: unknown;
}

/** A stretch of text; `trained`: an assistant wrote it. */
export interface ChatSegment {
  text: string;
  trained: boolean;
}

/** Which spans the assistant wrote is marked in the rendered text by characters that no text has use for. */
const OPEN = '\u{10fffe}';
const CLOSE = '\u{10ffff}';

/**
 * A model's chat template (Jinja, as transformers renders it), and which part of its text the assistant wrote.
 *
 * With `{% generation %}` in the template, that is what stands inside, as in transformers' `return_assistant_tokens_mask`.
 * Without it, a conversation is rendered up to each message of the assistant, once before it with the generation prompt and
 * once behind it: what the second has more is what the model is to write there. White space behind its last word or token
 * is left out: the model has stopped by then.
 */
export class ChatTemplate {
  readonly #template: Template;
  readonly #marked: boolean;
  readonly #variables: Readonly<Record<string, unknown>>;
  /** Where the template came from, for messages. */
  readonly path: string;
  /** Jinja. */
  readonly source: string;

  /**
   * @param source Jinja
   * @param variables special tokens by name, say `eos_token`
   * @throws UserError if it is not a template
   */
  constructor(path: string, source: string, variables: Readonly<Record<string, unknown>> = {}) {
    this.path = path;
    this.source = source;
    this.#variables = variables;
    this.#marked = /{%-?\s*generation\s*-?%}/.test(source);
    // `if true` because white space around a tag is trimmed as it is around the tag that it replaces.
    const marked = source
      .replace(/{%(-?)\s*generation\s*(-?)%}/g, `{%$1 if true $2%}${OPEN}{% if true $2%}`)
      .replace(/{%(-?)\s*endgeneration\s*(-?)%}/g, `{%$1 endif %}${CLOSE}{% endif $2%}`);
    try {
      this.#template = new Template(marked);
    } catch (cause) {
      throw new UserError(`${path}: not a chat template that can be used here (${messageOf(cause)})`, { cause });
    }
  }

  #render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    return this.#template.render({ ...this.#variables, messages, add_generation_prompt: addGenerationPrompt });
  }

  /**
   * A conversation as text for training. It is one sequence if each turn is rendered the same whatever follows it;
   * otherwise (Qwen3 leaves the thoughts of earlier turns out) there is one for each turn of the assistant that differs,
   * as the model sees it when it is its turn.
   *
   * @param place of the conversation, for messages
   * @param firstTrained index of the first message that is trained on if it is the assistant's
   * @throws UserError if the template refuses the conversation, or if it renders a turn that does not begin as its own
   *   generation prompt does
   */
  segments(messages: readonly ChatMessage[], place: string, firstTrained = 0): ChatSegment[][] {
    return this.#refusing(place, () =>
      this.#marked ? this.#byMarks(messages, place, firstTrained) : this.#byTurns(messages, place, firstTrained),
    );
  }

  /**
   * A conversation that the assistant is to go on with, up to where it begins.
   * @param place of the conversation, for messages
   * @throws UserError if the template refuses it
   */
  prompt(messages: readonly ChatMessage[], place: string): string {
    return this.#refusing(place, () =>
      this.#render(messages, true).replaceAll(new RegExp(`[${OPEN}${CLOSE}]`, 'gu'), ''),
    );
  }

  #refusing<T>(place: string, render: () => T): T {
    try {
      return render();
    } catch (thrown) {
      if (thrown instanceof UserError) throw thrown;
      throw new UserError(`${place}: the chat template (${this.path}) refuses the messages: ${messageOf(thrown)}`, {
        cause: thrown,
      });
    }
  }

  #byMarks(messages: readonly ChatMessage[], place: string, firstTrained: number): ChatSegment[][] {
    const parts = this.#render(messages, false).split(new RegExp(`[${OPEN}${CLOSE}]`, 'u'));
    const turns = messages.flatMap(({ role }, i) => (role === 'assistant' ? [i] : []));
    const spans = (parts.length - 1) / 2;
    if (firstTrained > 0 && spans !== turns.length) {
      throw new UserError(
        `${place}: the chat template (${this.path}) marks ${spans} spans of ${turns.length} assistant messages, so that ` +
          'those of the response cannot be told; give the conversation as "messages"',
      );
    }
    return [
      parts.map((text, i) => ({
        text,
        trained: i % 2 === 1 && (firstTrained === 0 || turns[(i - 1) / 2] >= firstTrained),
      })),
    ];
  }

  #byTurns(messages: readonly ChatMessage[], place: string, firstTrained: number): ChatSegment[][] {
    const sequences: { text: string; segments: ChatSegment[] }[] = [];
    for (const [i, { role }] of messages.entries()) {
      if (role !== 'assistant' || i < firstTrained) continue;
      const before = this.#render(messages.slice(0, i), true);
      const behind = this.#render(messages.slice(0, i + 1), false);
      if (!behind.startsWith(before)) {
        throw new UserError(
          `${place}: the chat template (${this.path}) renders message ${i + 1} otherwise than behind its own generation prompt, ` +
            'so that what the assistant wrote cannot be told. Put {% generation %} and {% endgeneration %} around it in the ' +
            'template, and give that with --chat-template',
        );
      }
      const response = behind.slice(before.length).trimEnd();
      const last = sequences.at(-1);
      const continued = last !== undefined && before.startsWith(last.text);
      const segments = continued ? last.segments : [];
      segments.push(
        { text: before.slice(continued ? last.text.length : 0), trained: false },
        { text: response, trained: true },
      );
      const text = before + response;
      if (continued) last.text = text;
      else sequences.push({ text, segments });
    }
    return sequences.map(({ segments }) => segments);
  }
}

/** The default template of `chat_template`: a template, or a list of them by name. */
function defaultTemplate(value: unknown): string | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return undefined;
  const named: unknown = value.find((item: unknown) => isRecord(item) && item.name === 'default');
  return isRecord(named) && typeof named.template === 'string' ? named.template : undefined;
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw fileError('cannot read', path, thrown);
  }
}

/** Names of special tokens that a template may use. */
const TOKENS = ['bos_token', 'eos_token', 'pad_token', 'unk_token'] as const;

/**
 * The chat template of a model directory, which is in chat_template.jinja or in tokenizer_config.json; or that of a file.
 * @param file template to use instead
 * @returns undefined if the model has none
 * @throws UserError for a file that is missing or holds no template
 */
export async function loadChatTemplate(directory: string, file?: string): Promise<ChatTemplate | undefined> {
  const configPath = join(directory, 'tokenizer_config.json');
  const config: unknown = JSON.parse((await readIfThere(configPath)) ?? '{}');
  const settings = isRecord(config) ? config : {};
  const variables = Object.fromEntries(
    TOKENS.flatMap((name) => {
      const value = settings[name];
      const content = isRecord(value) ? value.content : value;
      return typeof content === 'string' ? [[name, content]] : [];
    }),
  );
  if (file !== undefined) {
    const source = await readIfThere(file);
    if (source === undefined) throw new UserError(`--chat-template ${file}: no such file; expected a Jinja template`);
    return new ChatTemplate(file, source, variables);
  }
  const path = join(directory, 'chat_template.jinja');
  const source = await readIfThere(path);
  if (source !== undefined) return new ChatTemplate(path, source, variables);
  const inConfig = defaultTemplate(settings.chat_template);
  return inConfig === undefined ? undefined : new ChatTemplate(configPath, inConfig, variables);
}
