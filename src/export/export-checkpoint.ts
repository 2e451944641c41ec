import { copyFile, link, mkdir, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import type { DType } from '../dtypes.ts';
import { UserError } from '../errors.ts';
import { errnoOf } from '../file-error.ts';
import { parameterCount } from '../model-config.ts';
import { checkOutputPath, withAtomicDirectory } from '../output.ts';
import { ARTIFACTS, type ArtifactName, buildArtifact, locateIn } from './artifacts.ts';
import { type Checkpoint, checkFinite, openCheckpoint } from './checkpoint.ts';
import { copyCompanions } from './checkpoint-write.ts';

export interface ExportReport {
  out: string;
  /** Graphs written, with their sizes. */
  files: { path: string; bytes: number }[];
  parameters: number;
  dtype: DType;
  /** Whether the weights are the checkpoint's own files (hard links) or copies of them. */
  weights: 'linked' | 'copied';
  seconds: number;
}

export interface ExportOptions {
  /** Hugging Face directory. */
  checkpoint: string;
  /** Folder to make. */
  out: string;
  overwrite?: boolean;
}

/**
 * Writes the ONNX graphs of a checkpoint into a new folder, beside its weights, configuration and tokenizer. No weight is
 * converted: the graphs point into the safetensors files, which are hard links to the checkpoint's where the file system
 * allows it.
 * @throws UserError for a checkpoint that cannot be used, weights that are not finite, an `out` that exists
 */
export async function exportCheckpoint({ checkpoint: source, out, overwrite }: ExportOptions): Promise<ExportReport> {
  const start = performance.now();
  if (resolve(source) === resolve(out)) {
    throw new UserError(`output ${out}: is the checkpoint itself, which is never changed; choose another folder`);
  }
  await checkOutputPath(out, { overwrite });
  const checkpoint = await openCheckpoint(source);
  await checkFinite(checkpoint);
  const fill = async (temporary: string) => {
    await copyFile(join(source, 'config.json'), join(temporary, 'config.json'));
    await copyCompanions(source, temporary);
    const linked = await Promise.all(checkpoint.files.map((file) => linkOrCopy(file, join(temporary, basename(file)))));
    return { linked: linked.every(Boolean), files: await writeArtifacts(checkpoint, temporary) };
  };
  const { linked, files } = await withAtomicDirectory(out, fill, { kind: 'export', overwrite });
  return {
    out,
    files,
    parameters: parameterCount(checkpoint.config),
    dtype: dtypeOf(checkpoint),
    weights: linked ? 'linked' : 'copied',
    seconds: (performance.now() - start) / 1000,
  };
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

/** The dtype of the checkpoint's matrices. */
export function dtypeOf(checkpoint: Checkpoint): DType {
  const embedding = checkpoint.tensors.get('model.embed_tokens.weight');
  if (embedding === undefined) throw new Error('internal: a checkpoint without an embedding');
  return embedding.dtype;
}

/** True where the file could be linked. */
async function linkOrCopy(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to);
    // A link to a symbolic link would dangle once the folder moves.
    if ((await stat(to)).isFile()) return true;
  } catch (thrown) {
    if (errnoOf(thrown) === 'ENOSPC') throw thrown;
  }
  await copyFile(from, to);
  return false;
}
