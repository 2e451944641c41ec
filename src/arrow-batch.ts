import {
  type Data,
  type DataType,
  Float32,
  Int32,
  makeData,
  RecordBatch,
  RecordBatchReader,
  RecordBatchStreamWriter,
  type Schema,
  Struct,
} from 'apache-arrow';
import { ARROW_TYPES, COLUMNS, type ColumnType } from './arrow-schema.ts';
import { internal, UserError } from './errors.ts';
import { FINISH_REASONS, type FinishReason, NO_BASELINE, type RolloutRecord } from './records.ts';

/** Bytes that end a stream: continuation marker and metadata length 0. */
export const END_OF_STREAM = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0);

const INT32_MAX = 0x7fffffff;

/** 'step 3, document a, position 17, rollout 2': how errors name a row. */
export function rowName(row: RolloutRecord): string {
  return `step ${row.step}, document ${row.documentId}, position ${row.position}, rollout ${row.rollout}`;
}

/** A row that breaks the schema is a bug of the writer; a log-prob that is not finite is a broken model. */
function checkRow(row: RolloutRecord): void {
  const broken = (what: string) => internal(`rollout row (${rowName(row)}): ${what}`);
  for (const field of ['step', 'position', 'rollout', 'policyVersion', 'baselineVersion'] as const) {
    const value = row[field];
    const least = field === 'baselineVersion' ? NO_BASELINE : 0;
    if (!Number.isInteger(value) || value < least || value > INT32_MAX) throw broken(`${field} is ${value}`);
  }
  const thoughtLength = row.thoughtTokens.length;
  const horizon = row.targetTokens.length;
  const baselineLength = row.baselineVersion === NO_BASELINE ? 0 : horizon;
  for (const [field, length] of [
    ['thoughtLogProbs', thoughtLength],
    ['samplingLogProbs', thoughtLength],
    ['reasonedLogProbs', horizon],
    ['baselineLogProbs', baselineLength],
  ] as const) {
    const values = row[field];
    if (values.length !== length) throw broken(`${field} has ${values.length} values for ${length} tokens`);
    const at = values.findIndex((value) => !Number.isFinite(value));
    if (at >= 0) throw new Error(`rollout (${rowName(row)}): ${COLUMNS[field][0]}[${at}] is ${values[at]}, not finite`);
  }
  for (const field of ['reward', 'advantage'] as const) {
    if (!Number.isFinite(row[field]))
      throw new Error(`rollout (${rowName(row)}): ${field} is ${row[field]}, not finite`);
  }
  if (!FINISH_REASONS.includes(row.finishReason)) throw broken(`finishReason is '${row.finishReason}'`);
}

/** Arrow's list offsets: [0, n_0, n_0 + n_1, ...]. They are int32, which bounds a batch. */
function listOffsets(column: string, lengths: readonly number[]): Int32Array {
  const offsets = new Int32Array(lengths.length + 1);
  let total = 0;
  for (const [i, length] of lengths.entries()) {
    total += length;
    if (total > INT32_MAX) throw internal(`column ${column}: a batch of ${lengths.length} rows passes 2^31 elements`);
    offsets[i + 1] = total;
  }
  return offsets;
}

function concatenate<T extends Int32Array | Float32Array | Uint8Array>(
  out: T,
  parts: readonly T[],
  offsets: Int32Array,
) {
  for (const [i, part] of parts.entries()) out.set(part, offsets[i]);
  return out;
}

type ColumnValue = string | number | Int32Array | Float32Array;

function column(name: string, type: ColumnType, values: readonly ColumnValue[]): Data<DataType> {
  const length = values.length;
  const nullCount = 0;
  switch (type) {
    case 'Int32':
      return makeData({ type: ARROW_TYPES[type], length, nullCount, data: Int32Array.from(values as number[]) });
    case 'Float64':
      return makeData({ type: ARROW_TYPES[type], length, nullCount, data: Float64Array.from(values as number[]) });
    case 'Utf8': {
      const parts = (values as string[]).map((text) => new Uint8Array(Buffer.from(text, 'utf8')));
      const valueOffsets = listOffsets(name, lengthsOf(parts));
      const data = concatenate(new Uint8Array(valueOffsets[length]), parts, valueOffsets);
      return makeData({ type: ARROW_TYPES[type], length, nullCount, valueOffsets, data });
    }
    case 'List<Int32>': {
      const parts = values as Int32Array[];
      const valueOffsets = listOffsets(name, lengthsOf(parts));
      const data = concatenate(new Int32Array(valueOffsets[length]), parts, valueOffsets);
      const child = makeData({ type: new Int32(), length: data.length, nullCount, data });
      return makeData({ type: ARROW_TYPES[type], length, nullCount, valueOffsets, child });
    }
    case 'List<Float32>': {
      const parts = values as Float32Array[];
      const valueOffsets = listOffsets(name, lengthsOf(parts));
      const data = concatenate(new Float32Array(valueOffsets[length]), parts, valueOffsets);
      const child = makeData({ type: new Float32(), length: data.length, nullCount, data });
      return makeData({ type: ARROW_TYPES[type], length, nullCount, valueOffsets, child });
    }
  }
}

const lengthsOf = (parts: readonly { length: number }[]): number[] => parts.map((part) => part.length);

