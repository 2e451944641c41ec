import type { Argv } from 'yargs';
import type { Io } from './io.ts';

/** One command of the program: how it is called, what it is for, and the one call that it makes. */
export interface Command {
  /** yargs form: name and arguments by position. */
  usage: string;
  summary: string;
  declare: (yargs: Argv) => Argv;
  /** Resolves to the exit code. Throws UserError for what the user can change. */
  run: (argv: Readonly<Record<string, unknown>>, io: Io) => Promise<number>;
}
