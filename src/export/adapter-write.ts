import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type LoraConfig, targetNames } from '../lora.ts';
import type { Weight } from './checkpoint.ts';
import { writeSafetensors } from './safetensors-write.ts';

/**
 * Writes adapters as the PEFT library does, for `PeftModel.from_pretrained(model, folder)`: adapter_config.json and
 * adapter_model.safetensors, float32.
 * @param folder to make
 * @param base model that the adapters belong to: a folder, or a name on the Hugging Face Hub
 * @param adapters by the names of src/lora.ts
 */
export async function writeAdapter(
  folder: string,
  base: string,
  lora: LoraConfig,
  adapters: ReadonlyMap<string, Weight>,
): Promise<void> {
  await mkdir(folder);
  const config = {
    base_model_name_or_path: base,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: lora.alpha,
    lora_dropout: 0,
    modules_to_save: null,
    peft_type: 'LORA',
    r: lora.rank,
    target_modules: targetNames(lora),
    task_type: 'CAUSAL_LM',
    use_dora: false,
    use_rslora: false,
  };
  await writeFile(join(folder, 'adapter_config.json'), `${JSON.stringify(config, null, 2)}\n`);
  const tensors = [...adapters].map(([name, { shape, data }]) => ({
    name: `base_model.model.${name}`,
    dtype: 'float32' as const,
    shape,
    data,
  }));
  await writeSafetensors(join(folder, 'adapter_model.safetensors'), tensors);
}
