import { UserError } from '../errors.ts';
import type { ChatMessage } from './chat-template.ts';
import { listed, textOf } from './document.ts';
import { describe, placeOf, type Row } from './row.ts';
import { FINISH_REASON, SftLayout } from './sft-columns.ts';

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

/**
 * The example in a row, by its columns:
 * - `messages`: a conversation;
 * - `prompt` with `response` or `completion`: two texts, or two lists of messages (TRL's names);
 * - `thought` with `prefix` (or `context`, as `rollout` writes it) and optionally `target`, or with `text` and `position`, the
 *   number of its characters (code points) before the thought.
 * @param layout names of these columns
 * @throws UserError that names file, row and column, and what was expected and found
 */
export function sftRowOf(row: Row, layout: SftLayout = new SftLayout()): SftRow {
  const common = { id: placeOf(row), source: { file: row.file, row: row.row } };
  const { kinds, columns } = layout;
  const has = (column: string) => (row.values[column] ?? null) !== null;
  if (kinds.includes('chat') && has(columns.messages)) {
    return { ...common, kind: 'chat', messages: messagesOf(row, columns.messages), firstTrained: 0 };
  }
  if (kinds.includes('thought') && has(columns.thought)) return { ...common, ...thoughtOf(row, layout, has) };
  const answer = layout.namesOf('response').find(has);
  if (kinds.includes('text') && has(columns.prompt) && answer !== undefined) {
    if (!Array.isArray(row.values[columns.prompt])) {
      return { ...common, kind: 'text', prompt: textOf(row, columns.prompt), response: textOf(row, answer) };
    }
    const prompt = messagesOf(row, columns.prompt);
    return {
      ...common,
      kind: 'chat',
      messages: [...prompt, ...messagesOf(row, answer)],
      firstTrained: prompt.length,
    };
  }
  const wanted = layout.all;
  const found = listed(row.columns, (name) => (wanted.includes(name) && !has(name) ? ' (null)' : ''));
  throw new UserError(
    `${placeOf(row)}: expected the columns ${layout.expected}, found ${found === '' ? 'no columns' : found}`,
  );
}

function thoughtOf(row: Row, layout: SftLayout, has: (column: string) => boolean) {
  if (has(FINISH_REASON) && row.values[FINISH_REASON] !== 'closed') return { kind: 'unclosed' as const };
  const { columns } = layout;
  const thought = textOf(row, columns.thought);
  const prefix = layout.namesOf('prefix').find(has);
  if (prefix !== undefined) {
    const target = has(columns.target) ? textOrSpace(row, columns.target) : '';
    return { kind: 'thought' as const, prefix: textOrSpace(row, prefix), thought, target };
  }
  const characters = [...textOf(row, columns.text)];
  const position = row.values[columns.position];
  if (typeof position !== 'number' || !Number.isInteger(position) || position < 1 || position > characters.length) {
    throw new UserError(
      `${placeOf(row)}: "${columns.position}" must be an integer from 1 to ${characters.length} ("${columns.text}" has ` +
        `${characters.length} characters), found ${typeof position === 'number' ? position : describe(position)}`,
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
