import { type DataType, Field, Float32, Float64, Int32, List, Schema, Utf8 } from 'apache-arrow';
import { difference } from './difference.ts';
import { UserError } from './errors.ts';
import type { RolloutRecord } from './records.ts';

/** Raised whenever a column changes its name, type or meaning. */
export const ROLLOUT_SCHEMA_VERSION = 1;

/** What the rows of a file have in common; stored in the metadata of its Arrow schema. */
export interface RolloutFileMetadata {
  /** The resolved configuration; anything JSON holds. */
  config: unknown;
  /** Identifies the weights that the run started from. */
  modelHash: string;
}

export type ColumnType = 'Int32' | 'Float64' | 'Utf8' | 'List<Int32>' | 'List<Float32>';

/** Column and type of every field of a record, in the order of the file: a field without a column does not compile. */
export const COLUMNS = {
  step: ['step', 'Int32'],
  documentId: ['document_id', 'Utf8'],
  position: ['position', 'Int32'],
  rollout: ['rollout', 'Int32'],
  context: ['context', 'Utf8'],
  thought: ['thought', 'Utf8'],
  thoughtTokens: ['thought_tokens', 'List<Int32>'],
  thoughtLogProbs: ['thought_logprobs', 'List<Float32>'],
  samplingLogProbs: ['sampling_logprobs', 'List<Float32>'],
  target: ['target', 'Utf8'],
  targetTokens: ['target_tokens', 'List<Int32>'],
  reasonedLogProbs: ['reasoned_logprobs', 'List<Float32>'],
  baselineLogProbs: ['baseline_logprobs', 'List<Float32>'],
  reward: ['reward', 'Float64'],
  advantage: ['advantage', 'Float64'],
  finishReason: ['finish_reason', 'Utf8'],
  policyVersion: ['policy_version', 'Int32'],
  baselineVersion: ['baseline_version', 'Int32'],
} as const satisfies Record<keyof RolloutRecord, readonly [name: string, type: ColumnType]>;

export const ARROW_TYPES = {
  Int32: new Int32(),
  Float64: new Float64(),
  Utf8: new Utf8(),
  'List<Int32>': new List(new Field('item', new Int32(), false)),
  'List<Float32>': new List(new Field('item', new Float32(), false)),
} as const satisfies Record<ColumnType, DataType>;

export function rolloutSchema(metadata: RolloutFileMetadata): Schema {
  const fields = Object.values(COLUMNS).map(([name, type]) => new Field(name, ARROW_TYPES[type], false));
  const entries: [string, string][] = [
    ['schema_version', String(ROLLOUT_SCHEMA_VERSION)],
    ['config', JSON.stringify(metadata.config)],
    ['model_hash', metadata.modelHash],
  ];
  return new Schema(fields, new Map(entries));
}

/**
 * The metadata of a file's schema. UserError unless the schema version is ours and every column is there with its type.
 * Other columns and another order are allowed: files pass through other tools.
 */
export function checkRolloutSchema(path: string, schema: Schema): RolloutFileMetadata {
  const types = new Map(schema.fields.map((field) => [field.name, String(field.type)]));
  const wrong = Object.values(COLUMNS).filter(([name, type]) => types.get(name) !== type);
  if (wrong.length > 0) {
    const expected = wrong.map(([name, type]) => `${name}: ${type}`).join(', ');
    const found = wrong.map(([name]) => `${name}: ${types.get(name) ?? 'missing'}`).join(', ');
    const all = [...types.keys()].join(', ');
    throw new UserError(
      `${path}: not a file of rollouts; expected columns ${expected}; found ${found} (columns of the file: ${all})`,
    );
  }
  const version = schema.metadata.get('schema_version');
  if (version !== String(ROLLOUT_SCHEMA_VERSION)) {
    const found = version === undefined ? 'none (did another tool drop the schema metadata?)' : `version ${version}`;
    throw new UserError(`${path}: expected rollout schema_version ${ROLLOUT_SCHEMA_VERSION}, found ${found}`);
  }
  const config = schema.metadata.get('config');
  const modelHash = schema.metadata.get('model_hash');
  if (config === undefined || modelHash === undefined) {
    const missing = config === undefined ? 'config' : 'model_hash';
    throw new UserError(`${path}: the schema metadata has no '${missing}'; the file was not written by rlp-ort`);
  }
  try {
    return { config: JSON.parse(config) as unknown, modelHash };
  } catch (cause) {
    throw new UserError(`${path}: 'config' in the schema metadata is not JSON; the file is damaged`, { cause });
  }
}

/** UserError unless rows made under `now` may be appended to a file made under `before`. */
export function checkSameRun(path: string, before: RolloutFileMetadata, now: RolloutFileMetadata): void {
  // Through JSON, as the file holds it: undefined keys vanish, -0 becomes 0.
  const config: unknown = JSON.parse(JSON.stringify(now.config));
  const found = difference({ config, modelHash: now.modelHash }, before);
  if (found !== undefined) {
    throw new UserError(`${path}: cannot continue a file of another run: ${found}; resume with the same settings`);
  }
}
