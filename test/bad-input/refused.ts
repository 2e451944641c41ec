import { createHash } from 'node:crypto';
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { loadWeights, openCheckpoint, type Weight, writeCheckpointDirectory } from '../../src/export/index.ts';
import { runCli } from '../cli/run-cli.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';
import { goldenPath } from '../golden/golden.ts';

/** A random Qwen3 of 3 layers and 45,000 parameters with a byte-level tokenizer, in three bfloat16 shards. */
export const SHARDED = goldenPath('checkpoints', 'sharded-bfloat16');

export const TEXT = 'The quick brown fox jumps over the lazy dog.\n';

export type Workplace = ReturnType<typeof temporaryFolder>;

/** A folder with `model`, the first layer of the model above as one float32 file, and `text.txt`. */
export async function workplace(change: (weights: Map<string, Weight>) => void = () => {}): Promise<Workplace> {
  const folder = temporaryFolder();
  const source = folder.in('source');
  cpSync(SHARDED, source, { recursive: true });
  const config: Record<string, unknown> = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));
  const oneLayer = { ...config, num_hidden_layers: 1, layer_types: ['full_attention'] };
  writeFileSync(join(source, 'config.json'), JSON.stringify(oneLayer));
  const all = await loadWeights(await openCheckpoint(SHARDED));
  const weights = new Map([...all].filter(([name]) => !/layers\.[12]\./.test(name)));
  await writeCheckpointDirectory({ out: folder.in('model'), source, weights, dtype: 'float32' });
  rmSync(source, { recursive: true });
  // Afterwards: the writer above refuses what is broken.
  const { tensors } = await openCheckpoint(folder.in('model'));
  change(weights);
  const file = folder.in('model', 'model.safetensors');
  const bytes = readFileSync(file);
  for (const [name, { data }] of weights) {
    bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), tensors.get(name)?.offset);
  }
  writeFileSync(file, bytes);
  writeFileSync(folder.in('text.txt'), TEXT);
  return folder;
}

/** Path of everything in a folder, below it, with the hash of the files. */
export function contentOf(folder: string): Map<string, string> {
  const entries = readdirSync(folder, { recursive: true, withFileTypes: true });
  return new Map(
    entries
      .map((entry): [string, string] => {
        const path = join(entry.parentPath, entry.name);
        return [
          path.slice(folder.length),
          entry.isFile() ? createHash('sha256').update(readFileSync(path)).digest('hex') : '',
        ];
      })
      .sort(([a], [b]) => (a < b ? -1 : 1)),
  );
}

/**
 * Runs the program in this process and expects it to refuse: exit code 2, nothing on standard output, a message without a
 * stack, and `folder` as it was.
 * @returns the message
 */
export async function refused(folder: Workplace, args: readonly string[]): Promise<string> {
  const before = contentOf(folder.path);
  const { code, out, err } = await runCli(args);
  expect({ code, out, err }).toMatchObject({ code: 2, out: '', err: expect.stringMatching(/^rlp-ort: /) });
  expect(err).not.toMatch(/\n\s+at /);
  expect([...contentOf(folder.path).keys()]).toEqual([...before.keys()]);
  expect(contentOf(folder.path)).toEqual(before);
  return err.slice('rlp-ort: '.length).trimEnd();
}

type Flags = Record<string, string>;

const THINKING: Flags = { 'max-thought-tokens': '4', 'group-size': '2' };

/** Flags of every command that reads a model, as small as they can be. */
const FLAGS: Record<string, (folder: Workplace) => Flags> = {
  export: (folder) => ({ out: folder.in('new', 'out') }),
  rollout: (folder) => ({ ...input(folder), out: folder.in('new', 'out.arrow'), ...THINKING }),
  'train rlp': (folder) => ({ ...input(folder), run: folder.in('new', 'run'), 'documents-per-step': '1', ...THINKING }),
  'train cpt': (folder) => ({
    ...input(folder),
    run: folder.in('new', 'run'),
    ...{ objective: 'cpt', 'block-length': '16', 'batch-tokens': '16' },
  }),
};

const input = (folder: Workplace): Flags => ({ model: folder.in('model'), data: folder.in('text.txt') });

export const COMMANDS: readonly string[] = Object.keys(FLAGS);

/** Arguments of a command on the model and the text of `folder`, its output in `folder`/new. */
export function argumentsOf(command: string, folder: Workplace, more: Flags = {}): string[] {
  const flags = Object.entries({ ...FLAGS[command](folder), ...more }).flatMap(([name, value]) => [`--${name}`, value]);
  return [command.split(' ')[0], ...(command === 'export' ? [folder.in('model')] : []), ...flags];
}
