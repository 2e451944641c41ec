export { BadRows, badRowsNotice } from './bad-rows.ts';
export { type ChatMessage, type ChatSegment, ChatTemplate, loadChatTemplate } from './chat-template.ts';
export { Corpus, type CorpusOptions, type Item } from './corpus.ts';
export { resumeInput, STDIN } from './data-files.ts';
export { DOCUMENT_COLUMNS, type Document, type DocumentColumns, documentOf, idOf, textOf } from './document.ts';
export { type ReadOptions, readDocuments } from './documents.ts';
export { fileHash } from './fingerprint.ts';
export { type DataCursor, DataLoader, type LoaderOptions } from './loader.ts';
export { type PackedCursor, PackedStream } from './packed-stream.ts';
export { type PackOptions, packDocuments, withEnd } from './packing.ts';
export {
  choosePositions,
  needsPosition,
  type PositionOptions,
  type PositionRules,
  type PositionStrategy,
} from './positions.ts';
export {
  type PromptColumns,
  PromptData,
  type PromptOptions,
  type PromptRow,
  type PromptSample,
  type PromptSettings,
  promptRowOf,
} from './prompt-data.ts';
export { describe, placeOf, type Row, type TextDocuments, type WantedColumns } from './row.ts';
export { SFT_COLUMNS, type SftColumns, SftLayout } from './sft-columns.ts';
export { SftData, type SftSettings } from './sft-data.ts';
export { type SftRow, sftRowOf } from './sft-row.ts';
export { type SftOptions, type SftSample, SftTokenizer } from './sft-sample.ts';
export { heldOutSettings, type ReadSettings, TextData } from './text-data.ts';
export {
  DocumentTokenizer,
  type Requirement,
  type TokenizedData,
  type TokenizedDocument,
  type TokenizeOptions,
  tokenizeDocument,
  tokenizeDocuments,
} from './tokenize.ts';
export { type AlignedTokens, checkTokenizerFits, loadTokenizer, type ThinkTokens, Tokenizer } from './tokenizer.ts';
export { badRowsOf, dataHashOf, openCorpora, type WeightedCorpus } from './weighted-corpora.ts';
