import type { FileMetaData } from 'hyparquet';
import { UserError } from '../errors.ts';

/** Compressed bytes that are read as one piece: above the first there is a notice, above the second an error. */
const NOTICE_BYTES = 256 << 20;
const MAX_BYTES = 2 ** 31;

/** What of a Parquet file has to be in memory at once because nothing says where its parts begin. */
interface LargestPiece {
  /** Row group, from 1. */
  group: number;
  /** Compressed bytes of the columns. */
  bytes: number;
}

/** The row group of the largest columns, of those that are read and have no page index. */
export function largestPiece(metadata: FileMetaData, columns: readonly string[]): LargestPiece {
  const pieces = metadata.row_groups.map((group, i) => {
    const bytes = group.columns.reduce((sum, { meta_data, offset_index_length }) => {
      const isHeld = meta_data && columns.includes(meta_data.path_in_schema[0]) && !offset_index_length;
      return isHeld ? sum + Number(meta_data.total_compressed_size) : sum;
    }, 0);
    return { group: i + 1, bytes };
  });
  return pieces.reduce((most, piece) => (piece.bytes > most.bytes ? piece : most), { group: 1, bytes: 0 });
}

const ADVICE =
  'Smaller row groups or a page index take less: pyarrow.parquet.write_table(table, path, row_group_size=10_000, ' +
  'write_page_index=True)';
const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`;

/**
 * What to tell the user about the memory that a file takes; undefined if it takes little.
 * @throws UserError if it takes more than can be read in one piece
 */
export function memoryNotice(name: string, metadata: FileMetaData, columns: readonly string[]): string | undefined {
  const { group, bytes } = largestPiece(metadata, columns);
  const names = columns.map((column) => `"${column}"`).join(', ');
  if (bytes > MAX_BYTES) {
    throw new UserError(
      `${name}: row group ${group} has ${mib(bytes)} of ${names} without a page index, which would be read in one piece; at most ` +
        `${mib(MAX_BYTES)} can be. ${ADVICE}`,
    );
  }
  if (bytes <= NOTICE_BYTES) return undefined;
  return (
    `warning: ${name}: row group ${group} has ${mib(bytes)} of ${names} without a page index, which are in memory in one piece ` +
    `while it is read. ${ADVICE}`
  );
}
