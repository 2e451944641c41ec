import { UserError } from './errors.ts';

/** What the errno codes a user can mend mean, and what to do about them. */
const MEANINGS: Record<string, string> = {
  EACCES: 'permission denied',
  EDQUOT: 'disk quota exceeded: free some space or write elsewhere',
  EFBIG: 'the file is larger than this file system or the limit of the process allows',
  EIO: 'the device reports an input/output error',
  EISDIR: 'it is a folder, not a file',
  ELOOP: 'too many symbolic links',
  EMFILE: 'too many open files: raise the limit with ulimit -n',
  ENAMETOOLONG: 'the name is too long',
  ENOENT: 'no such file or folder',
  ENOSPC: 'no space left on the device: free some space or write elsewhere',
  ENOTDIR: 'a part of the path is a file, not a folder',
  EPERM: 'operation not permitted',
  EROFS: 'the file system is read-only: write elsewhere',
};

/** The errno code of a failed system call (`ENOENT`), or undefined. */
export function errnoOf(thrown: unknown): string | undefined {
  if (thrown instanceof Error && 'code' in thrown && typeof thrown.code === 'string') return thrown.code;
  return undefined;
}

/**
 * The error to throw when a file operation failed: a UserError that names the action and the path if the cause lies with
 * the file system, otherwise what was thrown. `throw fileError('cannot read', path, thrown)`.
 */
export function fileError(action: string, path: string, thrown: unknown): unknown {
  const code = errnoOf(thrown);
  if (code === undefined || !(code in MEANINGS)) return thrown;
  return new UserError(`${action} ${path}: ${MEANINGS[code]} (${code})`, { cause: thrown });
}
