import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import type { DType, TypedArray } from '../dtypes.ts';
import { messageOf, UserError } from '../errors.ts';
import { errnoOf, fileError } from '../file-error.ts';
import { type ModelConfig, parameterShapes } from '../model-config.ts';
import { readConfigJson } from './config-json.ts';
import { forEachChunk, readSafetensorsHeader, readTensor, sameBytes, type TensorLocation } from './safetensors.ts';

const SINGLE = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';
/** Problems listed in one error; the rest is counted. */
const MAX_LISTED = 5;

/** A Hugging Face directory whose headers have been read and checked; the weights are still on disk. */
export interface Checkpoint {
  directory: string;
  config: ModelConfig;
  /** Every parameter of the model (see parameterShapes), in its order; each is float32, bfloat16 or float16. */
  tensors: ReadonlyMap<string, TensorLocation>;
  /** Paths of the files that hold the weights, the index of shards included. */
  files: readonly string[];
}

/** One weight on the host, row-major. */
export interface Weight {
  shape: readonly number[];
  data: Float32Array;
}

const indexSchema = z.looseObject({ weight_map: z.record(z.string(), z.string()) });

/** Throws a UserError that lists the first problems and counts the others. */
function failWith(where: string, problems: readonly string[], advice: string): never {
  const listed = problems.slice(0, MAX_LISTED).map((line) => `\n  ${line}`);
  if (problems.length > MAX_LISTED) listed.push(`\n  and ${problems.length - MAX_LISTED} more`);
  const count = problems.length === 1 ? '1 problem' : `${problems.length} problems`;
  throw new UserError(`${where}: ${count}${listed.join('')}\n${advice}`);
}

async function listDirectory(directory: string): Promise<string[]> {
  try {
    return await readdir(directory);
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOENT') {
      throw new UserError(
        `checkpoint ${directory}: no such folder; expected a local Hugging Face checkpoint folder (a model of the Hub has to be downloaded first: hf download NAME --local-dir DIR)`,
      );
    }
    if (errnoOf(thrown) === 'ENOTDIR') {
      throw new UserError(
        `checkpoint ${directory}: not a folder; expected the folder that holds config.json and model.safetensors`,
      );
    }
    throw fileError('cannot read', directory, thrown);
  }
}

/** What to say of a folder without safetensors weights if it holds something else that is known. */
async function recognise(directory: string, names: readonly string[]): Promise<UserError | undefined> {
  const where = `checkpoint ${directory}`;
  const has = (pattern: RegExp) => names.find((name) => pattern.test(name));
  const shard = has(/^model-\d+-of-\d+\.safetensors$/);
  if (shard !== undefined) return new UserError(`${where}: holds ${shard}, but not ${INDEX}; download it too`);
  if (has(/^adapter_model\./) !== undefined) {
    return new UserError(`${where}: holds an adapter, not a model; merge it into its base model first`);
  }
  const torch = has(/^pytorch_model.*\.bin(\.index\.json)?$/);
  if (torch !== undefined) {
    return new UserError(
      `${where}: holds ${torch}, but no ${SINGLE}; convert it in Python: AutoModelForCausalLM.from_pretrained(DIR).save_pretrained(OUT, safe_serialization=True)`,
    );
  }
  const inFolder = names.includes('onnx') ? await readdir(join(directory, 'onnx')).catch(() => []) : [];
  const onnx = has(/\.onnx$/) ?? inFolder.find((name) => name.endsWith('.onnx'));
  if (onnx !== undefined || names.includes('genai_config.json')) {
    return new UserError(
      `${where}: holds ONNX graphs, but no ${SINGLE}; training from ONNX checkpoints is not supported yet, use the Hugging Face checkpoint they were made of`,
    );
  }
  if (has(/\.gguf$/) !== undefined)
    return new UserError(`${where}: GGUF is not supported; use the safetensors checkpoint`);
  return undefined;
}

async function readIndex(file: string): Promise<Map<string, string>> {
  let json: string;
  try {
    json = await readFile(file, 'utf8');
  } catch (thrown) {
    throw fileError('cannot read', file, thrown);
  }
  let raw: unknown;
  try {
    raw = JSON.parse(json);
  } catch (thrown) {
    throw new UserError(`${file}: not valid JSON: ${messageOf(thrown)}`);
  }
  const index = indexSchema.safeParse(raw);
  if (!index.success) throw new UserError(`${file}: expected an object "weight_map" from tensor names to file names`);
  const map = new Map(Object.entries(index.data.weight_map));
  if (map.size === 0) throw new UserError(`${file}: weight_map is empty`);
  for (const [name, shard] of map) {
    if (basename(shard) !== shard || shard === '..' || shard === '.') {
      throw new UserError(`${file}: tensor ${name}: expected the name of a file in this folder, found ${shard}`);
    }
  }
  return map;
}

/** All tensors of a sharded checkpoint; the index and the shards have to tell the same story. */
async function readShards(directory: string, names: readonly string[]) {
  const indexFile = join(directory, INDEX);
  const index = await readIndex(indexFile);
  const shards = [...new Set(index.values())].sort();
  const absent = shards.filter((shard) => !names.includes(shard));
  if (absent.length > 0) {
    const list = absent.map((shard) => `missing file ${shard}`);
    failWith(indexFile, list, 'The shards are incomplete: download the checkpoint again.');
  }
  const tensors = new Map<string, TensorLocation>();
  const problems: string[] = [];
  for (const shard of shards) {
    for (const [name, tensor] of (await readSafetensorsHeader(join(directory, shard))).tensors) {
      const indexed = index.get(name);
      if (indexed === shard) tensors.set(name, tensor);
      else problems.push(`tensor ${name}: is in ${shard}, but the index says ${indexed ?? 'nothing of it'}`);
    }
  }
  for (const [name, shard] of index) {
    if (!tensors.has(name)) problems.push(`tensor ${name}: expected in ${shard}, but it is not there`);
  }
  if (problems.length > 0)
    failWith(indexFile, problems, 'Index and shards do not belong together: download them again.');
  return { tensors, files: shards.map((shard) => join(directory, shard)) };
}

