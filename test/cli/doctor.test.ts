import { expect, test } from 'vitest';
import { type Facts, formatDiagnosis, judge } from '../../src/cli/doctor-checks.ts';
import { type CudaSetup, cudaAdvice } from '../../src/runtime/index.ts';
import { runCli } from './run-cli.ts';

const BIN = '/ort/bin/napi-v6/linux/x64';
const CUDA_13 = ['libcuda.so.1', 'libcudart.so.13', 'libcudnn.so.9'];
/** A machine without anything of NVIDIA's. */
const nothing: CudaSetup = {
  driver: undefined,
  provider: { folder: BIN, missing: ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'] },
  cudaMajor: undefined,
  libraries: CUDA_13.map((name) => ({ name, found: false })),
};
const complete: CudaSetup = {
  driver: '580.82.07',
  provider: { folder: BIN, missing: [] },
  cudaMajor: 13,
  libraries: CUDA_13.map((name) => ({ name, found: true, ...(name === 'libcudnn.so.9' && { version: '9.10.2' }) })),
};
const withCuda = (usable: boolean, setup: CudaSetup): Facts => ({
  ...healthy,
  runtime: { ...runtime, cuda: { usable, reason: 'it did not load', setup } },
});

const runtime = {
  version: '1.30.0',
  libraryPath: '/ort/bin/napi-v6/linux/x64/libonnxruntime.so.1',
  cpuUsable: true,
  providers: ['CUDAExecutionProvider', 'CPUExecutionProvider'],
  cuda: { usable: false, reason: 'the provider is not there', setup: nothing },
};
const healthy: Facts = {
  node: '22.12.0',
  platform: 'linux-x64',
  runtime,
  cpu: { model: 'Some CPU', threads: 4 },
  memory: { total: 16 * 2 ** 30, free: 2 ** 33, limit: 2 ** 32 },
  disk: { folder: 'work', free: 2 ** 30 },
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

test('a GPU without the provider: the commands that install it', () => {
  const cuda = judge(withCuda(false, { ...complete, ...nothing, driver: '580.82.07' })).at(-1);
  expect(cuda).toMatchObject({ name: 'CUDA', status: 'absent', found: 'not usable: it did not load' });
  expect(cuda?.advice).toContain('onnxruntime-gpu==1.30.0\n');
  expect(cuda?.advice).toContain(`-d ${BIN}\n`);
  expect(cuda?.advice).toContain('libcudart.so.13, libcudnn.so.9 not found: CUDA 13 and cuDNN 9 are needed');
});

test.each([
  ['an old driver', { driver: '550.54' }, 'NVIDIA driver 550.54 is older than CUDA 13 needs: install 580 or later'],
  ['no driver', { driver: undefined }, 'no NVIDIA driver: install the one of your GPU, 580 or later'],
  [
    'a provider for CUDA 12',
    { cudaMajor: 12, libraries: [{ name: 'libcudart.so.12', found: false }] },
    'libcudart.so.12 not found: CUDA 12 and cuDNN 9 are needed\ninstall CUDA 12',
  ],
])('says what is missing: %s', (_what, change, text) => {
  const advice = cudaAdvice({ ...complete, ...change }, '1.30.0');
  expect(advice).toHaveLength(1);
  expect(advice[0]).toContain(text);
});

test('a GPU that works', () => {
  expect(cudaAdvice(complete, '1.30.0')).toEqual([]);
  const checks = judge(withCuda(true, complete));
  expect(checks.find(({ name }) => name === 'Providers')?.found).toBe('CPU and CUDA (tried)');
  expect(checks.at(-1)).toEqual({
    name: 'CUDA',
    status: 'ok',
    found: 'usable, driver 580.82.07, libcudnn.so.9 9.10.2',
  });
});

test('without a GPU, asking for it says what is missing, and exits with 2', async () => {
  const { code, out, err } = await runCli(['doctor', '--device', 'cuda']);
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toMatch(/cannot use device cuda:0: .*; what is missing:\n- no NVIDIA driver: install/);
  expect(err).not.toContain('    at ');
});

test('where the nodes of a model run', async () => {
  const { code, out } = await runCli(['doctor', '--model', 'models/tiny-qwen3']);
  expect(code).toBe(0);
  for (const graph of ['rollout_prefill', 'rollout_step', 'training_model', 'eval_model', 'optimizer_model']) {
    expect(out).toMatch(new RegExp(`ok {2}${graph} +all of \\d+ nodes on cpu`));
  }
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
