import { constants, copyFile, mkdir, realpath, writeFile } from 'node:fs/promises';
import { basename, dirname, isAbsolute, join, relative, resolve, sep } from 'node:path';
import { UserError } from '../errors.ts';
import { parameterCount } from '../model-config.ts';
import { checkOutputPath, withAtomicDirectory } from '../output.ts';
import { ARTIFACTS, type ArtifactName, buildArtifact, locateIn } from './artifacts.ts';
import { type Checkpoint, checkFinite, openCheckpoint } from './checkpoint.ts';
import { copyCompanions, storedDTypes } from './checkpoint-write.ts';

/** State of a training that has not begun: the masters are the weights, their EMA too, and moments are 0. */
const START = { step: 0, run: null, sha256: {} };

/** What an export wrote. */
export interface ExportReport {
  out: string;
  /** Graphs written, with their sizes. */
  files: { path: string; bytes: number }[];
  parameters: number;
  /** Of the weights; of a checkpoint with several, `bfloat16, float32`. */
  dtype: string;
  seconds: number;
}

/** What to export, and where to. */
export interface ExportOptions {
  /** Hugging Face directory. */
  checkpoint: string;
  /** Folder to make. */
  out: string;
  overwrite?: boolean;
}

/**
 * Writes the ONNX graphs of a checkpoint into a new folder, beside its weights, configuration and tokenizer. No weight is
 * converted: the graphs point into the safetensors files as they are.
 * @throws UserError for a checkpoint that cannot be used, weights that are not finite, an `out` that exists
 */
export async function exportCheckpoint({ checkpoint: source, out, overwrite }: ExportOptions): Promise<ExportReport> {
  const start = performance.now();
  if (resolve(source) === resolve(out)) {
    throw new UserError(`output ${out}: is the checkpoint itself, which is never changed; choose another folder`);
  }
  const output = { kind: 'export', overwrite: overwrite ?? false };
  if (await isWithin(source, out)) {
    throw new UserError(`output ${out}: the checkpoint ${source} lies in it and would be lost; choose another folder`);
  }
  await checkOutputPath(out, output);
  const checkpoint = await openCheckpoint(source);
  await checkFinite(checkpoint);
  const fill = async (temporary: string) => {
    await copyFile(join(source, 'config.json'), join(temporary, 'config.json'));
    await copyCompanions(source, temporary);
    // A clone where the file system can (no bytes move). Never a hard link: onnx's checker refuses those.
    for (const file of checkpoint.files)
      await copyFile(file, join(temporary, basename(file)), constants.COPYFILE_FICLONE);
    await mkdir(join(temporary, 'checkpoint'));
    await writeFile(join(temporary, 'checkpoint', 'state.json'), `${JSON.stringify(START, null, 2)}\n`);
    return writeArtifacts(checkpoint, temporary);
  };
  const files = await withAtomicDirectory(out, fill, output);
  return {
    out,
    files,
    parameters: parameterCount(checkpoint.config),
    dtype: [...new Set(storedDTypes(checkpoint).values())].sort().join(', '),
    seconds: (performance.now() - start) / 1000,
  };
}

/** Whether `path` lies in `folder`, links followed. False if one of them is not there. */
async function isWithin(path: string, folder: string): Promise<boolean> {
  try {
    const between = relative(await realpath(folder), await realpath(path));
    return between !== '..' && !between.startsWith(`..${sep}`) && !isAbsolute(between);
  } catch {
    return false;
  }
}

/** Writes every graph of a checkpoint into a folder that holds, or will hold, its safetensors files. */
export async function writeArtifacts(
  checkpoint: Checkpoint,
  folder: string,
): Promise<{ path: string; bytes: number }[]> {
  const locate = locateIn(checkpoint.tensors);
  const files: { path: string; bytes: number }[] = [];
  for (const name of Object.keys(ARTIFACTS) as ArtifactName[]) {
    const path = ARTIFACTS[name];
    const bytes = buildArtifact(name, checkpoint.config, locate);
    await mkdir(join(folder, dirname(path)), { recursive: true });
    await writeFile(join(folder, path), bytes);
    files.push({ path, bytes: bytes.byteLength });
  }
  return files;
}
