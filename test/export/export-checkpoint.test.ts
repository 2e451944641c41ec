import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import * as ort from 'onnxruntime-node';
import { describe, expect, it } from 'vitest';
import { ARTIFACTS } from '../../src/export/artifacts.ts';
import { loadWeights, openCheckpoint } from '../../src/export/checkpoint.ts';
import { exportCheckpoint } from '../../src/export/export-checkpoint.ts';
import { parameterCount } from '../../src/model-config.ts';
import { MARKER } from '../../src/output.ts';
import { Session } from '../../src/runtime/index.ts';
import { goldenPath } from '../golden/golden.ts';
import { temporaryFolder } from './checkpoint-fixture.ts';

const NAMES = [
  ['tied-gqa', 'float32'],
  ['untied-mha', 'float32'],
  ['sharded-bfloat16', 'bfloat16'],
  ['untied-float16', 'float16'],
  ['attention-bias', 'float32'],
] as const;
const GRAPHS = Object.values(ARTIFACTS);

const golden = (name: string) => goldenPath('checkpoints', name);
const read = (...path: string[]) => readFileSync(join(...path));

describe.each(NAMES)('export of %s', (name, dtype) => {
  it('adds small graphs to the files of the checkpoint, which stay as they are', async () => {
    using folder = temporaryFolder();
    const out = folder.in('deep', 'out');
    const report = await exportCheckpoint({ checkpoint: golden(name), out });
    const source = readdirSync(golden(name));
    expect(readdirSync(out).sort()).toEqual([...source, ...GRAPHS, MARKER, 'checkpoint'].sort());
    expect(JSON.parse(`${read(out, 'checkpoint', 'state.json')}`)).toEqual({ step: 0, run: null, sha256: {} });
    for (const file of source) {
      expect(read(out, file).equals(read(golden(name), file)), file).toBe(true);
      // Links would tie the export to the checkpoint, and onnx's checker refuses them as external data.
      expect(lstatSync(join(out, file)).nlink).toBe(1);
      expect(lstatSync(join(out, file)).isFile()).toBe(true);
    }
    const { config } = await openCheckpoint(out);
    expect(report).toEqual({
      out,
      files: GRAPHS.map((path) => ({ path, bytes: read(out, path).byteLength })),
      parameters: parameterCount(config),
      dtype,
      seconds: expect.any(Number),
    });
    for (const { bytes } of report.files) expect(bytes).toBeLessThan(200_000);
    expect(readdirSync(folder.in('deep'))).toEqual(['out']);
  });

  it('loads in onnxruntime-node from paths, and in the runtime from bytes', async () => {
    using folder = temporaryFolder();
    const out = folder.in('out');
    await exportCheckpoint({ checkpoint: golden(name), out });
    for (const path of GRAPHS) {
      const session = await ort.InferenceSession.create(join(out, path), { logSeverityLevel: 3 });
      using fromBytes = await Session.create(read(out, path), { externalDataFolder: out });
      expect(fromBytes.inputs.map((input) => input.name)).toEqual(session.inputNames);
      expect(fromBytes.outputs.map((output) => output.name)).toEqual(session.outputNames);
      await session.release();
    }
  });

  it('is the same whenever it is made, and from an export as from the checkpoint', async () => {
    using folder = temporaryFolder();
    await exportCheckpoint({ checkpoint: golden(name), out: folder.in('first') });
    await exportCheckpoint({ checkpoint: folder.in('first'), out: folder.in('second') });
    const files = readdirSync(folder.in('first'), { recursive: true, encoding: 'utf8' }).sort();
    expect(readdirSync(folder.in('second'), { recursive: true, encoding: 'utf8' }).sort()).toEqual(files);
    for (const file of files) {
      if (file === 'checkpoint') continue; // a folder
      expect(read(folder.in('second'), file).equals(read(folder.in('first'), file)), file).toBe(true);
    }
  });
});

it('takes a folder of links, as the Hugging Face cache has them, and writes files', async () => {
  using folder = temporaryFolder();
  const links = folder.in('links');
  mkdirSync(links);
  const source = golden('sharded-bfloat16');
  for (const [i, file] of readdirSync(source).entries()) {
    writeFileSync(folder.in(`blob-${i}`), read(source, file));
    symlinkSync(folder.in(`blob-${i}`), join(links, file));
  }
  const out = folder.in('out');
  await exportCheckpoint({ checkpoint: links, out });
  for (const file of readdirSync(source)) expect(lstatSync(join(out, file)).isFile(), file).toBe(true);
  const session = await ort.InferenceSession.create(join(out, 'model.onnx'));
  await session.release();
});

describe('an export that cannot be', () => {
  const tied = golden('tied-gqa');

  it('refuses weights that are not finite, and leaves nothing behind', async () => {
    using folder = temporaryFolder();
    const broken = folder.in('broken');
    await cp(tied, broken, { recursive: true });
    const tensor = (await openCheckpoint(broken)).tensors.get('model.norm.weight');
    if (tensor === undefined) throw new Error('no model.norm.weight');
    const bytes = read(tensor.file);
    bytes.writeFloatLE(Number.NaN, tensor.offset + 4 * 3);
    writeFileSync(tensor.file, bytes);
    const exported = exportCheckpoint({ checkpoint: broken, out: folder.in('out') });
    await expect(exported).rejects.toThrow(/model\.norm\.weight: NaN or infinity at flat index 3/);
    await expect(exported).rejects.toHaveProperty('name', 'UserError');
    expect(readdirSync(folder.path)).toEqual(['broken']);
  });

  it('refuses a folder that exists, its own included, and replaces an export only when told to', async () => {
    using folder = temporaryFolder();
    const checkpoint = folder.in('checkpoint');
    await cp(tied, checkpoint, { recursive: true });
    await expect(exportCheckpoint({ checkpoint, out: `${checkpoint}/` })).rejects.toThrow('is the checkpoint itself');
    const foreign = folder.in('foreign');
    mkdirSync(foreign);
    writeFileSync(join(foreign, 'thesis.txt'), 'years of work');
    for (const overwrite of [false, true]) {
      const refused = exportCheckpoint({ checkpoint, out: foreign, overwrite });
      await expect(refused).rejects.toThrow('holds files that rlp-ort did not write');
    }
    const out = folder.in('out');
    await exportCheckpoint({ checkpoint, out });
    await expect(exportCheckpoint({ checkpoint, out })).rejects.toThrow('pass --overwrite to replace it');
    writeFileSync(join(out, 'left-over.txt'), '');
    await exportCheckpoint({ checkpoint: golden('untied-mha'), out, overwrite: true });
    expect(readdirSync(out).sort()).toEqual(
      [...readdirSync(golden('untied-mha')), ...GRAPHS, MARKER, 'checkpoint'].sort(),
    );
    expect(read(out, 'config.json').equals(read(golden('untied-mha'), 'config.json'))).toBe(true);
    expect([...(await loadWeights(await openCheckpoint(out))).keys()]).toContain('lm_head.weight');
    expect(readdirSync(folder.path).sort()).toEqual(['checkpoint', 'foreign', 'out']);
  });

  it('says which folder is no checkpoint', async () => {
    using folder = temporaryFolder();
    const nowhere = exportCheckpoint({ checkpoint: folder.in('nowhere'), out: folder.in('out') });
    await expect(nowhere).rejects.toThrow(folder.in('nowhere'));
    await expect(nowhere).rejects.toHaveProperty('name', 'UserError');
    expect(readdirSync(folder.path)).toEqual([]);
  });
});
