import { openDataFiles } from './data-files.ts';
import { DOCUMENT_COLUMNS, type Document, type DocumentColumns, documentOf, wantedOf } from './document.ts';
import { noRows, START, type TextDocuments } from './row.ts';

/** Which documents are read. */
export interface ReadOptions {
  /** Stop after this many documents. */
  limit?: number | undefined;
  columns?: DocumentColumns;
  /** What a document of a .txt is; default 'file'. */
  txtDocuments?: TextDocuments;
}

/**
 * Documents of the files (names, patterns, `-`) in the order given, read as they are asked for.
 * @throws UserError for a file that is missing, empty, of an unknown extension, or malformed (names the row or byte);
 *   unknown extensions of all files are found before the first document is read
 */
export async function* readDocuments(
  paths: readonly string[],
  { limit = Infinity, columns = DOCUMENT_COLUMNS, txtDocuments }: ReadOptions = {},
): AsyncGenerator<Document> {
  const wanted = { text: columns.text, all: wantedOf(columns), txtDocuments };
  let count = 0;
  for (const { file, read } of await openDataFiles(paths)) {
    if (count >= limit) return;
    let empty = true;
    for await (const found of read(file, START, wanted)) {
      if ('problem' in found) throw found.problem;
      empty = false;
      yield documentOf(found.row, columns);
      if (++count >= limit) return;
    }
    if (empty) throw noRows(file);
  }
}
