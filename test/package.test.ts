import { type ExecFileOptions, execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ARTIFACTS } from '../src/export/artifacts.ts';
import { Session } from '../src/runtime/index.ts';

/**
 * The package as others get it: built, packed, unpacked into a project of its own, and run by plain Node.js. Only the
 * dependencies that package.json declares are there.
 */
const ROOT = fileURLToPath(new URL('..', import.meta.url));
/** Documents whose ```js blocks are whole programs, in the order in which they build on each other. */
const DOCUMENTS = ['library.md', 'arrow-schema.md', 'artifacts.md'];

const execute = promisify(execFile);
// npm and npx are scripts on Windows, which only a shell can start.
const npm = (args: string[], options: ExecFileOptions) =>
  execute('npm', args, { ...options, shell: process.platform === 'win32' });

interface PackReport {
  filename: string;
  /** Bytes of the tarball. */
  size: number;
  files: { path: string }[];
}

let project: string;
let report: PackReport;
const inProject = (file: string, ...args: string[]) => execute(process.execPath, [file, ...args], { cwd: project });
const installed = (path: string) => join(project, 'node_modules/rlp-ort', path);

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'rlp-ort-package-'));
  await npm(['run', 'build'], { cwd: ROOT });
  const { stdout } = await npm(['pack', '--ignore-scripts', '--json', '--pack-destination', project], { cwd: ROOT });
  [report] = JSON.parse(String(stdout));
  await mkdir(installed(''), { recursive: true });
  await execute('tar', ['-xzf', report.filename, '--strip-components=1', '-C', 'node_modules/rlp-ort'], {
    cwd: project,
  });
  const { dependencies, optionalDependencies } = JSON.parse(await readFile(installed('package.json'), 'utf8'));
  // @types/node is for type checking; every TypeScript project for Node.js has it.
  for (const name of [...Object.keys({ ...dependencies, ...optionalDependencies }), '@types/node']) {
    const link = join(project, 'node_modules', name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(join(ROOT, 'node_modules', name), link, 'junction');
  }
  await writeFile(join(project, 'package.json'), '{ "type": "module" }\n');
});

afterAll(() => rm(project, { recursive: true, force: true }));

test('holds the program, its types, the tiny model and the documents, and nothing else', () => {
  const paths = report.files.map(({ path }) => path);
  const expected = ['dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js', 'LICENSE', 'README.md', 'docs/method.md'];
  expect(paths).toEqual(expect.arrayContaining([...expected, 'models/tiny-qwen3/model.safetensors']));
  expect(paths.filter((path) => !/^(dist|models|docs)\/|^(LICENSE|README\.md|package\.json)$/.test(path))).toEqual([]);
  expect(report.size).toBeLessThan(8e6);
});

test('every module loads', async () => {
  const modules = report.files.map(({ path }) => path).filter((path) => path.endsWith('.js'));
  const imports = modules.map((path) => `await import('./node_modules/rlp-ort/${path}');`);
  await writeFile(join(project, 'load.js'), `${imports.join('\n')}\nconsole.log('loaded');\n`);
  expect((await inProject('load.js')).stdout).toBe('loaded\n');
});

