/** One text of the data, as read. */
export interface Document {
  /** The row's `id`, or `PATH:LINE`. Random numbers are drawn for it, so it must be the document's own. */
  id: string;
  /** Never empty, no lone surrogates. */
  text: string;
  /** `row` is the line where the document begins, from 1. */
  source: { file: string; row: number };
  /** Offsets in Unicode code points, 0 <= offset < length, before which the data lets a thought begin. */
  positions?: readonly number[];
}

/** `file:row`, as error messages name a document. */
export const placeOf = ({ source }: Document): string => `${source.file}:${source.row}`;

/** Reads the documents of one file. Errors: UserError that names the file and the line or byte. */
export type DocumentReader = (path: string) => AsyncIterable<Document>;
