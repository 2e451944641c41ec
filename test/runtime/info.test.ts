import { existsSync } from 'node:fs';
import koffi from 'koffi';
import { expect, test } from 'vitest';
import { UserError } from '../../src/errors.ts';
import { created, environment } from '../../src/runtime/environment.ts';
import { runtimeInfo, Session, Value } from '../../src/runtime/index.ts';
import { cudaLibraries, findLibrary } from '../../src/runtime/library.ts';
import { cudaSettings } from '../../src/runtime/providers.ts';
import { addModel } from './models.ts';

const cuda = { kind: 'cuda', id: 0 } as const;
const info = runtimeInfo();

test('tells what there is to compute with', () => {
  expect(info.version).toBe('1.30.0');
  expect(existsSync(info.libraryPath)).toBe(true);
  expect(info.providers).toContain('CPUExecutionProvider');
  if (!info.cuda.usable) expect(info.cuda.reason).toMatch(/^cannot use device cuda:0: /);
});

test('kernels have a main thread’s stack on every thread', () => {
  expect(koffi.config()).toMatchObject({ sync_stack_size: 8 * 2 ** 20, async_stack_size: 8 * 2 ** 20 });
});

test('a platform without a library is named', () => {
  const { arch } = process;
  Object.defineProperty(process, 'arch', { value: 'mips' });
  try {
    expect(findLibrary).toThrow(UserError);
    expect(findLibrary).toThrow(`has no ONNX Runtime library for ${process.platform}-mips`);
  } finally {
    Object.defineProperty(process, 'arch', { value: arch });
  }
});

test.skipIf(info.cuda.usable)('asking for CUDA where there is none says what to do', async () => {
  const advice = /^cannot use device cuda:0: .*; what is missing:\n- /;
  await expect(Session.create(addModel(), { device: cuda })).rejects.toThrow(UserError);
  await expect(Session.create(addModel(), { device: cuda })).rejects.toThrow(advice);
  expect(() => Value.empty('float32', [2], cuda)).toThrow(advice);
});

// With the provider library absent the calls fail, but a wrong signature would crash.
test.skipIf(cudaLibraries().some(existsSync) || !info.providers.includes('CUDAExecutionProvider'))(
  'the CUDA functions of the C API report a missing provider',
  () => {
    const { api } = environment();
    const options = created<bigint>((out) => api.CreateSessionOptions(out));
    const provider = created<bigint>((out) => api.CreateCUDAProviderOptions(out));
    api.SetSessionLogSeverityLevel(options, 4);
    expect(() => api.UpdateCUDAProviderOptions(provider, ['device_id'], ['0'], 1)).toThrow('Failed to load library');
    expect(() => api.SessionOptionsAppendExecutionProvider_CUDA_V2(options, provider)).toThrow('Failed to load');
    api.ReleaseCUDAProviderOptions(provider);
    api.ReleaseSessionOptions(options);
  },
);

test.skipIf(!info.cuda.usable)('the same code runs on CUDA', async () => {
  using session = await Session.create(addModel(), { device: cuda });
  using host = Value.from('float32', [1, 2], [1, 2]);
  using a = Value.empty('float32', [1, 2], cuda);
  a.copyFrom(host);
  using b = Value.from('float32', [2], [10, 20]); // a host tensor, copied anew in every run
  using c = Value.empty('float32', [1, 2], cuda);
  using binding = session.bind().input('a', a).input('b', b).output('c', c);
  await binding.run();
  host.copyFrom(c);
  expect([...host.data]).toEqual([11, 22]);
  b.data[0] = 50;
  binding.output('c', a).runSync(); // in place
  host.copyFrom(a);
  expect([...host.data]).toEqual([51, 22]);
  binding.outputOn('c', cuda);
  await binding.run();
  using allocated = binding.outputs().c;
  expect(allocated.device).toEqual(cuda);
  expect(() => allocated.data).toThrow('a tensor on cuda:0 has no host view');
  host.copyFrom(allocated);
  expect([...host.data]).toEqual([101, 42]);
  const onHost = await session.run({ a, b });
  expect([...onHost.c.data]).toEqual([101, 42]);
  onHost.c.dispose();
});

test('the CUDA provider is told what it may take, by its own names', () => {
  expect(cudaSettings(1)).toEqual({ device_id: '1', arena_extend_strategy: 'kSameAsRequested', use_tf32: '0' });
  const all = { memoryLimit: 2 ** 30, arenaExtendStrategy: 'kNextPowerOfTwo', tf32: true, graphs: true } as const;
  expect(cudaSettings(0, all)).toEqual({
    ...{ device_id: '0', arena_extend_strategy: 'kNextPowerOfTwo', use_tf32: '1' },
    ...{ gpu_mem_limit: '1073741824', enable_cuda_graph: '1' },
  });
});
