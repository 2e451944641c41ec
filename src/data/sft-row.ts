import { UserError } from '../errors.ts';
import type { ChatMessage } from './chat-template.ts';
import { textOf } from './document.ts';
import { describe, placeOf, type Row } from './row.ts';

/** One example of supervised fine-tuning, as read. */
export type SftRow = { id: string; source: { file: string; row: number } } & (
  | { kind: 'text'; prompt: string; response: string }
  /** Trained on are the assistant's messages from index `firstTrained` on. */
  | { kind: 'chat'; messages: ChatMessage[]; firstTrained: number }
  /** A thought behind a prefix of a text, and how the text goes on. */
  | { kind: 'thought'; prefix: string; thought: string; target: string }
  /** A thought that was cut off: no example of one. */
  | { kind: 'unclosed' }
);

/** Columns that are looked at. */
export const SFT_COLUMNS: readonly string[] = [
  ...['messages', 'prompt', 'response', 'completion'],
  ...['thought', 'prefix', 'context', 'text', 'position', 'target', 'finish_reason'],
];

/**
 * The example in a row, by its columns:
 * - `messages`: a conversation;
 * - `prompt` with `response` or `completion`: two texts, or two lists of messages (TRL's names);
 * - `thought` with `prefix` (or `context`, as `rollout` writes it) and optionally `target`, or with `text` and `position`, the
 *   number of its characters (code points) before the thought.
 * @throws UserError that names file, row and column, and what was expected and found
 */
export function sftRowOf(row: Row): SftRow {
  const common = { id: placeOf(row), source: { file: row.file, row: row.row } };
  const has = (column: string) => (row.values[column] ?? null) !== null;
  if (has('messages')) {
    return { ...common, kind: 'chat', messages: messagesOf(row, 'messages'), firstTrained: 0 };
  }
  if (has('thought')) return { ...common, ...thoughtOf(row, has) };
  const answer = ['response', 'completion'].find(has);
  if (has('prompt') && answer !== undefined) {
    if (!Array.isArray(row.values.prompt)) {
      return { ...common, kind: 'text', prompt: textOf(row, 'prompt'), response: textOf(row, answer) };
    }
    const prompt = messagesOf(row, 'prompt');
    return {
      ...common,
      kind: 'chat',
      messages: [...prompt, ...messagesOf(row, answer)],
      firstTrained: prompt.length,
    };
  }
  const found = row.columns.map((name) => `"${name}"${SFT_COLUMNS.includes(name) && !has(name) ? ' (null)' : ''}`);
  throw new UserError(
    `${placeOf(row)}: expected the columns "messages", or "prompt" and "response" (or "completion"), or "thought" and "prefix" ` +
      `(or "text" and "position"), found ${found.length === 0 ? 'no columns' : found.join(', ')}`,
  );
}

function thoughtOf(row: Row, has: (column: string) => boolean) {
  if (has('finish_reason') && row.values.finish_reason !== 'closed') return { kind: 'unclosed' as const };
  const thought = textOf(row, 'thought');
  const prefix = ['prefix', 'context'].find(has);
  if (prefix !== undefined) {
    const target = has('target') ? textOrSpace(row, 'target') : '';
    return { kind: 'thought' as const, prefix: textOrSpace(row, prefix), thought, target };
  }
  const characters = [...textOf(row, 'text')];
  const { position } = row.values;
  if (typeof position !== 'number' || !Number.isInteger(position) || position < 1 || position > characters.length) {
    throw new UserError(
      `${placeOf(row)}: "position" must be an integer from 1 to ${characters.length} ("text" has ${characters.length} ` +
        `characters), found ${typeof position === 'number' ? position : describe(position)}`,
    );
  }
  return {
    kind: 'thought' as const,
    prefix: characters.slice(0, position).join(''),
    thought,
    target: characters.slice(position).join(''),
  };
}

/** Text that may be white space, as a single token of a text often is. */
function textOrSpace(row: Row, column: string): string {
  const value = row.values[column];
  return typeof value === 'string' && value !== '' && value.trim() === '' ? value : textOf(row, column);
}

/**
 * The conversation in a column.
 * @throws UserError that names file, row and column, and what was expected and found
 */
export function messagesOf(row: Row, column: string): ChatMessage[] {
  const value = row.values[column];
  const place = `${placeOf(row)}: "${column}"`;
  if (!Array.isArray(value)) throw new UserError(`${place} must be an array of messages, found ${describe(value)}`);
  if (value.length === 0) throw new UserError(`${place} has no messages`);
  return value.map((message: unknown, i) => {
    if (typeof message !== 'object' || message === null || Array.isArray(message)) {
      throw new UserError(`${place}[${i}] must be an object with "role" and "content", found ${describe(message)}`);
    }
    const { role, content, ...rest } = message as Record<string, unknown>;
    if (typeof role !== 'string') throw new UserError(`${place}[${i}].role must be a string, found ${describe(role)}`);
    // A message that only calls tools has no text.
    if (typeof content !== 'string' && !(content === null && 'tool_calls' in rest)) {
      throw new UserError(`${place}[${i}].content must be a string, found ${describe(content)}`);
    }
    return { ...rest, role, content: content ?? '' };
  });
}
