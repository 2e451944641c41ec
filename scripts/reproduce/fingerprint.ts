import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Reads results and makes none: words of the report may change without another run. */
const REPORT = join('scripts', 'reproduce', 'report');

/** SHA-256 of all code that results come from: src, this folder, and the versions of what they use. */
export async function codeHash(): Promise<string> {
  const files: string[] = [join(ROOT, 'package-lock.json')];
  for (const folder of [join('src'), join('scripts', 'reproduce')]) {
    for (const entry of await readdir(join(ROOT, folder), { recursive: true, withFileTypes: true })) {
      const file = join(entry.parentPath, entry.name);
      if (entry.isFile() && entry.name.endsWith('.ts') && !relative(ROOT, file).startsWith(REPORT)) files.push(file);
    }
  }
  return await filesHash(files.sort());
}

/** SHA-256 of files, whatever folder they lie in together. */
export async function filesHash(files: readonly string[]): Promise<string> {
  const hash = createHash('sha256');
  for (const file of files) {
    const bytes = await readFile(file);
    hash.update(`${bytes.length}\n`).update(bytes);
  }
  return hash.digest('hex');
}
