import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { extname, parse, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { messageOf, UserError } from '../errors.ts';
import { errnoOf, fileError } from '../file-error.ts';
import type { CustomReward, RewardFunction } from './custom.ts';
import { importByTsx } from './typescript.ts';

/** A reward function that came from a file. */
export interface RewardModule extends CustomReward {
  /** SHA-256 of the file; modules that it imports are not looked at. */
  hash: string;
}

/**
 * Loads the default export of a module as a reward function, named like the file. TypeScript is loaded by Node.js, from 22.18 on,
 * and by tsx, where it is installed, before that or where it is more than types.
 * @throws UserError if the file cannot be read or loaded, or has no function to offer
 */
export async function loadRewardModule(path: string): Promise<RewardModule> {
  const label = `reward module ${path}`;
  let source: Buffer;
  try {
    source = await readFile(path);
  } catch (thrown) {
    throw fileError('cannot read', path, thrown);
  }
  const hash = createHash('sha256').update(source).digest('hex');
  const url = pathToFileURL(resolve(path));
  // Node.js loads an address once: a file that has changed needs another.
  url.search = `sha256=${hash}`;
  let loaded: { default?: unknown };
  try {
    loaded = await importModule(url, path);
  } catch (thrown) {
    throw new UserError(`${label}: ${whyNotLoaded(path, thrown)}`, { cause: thrown });
  }
  const reward = loaded.default;
  if (typeof reward !== 'function') {
    const found = reward === undefined ? `${Object.keys(loaded).join(', ') || 'nothing'} exported` : typeof reward;
    throw new UserError(
      `${label}: expected a default export that is a function from thoughts to numbers (RewardFunction), found ${found}`,
    );
  }
  return { name: parse(path).name, module: path, reward: reward as RewardFunction, hash };
}

/** Codes of the errors that a TypeScript module may have with Node.js alone. */
const NOT_BY_NODE: readonly unknown[] = ['ERR_UNKNOWN_FILE_EXTENSION', 'ERR_UNSUPPORTED_TYPESCRIPT_SYNTAX'];

async function importModule(url: URL, path: string): Promise<{ default?: unknown }> {
  try {
    return await import(/* @vite-ignore */ url.href);
  } catch (thrown) {
    const byTsx = isTypeScript(path) && NOT_BY_NODE.includes(errnoOf(thrown)) ? await importByTsx(path) : undefined;
    if (byTsx === undefined) throw thrown;
    return byTsx;
  }
}

const isTypeScript = (path: string): boolean => /^\.[cm]?ts$/.test(extname(path));

function whyNotLoaded(path: string, thrown: unknown): string {
  if (errnoOf(thrown) === 'ERR_UNKNOWN_FILE_EXTENSION') {
    if (!isTypeScript(path)) return 'expected a module, .js, .mjs or .ts';
    return (
      `Node.js ${process.versions.node} cannot load TypeScript by itself; install tsx in the project (npm install --save-dev tsx), ` +
      `take Node.js 22.18 or newer, or compile it: npx tsc --module esnext --target es2023 ${path}`
    );
  }
  const kind = thrown instanceof Error ? `${thrown.name}: ` : '';
  return `cannot be loaded: ${kind}${messageOf(thrown)}`;
}
