import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { expect, test } from 'vitest';
import { withTemporaryFolder } from './cli/run-cli.ts';

const FORBIDDEN: [file: string, code: string, message: string][] = [
  ['src/reward/a.ts', "export { x } from '../optim/b.ts';", 'Stage folders share records and leaves'],
  ['src/export/b.ts', "export { x } from '../train/train.ts';", 'Loops import stages'],
  ['src/runtime/c.ts', "export { x } from '../rollout/index.ts';", 'Stage folders share records and leaves'],
  ['src/rollout/d.ts', "export { x } from 'koffi';", 'Only src/runtime touches ONNX Runtime'],
  ['src/e.ts', "export { x } from 'onnxruntime-node';", 'Only src/runtime touches ONNX Runtime'],
  ['src/export/f.ts', "export { x } from './onnx_pb.ts';", 'Only src/export/serialize'],
  ['src/g.ts', "export { x } from 'apache-arrow';", 'touch Arrow'],
  ['src/tensorboard.ts', "export { x } from 'apache-arrow';", 'touch Arrow'],
  ['src/h.ts', "export { x } from './cli/main.ts';", 'Only src/cli knows of the command line'],
  ['src/i.ts', 'export const home = process.env.HOME;', 'process.env'],
];

const ALLOWED: [file: string, code: string][] = [
  ['src/train/a.ts', "export { x } from '../optim/index.ts';"],
  [
    'src/cli/a.ts',
    "export { x } from '../train/train.ts';\nexport { y } from 'yargs';\nexport const home = process.env.HOME;",
  ],
  ['src/export/serialize.ts', "export { x } from '@bufbuild/protobuf';\nexport { y } from './onnx_pb.ts';"],
  ['src/arrow.ts', "export { x } from 'apache-arrow';"],
  ['src/tensorboard.ts', "export { x } from '@bufbuild/protobuf/wire';"],
  ['src/runtime/api.ts', "export { x } from 'koffi';"],
  ['test/runtime/a.test.ts', "export { x } from 'onnxruntime-node';"],
];

/** Messages of the project's linter, by file, for files that stand alone in a folder. */
async function lint(files: readonly (readonly [file: string, code: string, ...rest: string[]])[]) {
  return await withTemporaryFolder(async (folder) => {
    const config: object = JSON.parse(readFileSync('biome.json', 'utf8'));
    writeFileSync(join(folder, 'biome.json'), JSON.stringify({ ...config, vcs: { enabled: false } }));
    for (const [file, code] of files) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), `${code}\n`);
    }
    const biome = resolve('node_modules/@biomejs/biome/bin/biome');
    const args = [biome, 'lint', '--reporter=github', '--max-diagnostics=none', '.'];
    const { stdout } = spawnSync(process.execPath, args, { cwd: folder, encoding: 'utf8' });
    const found = stdout.split('\n').filter((line) => line.startsWith('::'));
    return new Map(files.map(([file]) => [file, found.filter((line) => line.includes(`/${file},line=`))]));
  });
}

test('every import across the borders is refused, with the rule', async () => {
  const found = await lint(FORBIDDEN);
  for (const [file, , message] of FORBIDDEN) expect(found.get(file)).toEqual([expect.stringContaining(message)]);
});

test('what the borders are for is allowed', async () => {
  const found = await lint(ALLOWED);
  for (const [file] of ALLOWED) expect(found.get(file)).toEqual([]);
});
