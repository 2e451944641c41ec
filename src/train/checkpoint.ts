import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join, relative, resolve, sep } from 'node:path';
import { messageOf } from '../errors.ts';
import {
  fillCheckpointDirectory,
  openCheckpoint,
  readSafetensorsHeader,
  readTensor,
  type StoredDType,
  writeAdapter,
  writeArtifacts,
  writeSafetensors,
} from '../export/index.ts';
import { errnoOf, fileError } from '../file-error.ts';
import { type LoraConfig, mergeAdapters } from '../lora.ts';
import {
  type HostTensor,
  hostTensors,
  type LossScale,
  STATE_KINDS,
  type StateKind,
  type TrainingSession,
  type TrainingState,
} from '../optim/index.ts';
import { withAtomicDirectory } from '../output.ts';
import { DamagedCheckpoint } from '../run-folder.ts';

/** A training checkpoint to be. */
export interface TrainingCheckpoint {
  /** Folder to make. */
  out: string;
  /** Folder of the model that is trained: configuration and tokenizer come from there. */
  source: string;
  /** In which the weights are written for others to use, all or each by its name; the masters stay float32. */
  dtype: StoredDType | ReadonlyMap<string, StoredDType>;
  session: TrainingSession;
  /** Of a session that trains adapters. */
  lora?: LoraConfig;
  /** What else the run needs to go on, as JSON. */
  state: unknown;
}

/** checkpoint/state.json. */
interface StateFile {
  step: number;
  lossScale?: LossScale;
  /** Of adapters, whose state this then is. */
  lora?: LoraConfig;
  run: unknown;
  /** SHA-256 of every other file of the checkpoint, by its path from the checkpoint's folder. */
  sha256: Record<string, string>;
}

const FOLDER = 'checkpoint';
const ADAPTER = 'adapter';
const STATE = 'state.json';
const fileOf = (kind: StateKind) => `${kind}.safetensors`;

/**
 * Writes a training checkpoint, all or nothing: a Hugging Face directory with the weights in `dtype` and the ONNX graphs
 * beside them, and in checkpoint/ the float32 masters, moments and, where one is kept, EMA of what is trained with their hashes. With LoRA the
 * adapters are merged into the weights, and stand in adapter/ in PEFT's layout. The same state gives the same bytes.
 */
export async function saveTrainingCheckpoint({
  out,
  source,
  dtype,
  session,
  lora,
  state,
}: TrainingCheckpoint): Promise<void> {
  const { step, lossScale, tensors } = session.state();
  await withAtomicDirectory(
    out,
    async (folder) => {
      const weights = hostTensors(session.weights);
      const merged = lora === undefined ? weights : mergeAdapters(weights, lora);
      await fillCheckpointDirectory(folder, { source, weights: merged, dtype });
      await writeArtifacts(await openCheckpoint(folder), folder);
      if (lora !== undefined) await writeAdapter(join(folder, ADAPTER), resolve(source), lora, tensors.weights);
      await mkdir(join(folder, FOLDER));
      for (const kind of STATE_KINDS.filter((kind) => tensors[kind].size > 0)) {
        const file = join(folder, FOLDER, fileOf(kind));
        const list = [...tensors[kind]].map(([name, { shape, data }]) => ({
          name,
          dtype: 'float32' as const,
          shape,
          data,
        }));
        await writeSafetensors(file, list);
      }
      const sha256 = await hashesOf(folder);
      const content: StateFile = {
        ...{ step, ...(lossScale !== undefined && { lossScale }), ...(lora !== undefined && { lora }) },
        ...{ run: state, sha256 },
      };
      await writeFile(join(folder, FOLDER, STATE), `${JSON.stringify(content, null, 2)}\n`);
    },
    { kind: 'training-checkpoint' },
  );
}

/** Whether a folder has something to go on from: an export, whose step is 0, has not. */
export async function hasTrainingState(path: string): Promise<boolean> {
  try {
    return (await readState(join(path, FOLDER, STATE))).step > 0;
  } catch (thrown) {
    if (thrown instanceof DamagedCheckpoint && !existsSync(join(path, FOLDER))) return false;
    throw thrown;
  }
}

/** What is read from a training checkpoint. */
export interface LoadedCheckpoint {
  training: TrainingState;
  /** The adapters whose state it is. */
  lora?: LoraConfig;
  /** What the run kept beyond, as JSON. */
  state: unknown;
}

/**
 * Checks every file of it against its hash, those that only others read, too.
 * @throws DamagedCheckpoint naming the file that is missing or damaged
 */
export async function loadTrainingCheckpoint(path: string): Promise<LoadedCheckpoint> {
  const folder = join(path, FOLDER);
  const { step, lossScale, lora, run, sha256 } = await readState(join(folder, STATE));
  const stateFiles = STATE_KINDS.filter((kind) => kind !== 'ema').map((kind) => `${FOLDER}/${fileOf(kind)}`);
  for (const name of new Set([...stateFiles, ...Object.keys(sha256)])) {
    const file = join(path, name);
    const found = await sha256Of(file);
    const expected = sha256[name];
    if (found !== expected) {
      throw damaged(file, `SHA-256 ${found.slice(0, 12)}..., expected ${expected?.slice(0, 12) ?? 'none'}...`);
    }
  }
  const read = async (kind: StateKind): Promise<Map<string, HostTensor>> => {
    const file = join(folder, fileOf(kind));
    const loaded = new Map<string, HostTensor>();
    for (const tensor of (await readSafetensorsHeader(file)).tensors.values()) {
      loaded.set(tensor.name, { shape: tensor.shape, data: await readTensor(tensor) });
    }
    return loaded;
  };
  const tensors = {
    weights: await read('weights'),
    exp_avg: await read('exp_avg'),
    exp_avg_sq: await read('exp_avg_sq'),
    ema: `${FOLDER}/${fileOf('ema')}` in sha256 ? await read('ema') : new Map(), // not every objective keeps one
  };
  const training = { step, ...(lossScale !== undefined && { lossScale }), tensors };
  return { training, ...(lora !== undefined && { lora }), state: run };
}

async function readState(file: string): Promise<StateFile> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (thrown) {
    throw unreadable(file, thrown);
  }
  try {
    const state: Partial<StateFile> | null = JSON.parse(text);
    if (Number.isSafeInteger(state?.step) && typeof state?.sha256 === 'object') return state as StateFile;
  } catch (thrown) {
    throw damaged(file, messageOf(thrown));
  }
  throw damaged(file, 'no step and hashes in it');
}

const damaged = (file: string, how: string) => new DamagedCheckpoint(`${file}: damaged (${how})`);

function unreadable(file: string, thrown: unknown): unknown {
  return errnoOf(thrown) === 'ENOENT'
    ? new DamagedCheckpoint(`${file}: missing`)
    : fileError('cannot read', file, thrown);
}

/** Of all files in a folder, by their paths from there, in alphabetical order. */
async function hashesOf(folder: string): Promise<Record<string, string>> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const hashes: Record<string, string> = {};
  for (const file of files.sort()) hashes[relative(folder, file).split(sep).join('/')] = await sha256Of(file);
  return hashes;
}

async function sha256Of(file: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(file)) hash.update(chunk);
  } catch (thrown) {
    throw unreadable(file, thrown);
  }
  return hash.digest('hex');
}
