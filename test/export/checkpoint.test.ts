import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { checkFinite, loadWeights, openCheckpoint, type Weight } from '../../src/export/checkpoint.ts';
import { writeSafetensors } from '../../src/export/safetensors-write.ts';
import { folderWithConfig, type RawConfig, TINY_CONFIG, temporaryFolder, tinyWeights } from './checkpoint-fixture.ts';

type StoredDType = 'float32' | 'bfloat16' | 'float16' | 'float64';
const EMBEDDING = 'model.embed_tokens.weight';
const HEAD = 'lm_head.weight';

async function store(file: string, weights: Iterable<[string, Weight]>, dtype: StoredDType = 'float32') {
  const tensors = [...weights].map(([name, { shape, data }]) => {
    return { name, dtype, shape, data: dtype === 'float64' ? Float64Array.from(data) : data };
  });
  await writeSafetensors(file, tensors);
}

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

/** A checkpoint folder with one file; `change` edits its weights first. */
async function single(change: (weights: Map<string, Weight>) => void = () => {}, config: RawConfig = {}) {
  const directory = folderWithConfig(folder.in('model'), { ...TINY_CONFIG, ...config });
  const weights = tinyWeights({ ...TINY_CONFIG, ...config });
  change(weights);
  await store(join(directory, 'model.safetensors'), weights);
  return directory;
}

/** A checkpoint folder with two shards of different dtypes; `change` edits the weight_map. */
async function sharded(change: (map: Record<string, string>) => void = () => {}) {
  const directory = folderWithConfig(folder.in('model'));
  const entries = [...tinyWeights()];
  const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
  await store(join(directory, shards[0]), entries.slice(0, 9), 'bfloat16');
  await store(join(directory, shards[1]), entries.slice(9), 'float16');
  const map = Object.fromEntries(entries.map(([name], i) => [name, shards[i < 9 ? 0 : 1]]));
  change(map);
  const index = { metadata: { total_size: 1 }, weight_map: map };
  await writeFile(join(directory, 'model.safetensors.index.json'), JSON.stringify(index));
  return directory;
}

const refusal = async (directory: string): Promise<string> => {
  const error = await openCheckpoint(directory).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ name: 'UserError' });
  return error instanceof Error ? error.message : '';
};

describe('openCheckpoint', () => {
  it('opens one file and loads its weights', async () => {
    const directory = await single();
    const checkpoint = await openCheckpoint(directory);
    expect(checkpoint).toMatchObject({ directory, config: { numLayers: 2 } });
    expect(checkpoint.files).toEqual([join(directory, 'model.safetensors')]);
    expect([...checkpoint.tensors.keys()]).toEqual([...tinyWeights().keys()]);
    expect(await loadWeights(checkpoint)).toEqual(tinyWeights());
    await checkFinite(checkpoint);
  });

  it('opens shards, of float16 and bfloat16', async () => {
    const directory = await sharded();
    const checkpoint = await openCheckpoint(directory);
    expect(checkpoint.files.map((file) => basename(file))).toEqual([
      'model.safetensors.index.json',
      'model-00001-of-00002.safetensors',
      'model-00002-of-00002.safetensors',
    ]);
    expect(checkpoint.tensors.get(EMBEDDING)).toMatchObject({ dtype: 'bfloat16', shape: [11, 8] });
    expect(checkpoint.tensors.get('model.norm.weight')).toMatchObject({ dtype: 'float16', file: checkpoint.files[2] });
    expect(await loadWeights(checkpoint)).toEqual(tinyWeights());
    await checkFinite(checkpoint);
  });

  it('opens an untied model with attention biases', async () => {
    const config = { tie_word_embeddings: false, attention_bias: true };
    const checkpoint = await openCheckpoint(await single(undefined, config));
    expect(checkpoint.tensors.get(HEAD)).toMatchObject({ shape: [11, 8] });
    expect(checkpoint.tensors.get('model.layers.1.self_attn.k_proj.bias')).toMatchObject({ shape: [12] });
  });

  it('takes the single file if there are shards as well', async () => {
    const directory = await sharded();
    await store(join(directory, 'model.safetensors'), tinyWeights());
    expect((await openCheckpoint(directory)).files).toEqual([join(directory, 'model.safetensors')]);
  });
});

describe('a stored head of a tied model', () => {
  const withHead = (change: (data: Float32Array) => void) =>
    single((weights) => {
      const embedding = weights.get(EMBEDDING);
      if (embedding === undefined) throw new Error('no embedding');
      const data = embedding.data.slice();
      change(data);
      weights.set(HEAD, { shape: embedding.shape, data });
    });

  it('is dropped if it is the embedding', async () => {
    const checkpoint = await openCheckpoint(await withHead(() => {}));
    expect([...checkpoint.tensors.keys()]).toEqual([...tinyWeights().keys()]);
  });

  it('is refused if it is not', async () => {
    const directory = await withHead((data) => {
      data[87] += 1;
    });
    expect(await refusal(directory)).toContain('lm_head.weight and model.embed_tokens.weight differ');
  });
});

