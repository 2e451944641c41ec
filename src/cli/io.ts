/** Where a command reads and writes, so that it can run inside a test as well as in a terminal. */
export interface Io {
  /** Results. Nothing else: with --json it must parse. */
  out: (text: string) => void;
  /** Progress and messages. */
  err: (text: string) => void;
  /** Colour and layout for people on standard output. */
  outIsTerminal: boolean;
  errIsTerminal: boolean;
  /** Print the stack of unexpected errors. */
  verbose: boolean;
  signal: AbortSignal;
}

/** Prints a result: as JSON for scripts, or as the text for people. */
export function printResult(io: Io, json: boolean, result: object, text: () => string): void {
  io.out(`${json ? JSON.stringify(result, null, 2) : text().trimEnd()}\n`);
}
