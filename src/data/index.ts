export { STDIN } from './data-files.ts';
export { DOCUMENT_COLUMNS, type Document, type DocumentColumns, documentOf, idOf, textOf } from './document.ts';
export { type ReadOptions, readDocuments } from './documents.ts';
export { fingerprint } from './fingerprint.ts';
export { type DataCursor, DataLoader, type LoaderOptions } from './loader.ts';
export { type PackOptions, packDocuments } from './packing.ts';
export {
  choosePositions,
  needsPosition,
  type PositionOptions,
  type PositionRules,
  type PositionStrategy,
} from './positions.ts';
export {
  type Requirement,
  type TokenizedData,
  type TokenizedDocument,
  type TokenizeOptions,
  tokenizeDocument,
  tokenizeDocuments,
} from './tokenize.ts';
export { type AlignedTokens, checkTokenizerFits, loadTokenizer, type ThinkTokens, Tokenizer } from './tokenizer.ts';
