import { readArrowRows } from '../arrow-rows.ts';
import { messageOf, UserError } from '../errors.ts';
import { type FoundRow, InvalidUtf8, type RowPlace, type WantedColumns } from './row.ts';
import type { SourceFile } from './source-file.ts';
import { firstInvalidByte } from './utf8.ts';

/** An `.arrow` or `.feather` file: Arrow's IPC file format, or its stream format, as Hugging Face datasets caches have it. */
export async function* readArrowFileRows(
  file: SourceFile,
  start: RowPlace,
  wanted: WantedColumns,
): AsyncGenerator<FoundRow> {
  const bytes = {
    size: await file.size(),
    read: (position: number, length: number) => file.read(position, length),
    chunks: () => file.chunks(),
  };
  try {
    for await (const batch of readArrowRows(bytes, (text) => new InvalidUtf8(firstInvalidByte(text)))) {
      const read = wanted.all.filter((name) => batch.columns.includes(name));
      for (let i = Math.max(0, start.row - batch.first); i < batch.length; i++) {
        const number = batch.first + i + 1;
        const values = Object.fromEntries(read.map((name) => [name, batch.value(name, i)]));
        yield {
          next: { row: number, byte: 0 },
          row: { file: file.name, row: number, values, columns: batch.columns },
        };
      }
    }
  } catch (thrown) {
    if (thrown instanceof UserError) throw thrown;
    throw new UserError(
      `${file.name}: not a whole Arrow file, or not one that can be read here (${messageOf(thrown)}). ` +
        'Is the download complete?',
      { cause: thrown },
    );
  }
}