/** Bytes of a whole stream without batches but for `batch`: schema message, batch message, end of stream. */
function encodeStream(schema: Schema, batch?: RecordBatch): Uint8Array {
  const writer = new RecordBatchStreamWriter();
  writer.reset(undefined, schema);
  if (batch !== undefined) writer.write(batch);
  writer.finish();
  return writer.toUint8Array(true);
}

/** The encapsulated IPC message of a schema. */
export function encodeSchema(schema: Schema): Uint8Array {
  return encodeStream(schema).subarray(0, -END_OF_STREAM.length);
}

/** The encapsulated IPC message of one record batch: metadata and body, a multiple of 8 bytes. */
export function encodeBatch(schema: Schema, rows: readonly RolloutRecord[]): Uint8Array {
  for (const row of rows) checkRow(row);
  const children = Object.entries(COLUMNS).map(([field, [name, type]]) => {
    return column(
      name,
      type,
      rows.map((row) => row[field as keyof RolloutRecord]),
    );
  });
  const data = makeData({ type: new Struct(schema.fields), length: rows.length, nullCount: 0, children });
  const bytes = encodeStream(schema, new RecordBatch(schema, data));
  return bytes.subarray(encodeSchema(schema).length, -END_OF_STREAM.length);
}

/** The columns of a decoded batch, checked to be free of nulls, which files of other tools may have. */
class Columns {
  readonly #path: string;
  readonly #batch: RecordBatch;

  constructor(path: string, batch: RecordBatch) {
    this.#path = path;
    this.#batch = batch;
  }

  #data(name: string): Data {
    const data = this.#batch.getChild(name)?.data[0];
    if (data === undefined) throw internal(`${this.#path}: no column ${name} after the schema check`);
    return this.#withoutNulls(name, data);
  }

  #withoutNulls(name: string, data: Data): Data {
    if (data.nullCount === 0) return data;
    throw new UserError(`${this.#path}: column ${name} has ${data.nullCount} nulls in a batch, expected none`);
  }

  numbers(name: string): Int32Array | Float64Array {
    const values: unknown = this.#data(name).values;
    if (values instanceof Int32Array || values instanceof Float64Array) return values;
    throw internal(`${this.#path}: column ${name} is not numeric`);
  }

  texts(name: string): string[] {
    const { values, valueOffsets, length } = this.#data(name);
    const bytes: Uint8Array = values;
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    return Array.from({ length }, (_, row) => text.toString('utf8', valueOffsets[row], valueOffsets[row + 1]));
  }

  integers(name: string): Int32Array[] {
    return this.#lists(name).map((values) => Int32Array.from(values));
  }

  floats(name: string): Float32Array[] {
    return this.#lists(name).map((values) => Float32Array.from(values));
  }

  #lists(name: string): (Int32Array | Float32Array)[] {
    const { children, valueOffsets, length } = this.#data(name);
    const values: Int32Array | Float32Array = this.#withoutNulls(name, children[0]).values;
    return Array.from({ length }, (_, row) => values.subarray(valueOffsets[row], valueOffsets[row + 1]));
  }

  finishReasons(name: string): FinishReason[] {
    return this.texts(name).map((text) => {
      const reason = FINISH_REASONS.find((known) => known === text);
      if (reason !== undefined) return reason;
      const known = FINISH_REASONS.join(', ');
      throw new UserError(`${this.#path}: column ${name} has '${text}', expected one of ${known}`);
    });
  }
}

/** Rows of one record batch from the messages of its schema and of itself. The arrays of the rows are copies. */
export function decodeBatch(path: string, schemaMessage: Uint8Array, batchMessage: Uint8Array): RolloutRecord[] {
  const [batch] = RecordBatchReader.from([schemaMessage, batchMessage, END_OF_STREAM]);
  if (batch === undefined) throw internal(`${path}: no record batch in a message that has one`);
  const columns = new Columns(path, batch);
  const step = columns.numbers('step');
  const documentId = columns.texts('document_id');
  const position = columns.numbers('position');
  const rollout = columns.numbers('rollout');
  const context = columns.texts('context');
  const thought = columns.texts('thought');
  const thoughtTokens = columns.integers('thought_tokens');
  const thoughtLogProbs = columns.floats('thought_logprobs');
  const samplingLogProbs = columns.floats('sampling_logprobs');
  const target = columns.texts('target');
  const targetTokens = columns.integers('target_tokens');
  const reasonedLogProbs = columns.floats('reasoned_logprobs');
  const baselineLogProbs = columns.floats('baseline_logprobs');
  const reward = columns.numbers('reward');
  const advantage = columns.numbers('advantage');
  const finishReason = columns.finishReasons('finish_reason');
  const policyVersion = columns.numbers('policy_version');
  const baselineVersion = columns.numbers('baseline_version');
  return Array.from({ length: batch.numRows }, (_, row) => ({
    step: step[row],
    documentId: documentId[row],
    position: position[row],
    rollout: rollout[row],
    context: context[row],
    thought: thought[row],
    thoughtTokens: thoughtTokens[row],
    thoughtLogProbs: thoughtLogProbs[row],
    samplingLogProbs: samplingLogProbs[row],
    target: target[row],
    targetTokens: targetTokens[row],
    reasonedLogProbs: reasonedLogProbs[row],
    baselineLogProbs: baselineLogProbs[row],
    reward: reward[row],
    advantage: advantage[row],
    finishReason: finishReason[row],
    policyVersion: policyVersion[row],
    baselineVersion: baselineVersion[row],
  }));
}
