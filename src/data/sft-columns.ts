/** Names of the columns that make an example of supervised fine-tuning. */
export interface SftColumns {
  messages: string;
  prompt: string;
  response: string;
  thought: string;
  prefix: string;
  target: string;
  text: string;
  /** Characters of `text` before the thought. */
  position: string;
}

export const SFT_COLUMNS: SftColumns = {
  ...{ messages: 'messages', prompt: 'prompt', response: 'response' },
  ...{ thought: 'thought', prefix: 'prefix', target: 'target', text: 'text', position: 'position' },
};

/** What a column is called elsewhere: by TRL, and by `rollout`. Looked for only where the column is not named by the user. */
const ALSO: Partial<SftColumns> = { response: 'completion', prefix: 'context' };

/** Written by `rollout`: whether a thought closed. */
export const FINISH_REASON = 'finish_reason';

type Kind = 'chat' | 'thought' | 'text';

/** The kinds of examples, and the columns that only they have. */
const KINDS: Readonly<Record<Kind, readonly (keyof SftColumns)[]>> = {
  chat: ['messages'],
  thought: ['thought', 'prefix', 'position', 'target'],
  text: ['prompt', 'response'],
};

/**
 * Which columns are looked at, and for what kinds of examples: for all of them, unless columns of some are named otherwise
 * than by default; then for these.
 */
export class SftLayout {
  readonly columns: SftColumns;
  readonly kinds: readonly Kind[];

  constructor(columns: SftColumns = SFT_COLUMNS) {
    this.columns = columns;
    const kinds = Object.keys(KINDS) as Kind[];
    const named = kinds.filter((kind) => KINDS[kind].some((key) => columns[key] !== SFT_COLUMNS[key]));
    this.kinds = named.length > 0 ? named : kinds;
  }

  /** What a column may be called. */
  namesOf(key: keyof SftColumns): string[] {
    const also = this.columns[key] === SFT_COLUMNS[key] ? ALSO[key] : undefined;
    return [this.columns[key], ...(also === undefined ? [] : [also])];
  }

  /** Every column that is looked at. */
  get all(): string[] {
    const keys = [...this.kinds.flatMap((kind) => KINDS[kind]), 'text'] as (keyof SftColumns)[];
    return [...new Set([...keys.flatMap((key) => this.namesOf(key)), FINISH_REASON])];
  }

  /** The columns that a row has to have, in words. */
  get expected(): string {
    const { messages, prompt, thought, text, position } = this.columns;
    const [response, ...orResponse] = this.namesOf('response').map((name) => `"${name}"`);
    const [prefix, ...orPrefix] = this.namesOf('prefix').map((name) => `"${name}"`);
    const either = (others: readonly string[]) => (others.length === 0 ? '' : ` (or ${others.join(', or ')})`);
    const words: Record<Kind, string> = {
      chat: `"${messages}"`,
      text: `"${prompt}" and ${response}${either(orResponse)}`,
      thought: `"${thought}" and ${prefix}${either([...orPrefix, `"${text}" and "${position}"`])}`,
    };
    return (['chat', 'text', 'thought'] as const)
      .filter((kind) => this.kinds.includes(kind))
      .map((kind) => words[kind])
      .join(', or ');
  }
}
