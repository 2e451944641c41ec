import { readFileSync } from 'node:fs';
import { open, readFile, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from './errors.ts';
import { errnoOf, fileError } from './file-error.ts';

/** What a lock file says of the process that holds it. */
export interface LockOwner {
  pid: number;
  host: string;
  /** When the process started, where the system tells: a pid comes again, the two together do not. */
  started?: string;
  since: string;
}

/** Time for a process that has made its lock file to write its line. */
const WRITE_MS = 200;
/** A takeover takes milliseconds: one that stands this long was killed. */
const TAKEOVER_MS = 10_000;

/** Linux: start in clock ticks since the machine's, of a process that is not a zombie. Undefined where it cannot be told. */
function startOf(pid: number): string | undefined {
  try {
    // pid (name) state ppid ...: a name may hold anything, parentheses too.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ');
    return fields[0] === 'Z' || fields[0] === 'X' ? 'ended' : fields[19];
  } catch {
    return undefined;
  }
}

/** Whether the owner may still be at work. On another host that cannot be told, so it counts as running. */
function mayRun({ pid, host, started }: LockOwner): boolean {
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0); // sends nothing
  } catch (thrown) {
    if (errnoOf(thrown) === 'ESRCH') return false;
  }
  const now = startOf(pid);
  return started === undefined || now === undefined || now === started;
}

/** Text of a lock file and its owner, undefined where the text names none; undefined if there is no such file. */
async function readLock(path: string): Promise<{ text: string; owner: LockOwner | undefined } | undefined> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT' || errnoOf(thrown) === 'ENOTDIR') return undefined;
    throw fileError('cannot read', path, thrown);
  }
  try {
    const owner: Partial<LockOwner> | null = JSON.parse(text);
    if (Number.isInteger(owner?.pid) && typeof owner?.host === 'string') return { text, owner: owner as LockOwner };
  } catch {
    // Cut short: its process died while it wrote the line, or is about to.
  }
  return { text, owner: undefined };
}

/** Owner that may be at work; undefined: free, or left by a process that has ended. */
async function liveOwner(path: string): Promise<{ owner?: LockOwner; stale?: string }> {
  let found = await readLock(path);
  if (found !== undefined && found.owner === undefined) {
    await sleep(WRITE_MS);
    found = await readLock(path);
  }
  if (found === undefined) return {};
  return found.owner !== undefined && mayRun(found.owner) ? { owner: found.owner } : { stale: found.text };
}

/** The process that holds the lock, undefined if none does. */
export async function lockOwner(path: string): Promise<LockOwner | undefined> {
  return (await liveOwner(path)).owner;
}

function inUse(what: string, path: string, { pid, host, since }: LockOwner): UserError {
  const advice =
    host === hostname()
      ? 'wait until it has ended, or stop it'
      : `wait until it has ended; if it no longer runs there, remove ${path}`;
  return new UserError(`${what}: in use by process ${pid} on ${host} since ${since}; ${advice}`);
}

/**
 * Throws a UserError while another process holds the lock `path`; call it before long work.
 * @param what begins the message: `run runs/first`
 */
export async function checkUnlocked(path: string, what: string): Promise<void> {
  const owner = await lockOwner(path);
  if (owner !== undefined) throw inUse(what, path, owner);
}

/**
 * A lock file: one process at a time works on what it stands for. It holds pid and host as JSON. The lock of a process that
 * has ended, killed or not, is taken over; that of another host cannot be judged, and its user is told what to do.
 */
export class Lock implements AsyncDisposable {
  readonly path: string;
  readonly #text: string;

  private constructor(path: string, text: string) {
    this.path = path;
    this.#text = text;
  }

  /** Throws a UserError if another process (or this one) holds it, or the file cannot be written. */
  static async acquire(path: string, what: string): Promise<Lock> {
    const started = startOf(process.pid);
    const owner: LockOwner = {
      ...{ pid: process.pid, host: hostname(), since: new Date().toISOString() },
      ...(started !== undefined && { started }),
    };
    const text = `${JSON.stringify(owner)}\n`;
    for (;;) {
      if (await create(path, text)) return new Lock(path, text);
      const { owner: other, stale } = await liveOwner(path);
      if (other !== undefined) throw inUse(what, path, other);
      if (stale !== undefined) await removeStale(path, stale);
    }
  }

  /** Harmless when called again. */
  async release(): Promise<void> {
    // Not one that somebody else took after a user had removed ours.
    if ((await readLock(this.path))?.text === this.#text) await rm(this.path, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.release();
  }
}

/** False if the file is there already. */
async function create(path: string, text: string): Promise<boolean> {
  let made = false;
  try {
    await using file = await open(path, 'wx');
    made = true;
    await file.writeFile(text);
    return true;
  } catch (thrown) {
    if (errnoOf(thrown) === 'EEXIST') return false;
    if (made) await rm(path, { force: true });
    throw fileError('cannot write', path, thrown);
  }
}

/** One process at a time: of two that find the same stale lock, the second would remove the first one's new lock. */
async function removeStale(path: string, text: string): Promise<void> {
  const guard = `${path}.takeover`;
  if (!(await create(guard, text))) {
    await sleep(WRITE_MS);
    const left = await stat(guard).catch(() => undefined);
    if (left !== undefined && Date.now() - left.mtimeMs > TAKEOVER_MS) await rm(guard, { force: true });
    return;
  }
  try {
    if ((await readLock(path))?.text === text) await rm(path, { force: true });
  } finally {
    await rm(guard, { force: true });
  }
}
