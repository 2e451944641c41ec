import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** What tsx (`tsx/esm/api`) offers. */
interface Tsx {
  /** Loads a module, TypeScript or not, anew with each call. */
  tsImport(specifier: string, parentUrl: string): Promise<{ default?: unknown }>;
}

/** The part of its package.json that says where that is. */
interface TsxManifest {
  exports: { './esm/api': { import: { default: string } } };
}

/**
 * Loads a TypeScript module by tsx where Node.js does not load it itself: tsx as the project has it in which the module lies, or that
 * in which the command was called.
 * @returns undefined where there is no tsx
 */
export async function importByTsx(path: string): Promise<{ default?: unknown } | undefined> {
  const address = addressOf(resolve(path)) ?? addressOf(join(process.cwd(), 'package.json'));
  if (address === undefined) return undefined;
  const tsx = (await import(/* @vite-ignore */ address)) as Tsx;
  const url = pathToFileURL(resolve(path)).href;
  const loaded = await tsx.tsImport(url, url);
  // Where package.json does not say "type": "module", tsx makes CommonJS of it, whose exports are a default export.
  return isNamespace(loaded.default) ? loaded.default : loaded;
}

/**
 * Of tsx's module for ES modules, found by its package.json: `require.resolve` gives that for CommonJS, which cannot load what
 * it needs in tsx 4.23.
 */
function addressOf(from: string): string | undefined {
  try {
    const require = createRequire(from);
    const manifest = 'tsx/package.json';
    const { exports } = require(manifest) as TsxManifest;
    return pathToFileURL(join(dirname(require.resolve(manifest)), exports['./esm/api'].import.default)).href;
  } catch {
    return undefined; // not installed, or a version without it
  }
}

const isNamespace = (value: unknown): value is { default?: unknown } =>
  typeof value === 'object' && value !== null && 'default' in value;
