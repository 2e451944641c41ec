import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { fileError } from '../file-error.ts';

/** SHA-256 of a file, which is read piece by piece. */
export async function fileHash(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path)) hash.update(chunk);
  } catch (thrown) {
    throw fileError('cannot read', path, thrown);
  }
  return hash.digest('hex');
}
