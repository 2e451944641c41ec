import { expect, test } from 'vitest';
import { type Facts, formatDiagnosis, judge } from '../../src/cli/doctor-checks.ts';
import { runCli } from './run-cli.ts';

const runtime = {
  version: '1.30.0',
  libraryPath: '/ort/bin/napi-v6/linux/x64/libonnxruntime.so.1',
  cpuUsable: true,
  providers: ['CUDAExecutionProvider', 'CPUExecutionProvider'],
  cuda: { usable: false, reason: 'the provider is not there' },
};
const healthy: Facts = {
  node: '22.12.0',
  platform: 'linux-x64',
  runtime,
  cpu: { model: 'Some CPU', threads: 4 },
  memory: { total: 16 * 2 ** 30, free: 2 ** 33, limit: 2 ** 32 },
  disk: { folder: 'work', free: 2 ** 30 },
  nvidiaDriver: false,
};

test('this machine can run the program', async () => {
  const { code, out, err } = await runCli(['doctor', '--json']);
  expect({ code, err }).toEqual({ code: 0, err: '' });
  expect(JSON.parse(out)).toMatchObject({ ok: true, node: process.versions.node, runtime: { version: '1.30.0' } });
  const text = await runCli(['doctor']);
  expect(text.out).toMatch(/^ok {2}Node\.js .*\nok {2}ONNX Runtime {2}1\.30\.0, .*onnxruntime.*\nok {2}Providers +CPU/);
});

test('a machine without a GPU is healthy and is told that nothing is missing', () => {
  expect(formatDiagnosis(judge(healthy), false)).toMatchInlineSnapshot(`
    "ok  Node.js       22.12.0
    ok  ONNX Runtime  1.30.0, /ort/bin/napi-v6/linux/x64/libonnxruntime.so.1
    ok  Providers     CPU (tried)
    ok  CPU           4 threads, Some CPU
    ok  Memory        16.0 GiB, 8.0 GiB free, limited to 4.0 GiB
    ok  Disk          1.0 GiB free at work
    --  CUDA          not usable: the provider is not there
                      > no NVIDIA driver here, so nothing to install; the CPU works"
  `);
});

test('a GPU without the provider: the command that installs it', () => {
  const cuda = judge({ ...healthy, nvidiaDriver: true }).at(-1);
  expect(cuda).toMatchObject({ name: 'CUDA', status: 'absent' });
  expect(cuda?.advice).toContain('node /ort/script/install.js --onnxruntime-node-install=cuda12');
});

test('a GPU that works', () => {
  const checks = judge({ ...healthy, runtime: { ...runtime, cuda: { usable: true } } });
  expect(checks.find(({ name }) => name === 'Providers')?.found).toBe('CPU and CUDA (tried)');
  expect(checks.at(-1)).toEqual({ name: 'CUDA', status: 'ok', found: 'usable' });
});

test('what is missing is said with what to do about it', () => {
  const checks = judge({ ...healthy, node: '20.18.9', runtime: { error: 'cannot load it; do this' } });
  expect(checks.filter(({ status }) => status === 'missing')).toEqual([
    { name: 'Node.js', status: 'missing', found: '20.18.9', advice: expect.stringContaining('install Node.js 20.19') },
    {
      name: 'ONNX Runtime',
      status: 'missing',
      found: 'cannot load it (linux-x64)',
      advice: expect.stringContaining('npm install --ignore-scripts'),
    },
  ]);
});
