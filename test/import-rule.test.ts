import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';

/** Messages of the linter about one line of code, as if it stood in the file. */
function lint(file: string, code: string): string {
  const args = ['node_modules/@biomejs/biome/bin/biome', 'lint', `--stdin-file-path=${file}`];
  const { stdout, stderr } = spawnSync(process.execPath, args, { input: `${code}\n`, encoding: 'utf8' });
  return stdout + stderr;
}

test.each([
  ['src/reward/a.ts', "export { x } from '../optim/b.ts';", 'Stage folders share records and leaves'],
  ['src/export/a.ts', "export { x } from '../train.ts';", 'Loops import stages'],
  ['src/runtime/a.ts', "export { x } from '../rollout/index.ts';", 'Stage folders share records and leaves'],
  ['src/rollout/a.ts', "export { x } from 'koffi';", 'Only src/runtime touches ONNX Runtime'],
  ['src/train.ts', "export { x } from 'onnxruntime-node';", 'Only src/runtime touches ONNX Runtime'],
  ['src/export/ir.ts', "export { x } from './onnx_pb.ts';", 'Only src/export/serialize'],
  ['src/records.ts', "export { x } from 'apache-arrow';", 'touch Arrow'],
  ['src/train.ts', "export { x } from './cli/main.ts';", 'Only src/cli knows of the command line'],
  ['src/train.ts', 'export const home = process.env.HOME;', 'noProcessEnv'],
])('%s may not have: %s', (file, code, message) => {
  expect(lint(file, code)).toContain(message);
});

test.each([
  ['src/train.ts', "export { x } from './optim/index.ts';"],
  ['src/cli/a.ts', "export { x } from '../train.ts';"],
  ['src/cli/a.ts', 'export const home = process.env.HOME;'],
  ['src/export/serialize.ts', "export { x } from '@bufbuild/protobuf';"],
  ['src/arrow.ts', "export { x } from 'apache-arrow';"],
  ['src/runtime/api.ts', "export { x } from 'koffi';"],
])('%s may have: %s', (file, code) => {
  expect(lint(file, code)).not.toMatch(/noRestrictedImports|noProcessEnv/);
});
