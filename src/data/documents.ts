import { extname } from 'node:path';
import { UserError } from '../errors.ts';
import type { Document, DocumentReader } from './document.ts';
import { readJsonlFile } from './jsonl-reader.ts';
import { readTextFile } from './text-reader.ts';

/** Reader by file name extension: a new format is a new line here. */
const READERS: Readonly<Record<string, DocumentReader>> = {
  '.txt': readTextFile,
  '.jsonl': readJsonlFile,
};

function readerOf(path: string): DocumentReader {
  const extension = extname(path).toLowerCase();
  if (Object.hasOwn(READERS, extension)) return READERS[extension];
  const found = extension === '' ? 'a name without an extension' : `"${extension}"`;
  throw new UserError(
    `${path}: cannot tell how to read it: expected ${Object.keys(READERS).join(' or ')}, found ${found}`,
  );
}

/**
 * Documents of the files in the order given, read as they are asked for.
 * @param limit stop after this many documents
 * @throws UserError for a file that is missing, empty, of an unknown extension, or malformed (names the line or byte);
 *   unknown extensions of all files are found before the first document is read
 */
export async function* readDocuments(paths: readonly string[], limit = Infinity): AsyncGenerator<Document> {
  const readers = paths.map(readerOf);
  let count = 0;
  for (const [i, path] of paths.entries()) {
    if (count >= limit) return;
    for await (const document of readers[i](path)) {
      yield document;
      if (++count >= limit) return;
    }
  }
}
