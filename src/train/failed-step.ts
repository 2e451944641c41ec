import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { typedArrayFor } from '../dtypes.ts';
import { UserError } from '../errors.ts';
import {
  type GraphOptions,
  readSafetensorsHeader,
  readTensor,
  readTensorBytes,
  writeSafetensors,
} from '../export/index.ts';
import { fileError } from '../file-error.ts';
import type { HostTensor } from '../optim/index.ts';
import { withAtomicDirectory } from '../output.ts';
import { type TreeBatch, treeBatchShapes } from '../tree-batch.ts';
import type { ClipRange } from '../tree-model.ts';

/** A step whose loss or gradient was not finite: what the training graph was given. */
export interface FailedStep {
  /** Step that was not applied, counted from 1. */
  step: number;
  /** What was not finite. */
  reason: string;
  clip: ClipRange;
  /** The micro-batches of the step, or of the update that failed; their gradients add up. */
  batches: TreeBatch[];
  /** Value of the loss for each of them. */
  losses: number[];
  /** What its graphs were built for: openModel(model, graphs) has the very same. */
  graphs: GraphOptions;
  /** Factor of the loss in its gradients: 1, except in float16. */
  lossScale: number;
  /** All weights before it by Hugging Face name, float32: with LoRA those of the model and the adapters. */
  weights: ReadonlyMap<string, HostTensor>;
}

const STEP = 'step.json';
const WEIGHTS = 'weights.safetensors';
const batchFile = (index: number) => `batch-${index}.safetensors`;

/** step.json. JSON has no NaN and no infinity: losses are text. */
interface StepFile {
  step: number;
  reason: string;
  clip: ClipRange;
  graphs: GraphOptions;
  lossScale: number;
  losses: string[];
}

/** Writes the folder `out`, in place of an earlier one: docs/artifacts.md says what is in it. */
export async function saveFailedStep(out: string, failed: FailedStep): Promise<void> {
  const { step, reason, clip, graphs, lossScale, batches, losses, weights } = failed;
  const fill = async (folder: string) => {
    for (const [i, batch] of batches.entries()) {
      const tensors = Object.entries(treeBatchShapes(batch)).map(([name, shape]) => {
        const data = batch[name as keyof ReturnType<typeof treeBatchShapes>];
        return { name, dtype: data instanceof BigInt64Array ? ('int64' as const) : ('float32' as const), shape, data };
      });
      await writeSafetensors(join(folder, batchFile(i)), tensors);
    }
    const masters = [...weights].map(([name, tensor]) => ({ name, dtype: 'float32' as const, ...tensor }));
    await writeSafetensors(join(folder, WEIGHTS), masters);
    const content: StepFile = { step, reason, clip, graphs, lossScale, losses: losses.map(String) };
    await writeFile(join(folder, STEP), `${JSON.stringify(content, null, 2)}\n`);
  };
  await withAtomicDirectory(out, fill, { kind: 'failed-step', overwrite: true });
}

/**
 * Reads `RUN/failed/step-*`, to run the step again: a TrainingSession on `weights` takes `batches`, at `lossScale`.
 * @throws UserError if a file is missing or not what it should be
 */
export async function loadFailedStep(path: string): Promise<FailedStep> {
  const file = join(path, STEP);
  let content: StepFile;
  try {
    content = JSON.parse(await readFile(file, 'utf8'));
  } catch (thrown) {
    if (thrown instanceof SyntaxError) throw new UserError(`${file}: damaged (${thrown.message})`);
    throw fileError('cannot read', file, thrown);
  }
  const weights = new Map<string, HostTensor>();
  for (const tensor of (await readSafetensorsHeader(join(path, WEIGHTS))).tensors.values()) {
    weights.set(tensor.name, { shape: tensor.shape, data: await readTensor(tensor) });
  }
  const batches: TreeBatch[] = [];
  for (const i of content.losses.keys()) batches.push(await loadBatch(join(path, batchFile(i))));
  return { ...content, losses: content.losses.map(Number), batches, weights };
}

async function loadBatch(file: string): Promise<TreeBatch> {
  const { tensors } = await readSafetensorsHeader(file);
  const dim = (name: string, axis: number) => tensors.get(name)?.shape[axis] ?? 0;
  const dims = {
    ...{ D: dim('trunk_ids', 0), P: dim('trunk_ids', 1), N: dim('loss_rows', 0) },
    ...{ R: dim('branch_ids', 1), L: dim('branch_ids', 2) },
  };
  const arrays: Record<string, unknown> = {};
  for (const tensor of tensors.values()) {
    const bytes = await readTensorBytes(tensor);
    arrays[tensor.name] = new (typedArrayFor(tensor.dtype))(Uint8Array.from(bytes).buffer);
  }
  const batch = { dims, ...arrays } as unknown as TreeBatch;
  for (const [name, shape] of Object.entries(treeBatchShapes(batch))) {
    const found = tensors.get(name)?.shape.join(', ');
    if (found !== shape.join(', ')) {
      throw new UserError(`${file}: ${name} is [${found ?? 'missing'}], expected [${shape.join(', ')}]`);
    }
  }
  return batch;
}
