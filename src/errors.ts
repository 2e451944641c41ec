/**
 * An error the user can mend: the message says what is wrong, where (file, tensor, row, flag), what was expected against
 * what was found, and what to do next. The command line prints the message alone and exits with code 2.
 */
export class UserError extends Error {
  override readonly name = 'UserError';
}

/**
 * The work cannot go on, for a reason that is neither bad input nor a bug: it was interrupted, or training diverged. The
 * message says what is kept and how to continue. The command line prints the message alone and exits with code 1.
 */
export class RunError extends Error {
  override readonly name = 'RunError';
}

/** A broken invariant of this package. Never the user's fault, so the message says whose it is. */
export function internal(message: string): Error {
  return new Error(`internal: ${message}`);
}

/** The message of anything thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}
