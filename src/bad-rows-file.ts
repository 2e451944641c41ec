import { rm } from 'node:fs/promises';
import { replaceFile } from './durable.ts';
import { fileError } from './file-error.ts';

/** Replaces the file that lists the bad rows of the data; no rows, no file. */
export async function writeBadRows(path: string, { list }: { list: string }): Promise<void> {
  try {
    await (list === '' ? rm(path, { force: true }) : replaceFile(path, list));
  } catch (thrown) {
    throw fileError('cannot write', path, thrown);
  }
}