test('the command line', async () => {
  const main = 'node_modules/rlp-ort/dist/cli/main.js';
  expect(await readFile(installed('dist/cli/main.js'), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
  expect((await inProject(main, '--help')).stdout).toMatch(/rlp-ort rollout +Let a model think/);
  expect((await inProject(main, '--version')).stdout).toBe(
    `${JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')).version}\n`,
  );
  expect(JSON.parse((await inProject(main, 'doctor', '--json')).stdout)).toMatchObject({ ok: true });
});

test('a reward module in TypeScript, by Node.js or by the tsx of the project, and what it says where there is neither', async () => {
  // The module that the documents show.
  const library = await readFile(installed('docs/library.md'), 'utf8');
  const [, module] = /^```ts\n(import type \{ RewardFunction \}.*?)^```$/ms.exec(library) ?? [];
  await writeFile(join(project, 'reward.ts'), String(module));
  const model = 'node_modules/rlp-ort/models/tiny-qwen3';
  const files = ['--model', model, '--data', `${model}/corpus/held-out.jsonl`, '--limit', '1'];
  const flags = ['--group-size', '2', '--max-thought-tokens', '2', '--json'];
  const rollout = (reward: string) =>
    inProject(
      'node_modules/rlp-ort/dist/cli/main.js',
      ...['rollout', ...files, ...flags, '--reward', reward, '--out', `${reward}.arrow`],
    );
  const expectPaid = ({ stdout }: { stdout: string | Buffer }) => {
    const { reward, noThinkCrossEntropy, reasonedCrossEntropy, tokens, rows } = JSON.parse(String(stdout));
    expect(reward).toBeCloseTo(noThinkCrossEntropy - reasonedCrossEntropy - (0.01 * tokens) / rows, 5);
  };
  if ((process.features as { typescript?: string | false }).typescript) expectPaid(await rollout('reward.ts'));
  else {
    await expect(rollout('reward.ts')).rejects.toMatchObject({
      code: 2,
      stderr: `rlp-ort: reward module reward.ts: Node.js ${process.versions.node} cannot load TypeScript by itself; install tsx in the project (npm install --save-dev tsx), take Node.js 22.18 or newer, or compile it: npx tsc --module esnext --target es2023 reward.ts\n`,
    });
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    await inProject(tsc, '--strict', '--module', 'esnext', '--target', 'es2023', 'reward.ts');
    expectPaid(await rollout('reward.js'));
  }
  // With tsx: also what is more than types, imports of other modules, and a folder that says nothing of its modules.
  await symlink(join(ROOT, 'node_modules/tsx'), join(project, 'node_modules/tsx'), 'junction');
  const enumerated = String(module).replace('0.01', 'Price.Token');
  await writeFile(join(project, 'enumerated.ts'), `import { Price } from './price.ts';\n${enumerated}`);
  await writeFile(join(project, 'price.ts'), 'export enum Price { Token = 0.01 }\n');
  expectPaid(await rollout('enumerated.ts'));
  const elsewhere = await mkdtemp(join(tmpdir(), 'rlp-ort-reward-'));
  try {
    await writeFile(join(elsewhere, 'common.ts'), String(module).replace('0.01', '<number>0.01'));
    expectPaid(await rollout(join(elsewhere, 'common.ts')));
    await writeFile(join(elsewhere, 'broken.ts'), 'export default (: string) => 1;\n');
    await expect(rollout(join(elsewhere, 'broken.ts'))).rejects.toMatchObject({
      code: 2,
      stderr: expect.stringMatching(/^rlp-ort: reward module \S+broken\.ts: cannot be loaded: .*\n/),
    });
  } finally {
    await rm(elsewhere, { recursive: true, force: true });
  }
}, 120_000);

test('the programs in the documents pass the type checker and run', async () => {
  const programs: string[] = [];
  for (const document of DOCUMENTS) {
    const text = await readFile(installed(`docs/${document}`), 'utf8');
    for (const [, program] of text.matchAll(/^```js\n(.*?)^```$/gms)) {
      const name = `${document.replace('.md', '')}-${programs.length + 1}`;
      programs.push(name);
      await writeFile(join(project, `${name}.js`), program);
      await writeFile(join(project, `${name}.ts`), program);
    }
  }
  expect(programs.length).toBeGreaterThanOrEqual(DOCUMENTS.length);

  const options = ['--noEmit', '--strict', '--module', 'nodenext', '--target', 'es2023', '--types', 'node'];
  const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
  const checked = await inProject(tsc, ...options, ...programs.map((name) => `${name}.ts`)).catch(
    (error: { stdout: string }) => error,
  );
  expect(checked.stdout).toBe('');
  for (const name of programs) await inProject(`${name}.js`);

  // The run of the first program: what it logged is explained.
  const explained = await readFile(installed('docs/metrics.md'), 'utf8');
  const rows = (await readFile(join(project, 'run/metrics.jsonl'), 'utf8')).trim().split('\n');
  const logged = new Set(rows.flatMap((row) => Object.keys(JSON.parse(row))));
  expect(logged).toContain('eval/information_gain');
  expect([...logged].filter((name) => !explained.includes(`\`${name}\``))).toEqual([]);

  // Its export: every input and output has its place in a table.
  const artifacts = await readFile(installed('docs/artifacts.md'), 'utf8');
  const missing = new Set<string>();
  for (const graph of Object.values(ARTIFACTS)) {
    using session = await Session.create(join(project, 'exported', graph));
    for (const { name } of [...session.inputs, ...session.outputs]) {
      const documented = name
        .replace(/^model\.(embed_tokens|layers|norm)\..*?(weight|bias)/, 'NAME')
        .replace(/\.\d+\.(key|value)(\.out)?$/, '.{i}.key');
      if (!artifacts.includes(`\`${documented}\``)) missing.add(`${graph}: ${documented}`);
    }
  }
  expect([...missing]).toEqual([]);
}, 120_000);
