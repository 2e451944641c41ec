import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { internal, RunError, UserError } from '../errors.ts';
import { errnoOf, fileError } from '../file-error.ts';
import { parameterShapes } from '../model-config.ts';
import { withAtomicDirectory } from '../output.ts';
import { type Checkpoint, indexOfNonFinite, type Weight } from './checkpoint.ts';
import { parseConfigJson } from './config-json.ts';
import { writeSafetensors } from './safetensors-write.ts';

/** What makes a folder of weights a usable checkpoint; those the source has are copied unchanged. */
const COMPANIONS = [
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'vocab.json',
  'merges.txt',
  'chat_template.jinja',
  'chat_template.json',
] as const;

/** Types in which weights are stored. */
export type StoredDType = 'float32' | 'bfloat16' | 'float16';

/** The type of every weight of a checkpoint. */
export const storedDTypes = ({ tensors }: Pick<Checkpoint, 'tensors'>): Map<string, StoredDType> =>
  new Map(
    [...tensors].map(([name, { dtype }]) => {
      if (dtype !== 'float32' && dtype !== 'bfloat16' && dtype !== 'float16') throw internal(`${name} of ${dtype}`);
      return [name, dtype];
    }),
  );

/** A Hugging Face directory to be. */
export interface CheckpointToWrite {
  /** Folder to make; see withAtomicDirectory. */
  out: string;
  /** Hugging Face directory whose config.json and tokenizer files are taken over. */
  source: string;
  /** Every parameter of the model of `source` by its Hugging Face name. */
  weights: ReadonlyMap<string, Weight>;
  /**
   * Stored type of all weights, set in config.json, too; or of each by its name, and then config.json stays as it is. bfloat16
   * and float16 round to nearest even.
   */
  dtype: StoredDType | ReadonlyMap<string, StoredDType>;
  overwrite?: boolean;
}

/**
 * The text of a config.json with its dtype set: under the names it has (`dtype` in transformers 5, `torch_dtype` before),
 * or as `torch_dtype`, which both understand. The rest of the text stays as it is, because JSON.parse would turn Python's
 * 0.0 into an integer, which the strict configuration classes of transformers 5 refuse.
 */
export function withDtype(json: string, dtype: string): string {
  const original = JSON.parse(json) as Record<string, unknown>;
  const names = ['dtype', 'torch_dtype'].filter((name) => Object.hasOwn(original, name));
  let edited = json;
  if (names.length === 0) {
    names.push('torch_dtype');
    edited = json.replace(/\{(\s*)/, `{$1"torch_dtype": "${dtype}",$1`);
  } else {
    edited = json.replace(/("(?:torch_)?dtype"\s*:\s*)(?:null|"[^"]*")/g, `$1"${dtype}"`);
  }
  const wanted = { ...original, ...Object.fromEntries(names.map((name) => [name, dtype])) };
  // A nested object may use these names too: then the text cannot be edited so simply.
  return isDeepStrictEqual(JSON.parse(edited), wanted) ? edited : `${JSON.stringify(wanted, null, 2)}\n`;
}

function checkWeights(weights: ReadonlyMap<string, Weight>, expected: ReadonlyMap<string, readonly number[]>): void {
  for (const name of weights.keys()) {
    if (!expected.has(name)) throw internal(`weight ${name} is not a parameter of the model`);
  }
  for (const [name, shape] of expected) {
    const weight = weights.get(name);
    if (weight === undefined) throw internal(`weight ${name} is missing`);
    if (weight.shape.join() !== shape.join()) {
      throw internal(`weight ${name} has shape [${weight.shape.join(', ')}], expected [${shape.join(', ')}]`);
    }
    const index = indexOfNonFinite(weight.data, 'float32');
    if (index >= 0) {
      throw new RunError(
        `weight ${name}: NaN or infinity at flat index ${index}: training has diverged; the checkpoint is not written, ` +
          'go back to an earlier one',
      );
    }
  }
}

async function readSource(file: string): Promise<Buffer | undefined> {
  try {
    return await readFile(file);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') return undefined;
    throw fileError('cannot read', file, thrown);
  }
}

/** Copies what stands beside the weights and config.json of a checkpoint: tokenizer, generation settings. */
export async function copyCompanions(source: string, target: string): Promise<void> {
  for (const name of COMPANIONS) {
    const bytes = await readSource(join(source, name));
    if (bytes !== undefined) await writeFile(join(target, name), bytes);
  }
}

/**
 * Writes a Hugging Face directory that transformers, vLLM and openCheckpoint read: weights as one `model.safetensors`,
 * config.json of the source, tokenizer and generation files of the source. All or nothing, and the
 * same weights give the same bytes. A tied model is written without `lm_head.weight`.
 *
 * Errors: UserError if `out` exists, the file system fails, the source has no supported config.json, or a weight is
 * beyond the range of `dtype`; RunError if a weight is not finite.
 */
export async function writeCheckpointDirectory({ out, overwrite, ...checkpoint }: CheckpointToWrite): Promise<void> {
  await withAtomicDirectory(out, (temporary) => fillCheckpointDirectory(temporary, checkpoint), {
    kind: 'checkpoint',
    overwrite,
  });
}

/** writeCheckpointDirectory into a folder that exists: for folders that hold more than the checkpoint. */
export async function fillCheckpointDirectory(
  folder: string,
  { source, weights, dtype }: Pick<CheckpointToWrite, 'source' | 'weights' | 'dtype'>,
): Promise<void> {
  const configFile = join(source, 'config.json');
  const configJson = (await readSource(configFile))?.toString('utf8');
  if (configJson === undefined) throw new UserError(`checkpoint ${source}: has no config.json to take over`);
  checkWeights(weights, parameterShapes(parseConfigJson(configJson, configFile)));
  await writeFile(join(folder, 'config.json'), typeof dtype === 'string' ? withDtype(configJson, dtype) : configJson);
  await copyCompanions(source, folder);
  const tensors = [...weights].map(([name, { shape, data }]) => {
    const stored = typeof dtype === 'string' ? dtype : dtype.get(name);
    if (stored === undefined) throw internal(`weight ${name} without a dtype`);
    return { name, dtype: stored, shape, data };
  });
  await writeSafetensors(join(folder, 'model.safetensors'), tensors);
}