describe('weights that do not fit the configuration', () => {
  it('names what is missing, superfluous and wrongly shaped', async () => {
    const directory = await single((weights) => {
      weights.delete('model.norm.weight');
      weights.set('model.layers.0.mlp.up_proj.weight', { shape: [8, 12], data: new Float32Array(96) });
      weights.set('model.layers.2.mlp.up_proj.weight', { shape: [1], data: new Float32Array(1) });
    });
    expect(await refusal(directory)).toBe(
      `checkpoint ${directory}: 3 problems
  tensor model.layers.0.mlp.up_proj.weight: expected shape [12, 8], found [8, 12]
  tensor model.norm.weight: expected [8], but it is missing
  tensor model.layers.2.mlp.up_proj.weight: found [1], but the model of config.json has no such tensor
The weights and config.json have to be of the same model.`,
    );
  });

  it('counts problems beyond the fifth', async () => {
    const directory = await single();
    folderWithConfig(directory, { ...TINY_CONFIG, num_hidden_layers: 1 });
    expect(await refusal(directory)).toMatch(/: 11 problems(\n {2}tensor model\.layers\.1\..*){5}\n {2}and 6 more\n/);
  });

  it('misses the head of an untied model', async () => {
    const directory = await single();
    folderWithConfig(directory, { ...TINY_CONFIG, tie_word_embeddings: false });
    const message = 'tensor lm_head.weight: expected [11, 8], but it is missing; without it, config.json should say';
    expect(await refusal(directory)).toContain(message);
  });

  it('refuses other dtypes', async () => {
    const directory = folderWithConfig(folder.in('model'));
    await store(join(directory, 'model.safetensors'), tinyWeights(), 'float64');
    expect(await refusal(directory)).toContain(
      `tensor ${EMBEDDING}: expected float32, bfloat16 or float16, found float64`,
    );
  });
});

describe('a damaged set of shards', () => {
  const first = 'model-00001-of-00002.safetensors';
  const second = 'model-00002-of-00002.safetensors';

  it('misses a shard', async () => {
    const directory = await sharded();
    await rm(join(directory, second));
    expect(await refusal(directory)).toMatch(
      /index\.json: 1 problem\n {2}missing file model-00002-of-00002.safetensors\n/,
    );
  });

  it('has an index that says something else', async () => {
    const directory = await sharded((map) => {
      map[EMBEDDING] = second;
      delete map['model.norm.weight'];
    });
    const message = await refusal(directory);
    expect(message).toContain(`tensor ${EMBEDDING}: is in ${first}, but the index says ${second}`);
    expect(message).toContain(`tensor model.norm.weight: is in ${second}, but the index says nothing of it`);
    expect(message).toContain(`tensor ${EMBEDDING}: expected in ${second}, but it is not there`);
  });

  it.each(['../weights.safetensors', '/weights.safetensors', '..'])('points out of the folder: %s', async (path) => {
    const directory = await sharded((map) => {
      map[EMBEDDING] = path;
    });
    expect(await refusal(directory)).toContain(`expected the name of a file in this folder, found ${path}`);
  });

  it.each([
    ['{', 'not valid JSON'],
    ['{"metadata": {}}', 'expected an object "weight_map"'],
    ['{"weight_map": {}}', 'weight_map is empty'],
  ])('has an index that is none: %s', async (json, message) => {
    const directory = await sharded();
    await writeFile(join(directory, 'model.safetensors.index.json'), json);
    expect(await refusal(directory)).toContain(message);
  });
});

describe('a folder that is no checkpoint', () => {
  it('is missing, a file, or empty', async () => {
    expect(await refusal(folder.in('no'))).toContain('no such folder; expected a local Hugging Face checkpoint folder');
    await writeFile(folder.in('file'), '');
    expect(await refusal(folder.in('file'))).toContain('not a folder; expected the folder that holds config.json');
    expect(await refusal(folder.path)).toContain('has no config.json; expected a Hugging Face checkpoint folder');
  });

  it('has weights but no config.json', async () => {
    const directory = await single();
    await rm(join(directory, 'config.json'));
    expect(await refusal(directory)).toContain('has no config.json');
  });

  it.each([
    ['pytorch_model.bin', 'holds pytorch_model.bin, but no model.safetensors; convert it'],
    ['pytorch_model.bin.index.json', 'convert it'],
    ['model-00001-of-00002.safetensors', 'but not model.safetensors.index.json; download it too'],
    ['adapter_model.safetensors', 'holds an adapter, not a model'],
    ['onnx/model_q4.onnx', 'training from ONNX checkpoints is not supported yet'],
    ['model.onnx', 'training from ONNX checkpoints is not supported yet'],
    ['model.Q4_K_M.gguf', 'GGUF is not supported'],
    ['README.md', 'has no weights; expected model.safetensors or model.safetensors.index.json with its shards'],
  ])('holds %s only', async (name, message) => {
    const directory = folderWithConfig(folder.in('model'));
    await mkdir(join(directory, 'onnx'));
    await writeFile(join(directory, name), '');
    expect(await refusal(directory)).toContain(message);
  });
});

describe('checkFinite', () => {
  it.each(['float32', 'bfloat16', 'float16'] as const)('finds NaN and infinities of %s', async (dtype) => {
    const directory = folderWithConfig(folder.in('model'));
    const weights = tinyWeights();
    weights.get('model.layers.0.mlp.up_proj.weight')?.data.set([Number.NaN], 95);
    weights.get('model.norm.weight')?.data.set([Number.NEGATIVE_INFINITY], 2);
    await store(join(directory, 'model.safetensors'), weights, dtype);
    const message = await checkFinite(await openCheckpoint(directory)).catch(String);
    expect(message).toContain('UserError');
    expect(message).toContain('2 problems');
    expect(message).toContain('tensor model.layers.0.mlp.up_proj.weight: NaN or infinity at flat index 95');
    expect(message).toContain('tensor model.norm.weight: NaN or infinity at flat index 2');
  });
});

it('gives the offsets of elements in the file, as external data of ONNX needs them', async () => {
  const directory = await single();
  const tensor = (await openCheckpoint(directory)).tensors.get('model.norm.weight');
  const expected = tinyWeights().get('model.norm.weight');
  if (tensor === undefined || expected === undefined) throw new Error('no norm');
  const bytes = (await readFile(tensor.file)).subarray(tensor.offset, tensor.offset + tensor.byteLength);
  expect(bytes).toEqual(Buffer.from(expected.data.buffer));
});
