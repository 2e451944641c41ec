import { UserError } from '../errors.ts';
import { nearest } from '../nearest.ts';

/** One row of a benchmark, as read. */
export interface Question {
  /** Values by column, as JSON has them. */
  values: Readonly<Record<string, unknown>>;
  /** All columns of the row. */
  columns: readonly string[];
  /** `file:row`, for messages. */
  place: string;
}

/** Names under which the copies of a benchmark have a column; the first that a row has counts. */
export type Aliases = readonly string[];

const missing = (value: unknown): boolean => value === null || value === undefined || value === '';

/** The value under the first alias that has one. */
function find({ values }: Question, aliases: Aliases): { name: string; value: unknown } | undefined {
  const name = aliases.find((alias) => !missing(values[alias]));
  return name === undefined ? undefined : { name, value: values[name] };
}

export const has = (question: Question, aliases: Aliases): boolean => find(question, aliases) !== undefined;

function required(question: Question, aliases: Aliases): { name: string; value: unknown } {
  const found = find(question, aliases);
  if (found !== undefined) return found;
  const { columns, place } = question;
  const listed = columns.length === 0 ? 'no columns' : columns.map((column) => `"${column}"`).join(', ');
  const wanted = aliases.map((alias) => `"${alias}"`).join(' or ');
  const close = columns.length > 0 ? nearest(aliases[0], columns) : undefined;
  const hint = close === undefined || aliases.includes(close) ? '' : `; is it "${close}"?`;
  throw new UserError(`${place}: expected a column ${wanted} with a value, found ${listed}${hint}`);
}

const refuse = ({ place }: Question, name: string, expected: string, value: unknown): UserError =>
  new UserError(`${place}: "${name}" must be ${expected}, found ${JSON.stringify(value)?.slice(0, 80)}`);

/**
 * Text, or a number as text.
 * @throws UserError that names the row and the column, and what was found
 */
export function textIn(question: Question, aliases: Aliases): string {
  const { name, value } = required(question, aliases);
  if (typeof value === 'number' || typeof value === 'bigint') return String(value);
  if (typeof value !== 'string') throw refuse(question, name, 'text', value);
  return value;
}

/** A list of at least two texts. */
export function textsIn(question: Question, aliases: Aliases): string[] {
  const { name, value } = required(question, aliases);
  const texts = Array.isArray(value)
    ? value.map((item: unknown) => (typeof item === 'number' ? String(item) : item))
    : [];
  if (texts.length < 2 || !texts.every((item) => typeof item === 'string')) {
    throw refuse(question, name, 'a list of at least two texts', value);
  }
  return texts;
}

/** Choices with their labels: an object of two lists, `{ text, label }`, or a list of such objects. */
export function labelledIn(question: Question, aliases: Aliases): { text: string; label: string }[] {
  const { name, value } = required(question, aliases);
  const expected = 'two lists as long as each other, {"text": [...], "label": [...]}, of at least two texts';
  const { text, label } = columnsOf(value);
  if (text.length < 2 || text.length !== label.length || ![...text, ...label].every((item) => isText(item))) {
    throw refuse(question, name, expected, value);
  }
  return text.map((item, i) => ({ text: String(item), label: String(label[i]) }));
}

const isText = (value: unknown): boolean => (typeof value === 'string' && value !== '') || typeof value === 'number';

/** Lists of objects as an object of lists. */
function columnsOf(value: unknown): { text: unknown[]; label: unknown[] } {
  const listOf = (item: unknown, key: string): unknown =>
    typeof item === 'object' && item !== null ? (item as Record<string, unknown>)[key] : undefined;
  if (Array.isArray(value)) {
    return { text: value.map((item) => listOf(item, 'text')), label: value.map((item) => listOf(item, 'label')) };
  }
  const [text, label] = [listOf(value, 'text'), listOf(value, 'label')];
  return { text: Array.isArray(text) ? text : [], label: Array.isArray(label) ? label : [] };
}

/** Index of the right choice: a number from 0, or a letter from A. */
export function choiceIn(question: Question, aliases: Aliases, count: number): number {
  const { name, value } = required(question, aliases);
  const letter = typeof value === 'string' && /^[A-Z]$/i.test(value.trim());
  const index = letter ? LETTERS.indexOf((value as string).trim().toUpperCase()) : Number(value);
  if (Number.isInteger(index) && index >= 0 && index < count) return index;
  throw refuse(question, name, `one of the ${count} choices, as a number from 0 or a letter from A`, value);
}

export const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZ';