/**
 * The tensors of the model, in its order. A stored head of a tied model (Qwen3-0.6B has one) is dropped if it is the
 * embedding; if it is not, transformers 4 would ignore it and transformers 5 would use it, so we ask.
 */
async function selectTensors(config: ModelConfig, stored: ReadonlyMap<string, TensorLocation>, directory: string) {
  const expected = parameterShapes(config);
  const head = stored.get(HEAD);
  const embedding = stored.get(EMBEDDING);
  const dropsHead = config.tieWordEmbeddings && head !== undefined && embedding !== undefined;
  const problems: string[] = [];
  const tensors = new Map<string, TensorLocation>();
  for (const [name, shape] of expected) {
    const tensor = stored.get(name);
    if (tensor === undefined) {
      const hint = name === HEAD ? '; without it, config.json should say "tie_word_embeddings": true' : '';
      problems.push(`tensor ${name}: expected [${shape.join(', ')}], but it is missing${hint}`);
    } else if (tensor.shape.join() !== shape.join()) {
      problems.push(`tensor ${name}: expected shape [${shape.join(', ')}], found [${tensor.shape.join(', ')}]`);
    } else if (!['float32', 'bfloat16', 'float16'].includes(tensor.dtype)) {
      problems.push(`tensor ${name}: expected float32, bfloat16 or float16, found ${tensor.dtype}`);
    } else {
      tensors.set(name, tensor);
    }
  }
  for (const [name, { shape }] of stored) {
    if (expected.has(name) || (name === HEAD && dropsHead)) continue;
    problems.push(`tensor ${name}: found [${shape.join(', ')}], but the model of config.json has no such tensor`);
  }
  if (problems.length > 0) {
    failWith(`checkpoint ${directory}`, problems, 'The weights and config.json have to be of the same model.');
  }
  if (dropsHead && !(await sameBytes(head, embedding))) {
    throw new UserError(
      `checkpoint ${directory}: config.json says "tie_word_embeddings": true, but ${HEAD} and ${EMBEDDING} differ; set it to false if the head is meant, or remove ${HEAD}`,
    );
  }
  return tensors;
}

/**
 * Opens a Hugging Face directory: `config.json` and `model.safetensors`, or `model.safetensors.index.json` with its shards
 * (if both are there, the single file, as in transformers). Headers are read and checked against the parameters of the
 * model; no weight is loaded, except to compare a stored head of a tied model with its embedding.
 *
 * Errors: UserError that says what is missing, damaged, not supported or does not fit.
 */
export async function openCheckpoint(directory: string): Promise<Checkpoint> {
  const names = await listDirectory(directory);
  const where = `checkpoint ${directory}`;
  const hasWeights = names.includes(SINGLE) || names.includes(INDEX);
  if (!names.includes('config.json')) {
    const known = hasWeights ? undefined : await recognise(directory, names);
    throw known ?? new UserError(`${where}: has no config.json; expected a Hugging Face checkpoint folder`);
  }
  const config = await readConfigJson(directory);
  if (!hasWeights) {
    const known = await recognise(directory, names);
    throw known ?? new UserError(`${where}: has no weights; expected ${SINGLE} or ${INDEX} with its shards`);
  }
  if (!names.includes(SINGLE)) {
    const { tensors, files } = await readShards(directory, names);
    return {
      directory,
      config,
      tensors: await selectTensors(config, tensors, directory),
      files: [join(directory, INDEX), ...files],
    };
  }
  const file = join(directory, SINGLE);
  const { tensors } = await readSafetensorsHeader(file);
  return { directory, config, tensors: await selectTensors(config, tensors, directory), files: [file] };
}

/** Index of the first NaN or infinity (its exponent bits are all ones), or -1. */
export function indexOfNonFinite(elements: TypedArray, dtype: DType): number {
  const isFloat32 = dtype === 'float32';
  const bits = isFloat32 ? new Uint32Array(elements.buffer, elements.byteOffset, elements.length) : elements;
  const exponent = isFloat32 ? 0x7f800000 : dtype === 'float16' ? 0x7c00 : 0x7f80;
  for (let i = 0; i < bits.length; i++) {
    if ((Number(bits[i]) & exponent) === exponent) return i;
  }
  return -1;
}

/** Reads all weights once; throws a UserError that names the first tensors with a NaN or an infinity, and the index of it. */
export async function checkFinite(checkpoint: Checkpoint): Promise<void> {
  const problems: string[] = [];
  for (const tensor of checkpoint.tensors.values()) {
    let first = -1;
    await forEachChunk(tensor, (elements, start) => {
      if (first >= 0) return;
      const index = indexOfNonFinite(elements, tensor.dtype);
      if (index >= 0) first = start + index;
    });
    if (first >= 0) problems.push(`tensor ${tensor.name}: NaN or infinity at flat index ${first} (${tensor.file})`);
  }
  if (problems.length > 0) {
    failWith(
      `checkpoint ${checkpoint.directory}`,
      problems,
      'Such a model computes nothing: use an earlier checkpoint.',
    );
  }
}

/** All weights as float32 on the host: 4 bytes a parameter. */
export async function loadWeights(checkpoint: Checkpoint): Promise<Map<string, Weight>> {
  const weights = new Map<string, Weight>();
  for (const [name, tensor] of checkpoint.tensors) {
    weights.set(name, { shape: tensor.shape, data: await readTensor(tensor) });
  }
  return weights;
}
