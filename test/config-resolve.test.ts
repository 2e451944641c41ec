import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { trainOptionsSchema, trainSchema } from '../src/config.ts';
import { type Layer, readSettingsFile, resolveSettings, settingsToYaml } from '../src/config-resolve.ts';
import { UserError } from '../src/errors.ts';
import { nearest } from '../src/nearest.ts';
import { withTemporaryFolder } from './cli/run-cli.ts';

const needed = { model: 'm', data: 'a.txt', run: 'r' };
const resolve = (...layers: Layer[]) => resolveSettings(trainOptionsSchema, trainSchema, layers);

test('a flag goes before the file, the file before the default', () => {
  const file = { file: 'c.yaml', values: { ...needed, steps: 10, 'group-size': 4 } };
  const settings = resolve(file, { values: { steps: '20' } });
  expect(settings).toMatchObject({ steps: 20, groupSize: 4, seed: 0, data: ['a.txt'] });
});

test.each<[string, string, number]>([
  ['learning-rate', '1e-6', 1e-6],
  ['temperature', '.5', 0.5],
  ['top-k', '50', 50],
  ['top-p', '.95', 0.95],
  ['min-p', '5e-2', 0.05],
  ['seed', '+7', 7],
])('--%s %s is a number', (name, text, value) => {
  const key = name.replace(/-(.)/, (_, letter: string) => letter.toUpperCase());
  expect(resolve({ values: { ...needed, [name]: text } })).toHaveProperty(key, value);
});

test.each<[Record<string, unknown>, string]>([
  [
    { 'group-size': '1' },
    '--group-size 1: must be a whole number, at least 2 (a thought is paid relative to the others',
  ],
  [{ 'group-size': '2.5' }, '--group-size 2.5: must be a whole number, at least 2'],
  [{ temperature: '-1' }, '--temperature -1: must be a number, at least 0'],
  [{ temperature: '0' }, '--temperature 0: must be above 0 for training: without chance'],
  [{ temperature: 'warm' }, '--temperature warm: must be a number, at least 0'],
  [{ 'top-k': '-1' }, '--top-k -1: must be a whole number, at least 0'],
  [{ 'top-k': '1' }, '--top-k 1: must not be 1 for training'],
  [{ 'top-p': '0' }, '--top-p 0: must be a number, above 0, at most 1'],
  [{ 'top-p': '1.5' }, '--top-p 1.5: must be a number, above 0, at most 1'],
  [{ 'min-p': '-0.1' }, '--min-p -0.1: must be a number, at least 0, at most 1'],
  [{ steps: '0x10' }, '--steps 0x10: must be a whole number, at least 1'],
  [{ steps: '' }, '--steps "": must be a whole number, at least 1'],
  [{ 'learning-rate': 'Infinity' }, '--learning-rate Infinity: must be a number, at least 0'],
  [{ beta1: '1' }, '--beta1 1: must be a number, at least 0, below 1'],
  [{ objective: 'ppo' }, '--objective ppo: must be one of rlp, rpt, grpo, cpt, sft'],
  [{ device: 'cuda:x' }, '--device cuda:x: must be cpu, cuda or cuda:N'],
  [{ 'think-open': '' }, '--think-open "": must not be empty'],
  [{ data: [] }, '--data []: needs at least one value'],
  [{ seed: ['1', '2'] }, '--seed ["1","2"]: is given more than once'],
  [{ 'warmup-steps': '300' }, '--warmup-steps 300: must be at most --steps (200)'],
  [
    { objective: 'cpt', 'group-size': '8', 'loss-on': 'all' },
    '2 problems:\n  --group-size 8: is for --objective rlp, rpt or grpo only, and this is cpt\n  --loss-on all: is for --objective sft only',
  ],
  [{ group: '4' }, '--group: unknown option; did you mean --group-size?'],
])('%j is refused', (values, message) => {
  expect(() => resolve({ values: { ...needed, ...values } })).toThrow(UserError);
  expect(() => resolve({ values: { ...needed, ...values } })).toThrow(message);
});

test.each<[Record<string, unknown>, string]>([
  [{ 'group-size': 1 }, 'group-size: 1 in c.yaml: must be a whole number, at least 2'],
  [{ 'group-size': '8' }, 'group-size: 8 in c.yaml: must be a whole number, at least 2'],
  [{ groupsize: 8 }, 'groupsize in c.yaml: unknown key; did you mean group-size?'],
  [{ group_size: 8 }, 'group_size in c.yaml: unknown key; did you mean group-size?'],
  [{ resume: true }, 'resume in c.yaml: unknown key; see --help'],
  [
    { objective: 'sft', 'clip-low': 0.3 },
    'clip-low: 0.3 in c.yaml: is for --objective rlp, rpt or grpo only, and this is sft',
  ],
  [{ limit: null }, 'limit: null in c.yaml: must be a whole number, at least 1'],
])('%j in a file is refused', (values, message) => {
  expect(() => resolve({ values: needed }, { file: 'c.yaml', values })).toThrow(message);
});

test('a file of settings that is not one', async () => {
  await withTemporaryFolder(async (folder) => {
    const file = join(folder, 'c.yaml');
    await expect(readSettingsFile(file)).rejects.toThrow(`cannot read ${file}: no such file or folder (ENOENT)`);
    await writeFile(file, '- a\n- b\n');
    await expect(readSettingsFile(file)).rejects.toThrow(/expected lines of `key: value`/);
    await writeFile(file, 'steps: 1\nsteps: 2\n');
    await expect(readSettingsFile(file)).rejects.toThrow(/not valid YAML: Map keys must be unique at line 2/);
    await writeFile(file, '# nothing yet\n');
    expect(await readSettingsFile(file)).toEqual({ file, values: {} });
  });
});

test('settings written as YAML resolve to themselves', () => {
  const {
    json: _json,
    dryRun: _dryRun,
    resume: _resume,
    config: _config,
    ...settings
  } = resolve({
    values: { ...needed, objective: 'sft', 'learning-rate': '3e-7', limit: '5', 'think-open': ': # {' },
  });
  const values: Record<string, unknown> = parse(settingsToYaml(trainOptionsSchema, settings));
  expect(resolve({ file: 'again.yaml', values })).toMatchObject(settings);
});

test('the nearest name', () => {
  const names = ['steps', 'step', 'group-size', 'documents-per-step', 'seed'];
  expect(nearest('stepps', names)).toBe('steps');
  expect(nearest('GROUP_SIZE', names)).toBe('group-size');
  expect(nearest('banana', names)).toBeUndefined();
});
