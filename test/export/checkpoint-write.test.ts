import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { loadWeights, openCheckpoint } from '../../src/export/checkpoint.ts';
import { withDtype, writeCheckpointDirectory } from '../../src/export/checkpoint-write.ts';
import { folderWithConfig, TINY_CONFIG, temporaryFolder, tinyWeights } from './checkpoint-fixture.ts';

let folder: ReturnType<typeof temporaryFolder>;
beforeEach(() => {
  folder = temporaryFolder();
  return () => folder[Symbol.dispose]();
});

describe('writeCheckpointDirectory', () => {
  it.each(['float32', 'bfloat16', 'float16'] as const)('writes %s that opens again', async (dtype) => {
    const source = folderWithConfig(folder.in('source'));
    const out = folder.in('runs', 'out');
    await writeCheckpointDirectory({ out, source, weights: tinyWeights(), dtype });
    const checkpoint = await openCheckpoint(out);
    expect([...checkpoint.tensors.values()].every((tensor) => tensor.dtype === dtype)).toBe(true);
    expect(await loadWeights(checkpoint)).toEqual(tinyWeights());
    expect(JSON.parse(await readFile(join(out, 'config.json'), 'utf8'))).toEqual({
      ...TINY_CONFIG,
      torch_dtype: dtype,
    });
    expect(await readdir(folder.in('runs'))).toEqual(['out']);
  });

  it('takes over the tokenizer, and nothing it does not know', async () => {
    const source = folderWithConfig(folder.in('source'));
    const companions = [
      'tokenizer.json',
      'tokenizer_config.json',
      'generation_config.json',
      'merges.txt',
      'vocab.json',
    ];
    for (const name of [...companions, 'README.md', 'training_args.bin'])
      await writeFile(join(source, name), `of ${name}`);
    const out = folder.in('out');
    await writeCheckpointDirectory({ out, source, weights: tinyWeights(), dtype: 'bfloat16' });
    const expected = [...companions, 'config.json', 'model.safetensors', 'rlp-ort.json'];
    expect((await readdir(out)).sort()).toEqual(expected.sort());
    for (const name of companions) expect(await readFile(join(out, name), 'utf8')).toBe(`of ${name}`);
  });

  it('writes the same bytes for the same weights', async () => {
    const source = folderWithConfig(folder.in('source'));
    const weights = tinyWeights();
    await writeCheckpointDirectory({ out: folder.in('1'), source, weights, dtype: 'float16' });
    const reversed = new Map([...weights].reverse());
    await writeCheckpointDirectory({ out: folder.in('2'), source, weights: reversed, dtype: 'float16' });
    for (const name of await readdir(folder.in('1'))) {
      expect(await readFile(folder.in('1', name))).toEqual(await readFile(folder.in('2', name)));
    }
  });

  it('refuses an existing folder, and replaces its own with overwrite', async () => {
    const source = folderWithConfig(folder.in('source'));
    const weights = tinyWeights();
    const write = (out: string, overwrite?: boolean) =>
      writeCheckpointDirectory({ out, source, weights, dtype: 'float32', overwrite });
    await write(folder.in('out'));
    await expect(write(folder.in('out'))).rejects.toThrow('exists already; choose a path that is free');
    await write(folder.in('out'), true);
    await expect(write(source, true)).rejects.toThrow('holds files that rlp-ort did not write');
    expect((await readdir(folder.path)).sort()).toEqual(['out', 'source']);
  });

  it('refuses weights that are not finite or beyond the dtype, and leaves nothing', async () => {
    const source = folderWithConfig(folder.in('source'));
    const weights = tinyWeights();
    const write = () => writeCheckpointDirectory({ out: folder.in('new', 'out'), source, weights, dtype: 'float16' });
    const norm = weights.get('model.norm.weight')?.data ?? new Float32Array(1);
    norm[3] = Number.NaN;
    await expect(write()).rejects.toThrow('weight model.norm.weight: NaN or infinity at flat index 3');
    norm[3] = 1e5;
    await expect(write()).rejects.toThrow(
      'tensor model.norm.weight: value 100000 at index 3 is beyond the range of float16',
    );
    expect(await readdir(folder.path)).toEqual(['source']);
  });

  it('refuses weights of another model', async () => {
    const source = folderWithConfig(folder.in('source'));
    const weights = tinyWeights();
    const write = () => writeCheckpointDirectory({ out: folder.in('out'), source, weights, dtype: 'float16' });
    weights.delete('model.norm.weight');
    await expect(write()).rejects.toThrow('internal: weight model.norm.weight is missing');
    weights.set('model.norm.weight', { shape: [9], data: new Float32Array(9) });
    await expect(write()).rejects.toThrow('internal: weight model.norm.weight has shape [9], expected [8]');
    weights.set('lm_head.weight', { shape: [9], data: new Float32Array(9) });
    await expect(write()).rejects.toThrow('internal: weight lm_head.weight is not a parameter of the model');
  });

  it('refuses a source without config.json', async () => {
    await mkdir(folder.in('source'));
    const request = { out: folder.in('out'), source: folder.in('source'), weights: tinyWeights() };
    const writing = writeCheckpointDirectory({ ...request, dtype: 'float32' });
    await expect(writing).rejects.toThrow('has no config.json to take over');
  });
});

describe('withDtype', () => {
  it.each([
    ['{"dtype": "float32", "a": 0.0}', '{"dtype": "bfloat16", "a": 0.0}'],
    ['{"a": 1e-06, "torch_dtype": null}', '{"a": 1e-06, "torch_dtype": "bfloat16"}'],
    ['{"torch_dtype": "float32", "dtype": "float32"}', '{"torch_dtype": "bfloat16", "dtype": "bfloat16"}'],
    ['{\n  "a": 0.0\n}\n', '{\n  "torch_dtype": "bfloat16",\n  "a": 0.0\n}\n'],
    // Not the nested one.
    ['{"a":{"dtype":"x"},"dtype":"float32"}', '{\n  "a": {\n    "dtype": "x"\n  },\n  "dtype": "bfloat16"\n}\n'],
  ])('%s', (before, after) => {
    expect(withDtype(before, 'bfloat16')).toBe(after);
  });
});
