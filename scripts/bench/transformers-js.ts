import { copyFile, link, mkdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { buildArtifact, locateIn } from '../../src/export/artifacts.ts';
import { openCheckpoint } from '../../src/export/checkpoint.ts';

/** transformers.js over the portable graph of a checkpoint, weights where they lie. */
export interface Peer {
  version: string;
  /** generate() with sampling: prompts of equal length, one row each. Returns its milliseconds. */
  generate(prompts: readonly (readonly number[])[], newTokens: number): Promise<number>;
}

/** The name under which transformers.js looks for external data. */
const DATA = 'model.onnx_data';

/**
 * Opens a checkpoint in transformers.js.
 * @param peer a folder with node_modules/@huggingface/transformers
 * @param scratch an empty folder on the file system of the checkpoint
 */
export async function openPeer(peer: string, checkpoint: string, scratch: string): Promise<Peer> {
  await mkdir(join(scratch, 'bench', 'onnx'), { recursive: true });
  const { config, tensors } = await openCheckpoint(checkpoint);
  const locate = locateIn(tensors);
  const graph = buildArtifact('model', config, (name) => ({ ...locate(name), location: DATA }));
  await writeFile(join(scratch, 'bench', 'onnx', 'model.onnx'), graph);
  await link(join(checkpoint, 'model.safetensors'), join(scratch, 'bench', 'onnx', DATA));
  await copyFile(join(checkpoint, 'config.json'), join(scratch, 'bench', 'config.json'));
  await writeFile(join(scratch, 'bench', 'generation_config.json'), JSON.stringify({ pad_token_id: 0 }));

  const require = createRequire(join(resolve(peer), 'node_modules', 'x.js'));
  const module = await import(pathToFileURL(require.resolve('@huggingface/transformers')).href);
  const { AutoModelForCausalLM, Tensor, env } = module;
  Object.assign(env, { allowRemoteModels: false, allowLocalModels: true, localModelPath: scratch });
  const model = await AutoModelForCausalLM.from_pretrained('bench', {
    dtype: 'fp32',
    device: 'cpu',
    local_files_only: true,
    use_external_data_format: true,
  });
  return {
    version: env.version,
    async generate(prompts, newTokens) {
      const dims = [prompts.length, prompts[0].length];
      const int64 = (data: number[]) => new Tensor('int64', BigInt64Array.from(data, BigInt), dims);
      const start = performance.now();
      const output = await model.generate({
        inputs: int64(prompts.flat()),
        attention_mask: int64(prompts.flat().map(() => 1)),
        ...{ do_sample: true, temperature: 1, top_k: 0, max_new_tokens: newTokens, min_new_tokens: newTokens },
      });
      const ms = performance.now() - start;
      const made = output.dims[1] - dims[1];
      if (made !== newTokens) throw new Error(`transformers.js made ${made} tokens`);
      return ms;
    },
  };
}
