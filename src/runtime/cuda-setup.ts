import { closeSync, existsSync, openSync, readFileSync, readSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import koffi from 'koffi';
import { cudaLibraries } from './library.ts';

/** What ONNX Runtime's CUDA provider needs of a machine, and what is there. */
export interface CudaSetup {
  /** Version of NVIDIA's kernel driver; undefined where there is none. */
  driver: string | undefined;
  /** Folder that ONNX Runtime looks for its CUDA provider in, and the files of it that are not there. */
  provider: { folder: string; missing: string[] };
  /** Version of CUDA that the provider was built for; undefined where it is not there. */
  cudaMajor: number | undefined;
  /** Libraries that the provider loads, in the order of loading. */
  libraries: { name: string; found: boolean; version?: string }[];
}

/** Names of the libraries of a CUDA version, and the functions that tell their versions. */
const LIBRARIES: Record<number, readonly string[]> = {
  12: ['libcudart.so.12', 'libcublasLt.so.12', 'libcublas.so.12', 'libcurand.so.10', 'libcufft.so.11', 'libcudnn.so.9'],
  13: ['libcudart.so.13', 'libcublasLt.so.13', 'libcublas.so.13', 'libcurand.so.10', 'libcufft.so.12', 'libcudnn.so.9'],
};
/** The PyPI packages of ONNX Runtime 1.30 are built for it. */
const DEFAULT_CUDA = 13;
const DRIVER_LIBRARY = 'libcuda.so.1';

/** Looks at the machine; loads libraries, and so takes a moment where there is a GPU. */
export function cudaSetup(): CudaSetup {
  const files = cudaLibraries();
  const missing = files.filter((path) => !existsSync(path));
  const cudaMajor = missing.length > 0 ? undefined : builtFor(files);
  const names = [DRIVER_LIBRARY, ...(LIBRARIES[cudaMajor ?? DEFAULT_CUDA] ?? [])];
  return {
    driver: driverVersion(),
    provider: { folder: dirname(files[0]), missing: missing.map((path) => basename(path)) },
    cudaMajor,
    libraries: names.map(probe),
  };
}

function driverVersion(): string | undefined {
  const path = '/proc/driver/nvidia/version';
  if (!existsSync(path)) return undefined;
  const text = readFileSync(path, 'utf8');
  return /Kernel Module.*?\s(\d+\.[\d.]+)/.exec(text)?.[1] ?? text.split('\n', 1)[0];
}

const CHUNK_BYTES = 2 ** 22;

/** The provider names the CUDA runtime that it is linked with; the name stands near the start of the file. */
function builtFor(files: readonly string[]): number | undefined {
  const path = files.find((file) => basename(file).includes('_cuda'));
  if (path === undefined) return undefined;
  const file = openSync(path, 'r');
  try {
    const buffer = Buffer.alloc(CHUNK_BYTES);
    let kept = '';
    for (let read = readSync(file, buffer); read > 0; read = readSync(file, buffer)) {
      const text = kept + buffer.toString('latin1', 0, read);
      const major = /libcudart\.so\.(\d+)/.exec(text)?.[1];
      if (major !== undefined) return Number(major);
      kept = text.slice(-64);
    }
    return undefined;
  } finally {
    closeSync(file);
  }
}

function probe(name: string): CudaSetup['libraries'][number] {
  try {
    const library = koffi.load(name);
    const version = versionOf(name, library);
    return { name, found: true, ...(version !== undefined && { version }) };
  } catch {
    return { name, found: false };
  }
}

/** As NVIDIA numbers them: CUDA 13000 is 13.0, cuDNN 91002 is 9.10.2. */
function versionOf(name: string, library: ReturnType<typeof koffi.load>): string | undefined {
  if (name.startsWith('libcudnn')) {
    const number = Number(library.func('cudnnGetVersion', 'size_t', [])());
    return `${Math.floor(number / 10_000)}.${Math.floor(number / 100) % 100}.${number % 100}`;
  }
  const ask = name.startsWith('libcudart') ? 'cudaRuntimeGetVersion' : 'cuDriverGetVersion';
  if (!/cudart|libcuda\.so/.test(name)) return undefined;
  const out = [0];
  const failed = Number(library.func(ask, 'int', [koffi.out(koffi.pointer('int'))])(out));
  return failed === 0 ? `CUDA ${Math.floor(out[0] / 1000)}.${Math.floor(out[0] / 10) % 100}` : undefined;
}

/** Oldest driver of a CUDA version, as its release notes have it. */
const OLDEST_DRIVER: Record<number, number> = { 12: 525, 13: 580 };

/**
 * What is missing for CUDA, one after the other, each with the command that brings it; empty where nothing is.
 * @param version of ONNX Runtime
 */
export function cudaAdvice({ driver, provider, cudaMajor, libraries }: CudaSetup, version: string): string[] {
  const advice: string[] = [];
  const major = cudaMajor ?? DEFAULT_CUDA;
  const oldest = OLDEST_DRIVER[major];
  if (driver === undefined) {
    advice.push(
      `no NVIDIA driver: install the one of your GPU, ${oldest} or later (Ubuntu: sudo ubuntu-drivers install)`,
    );
  } else if (Number.parseInt(driver, 10) < oldest) {
    advice.push(`NVIDIA driver ${driver} is older than CUDA ${major} needs: install ${oldest} or later`);
  }
  if (provider.missing.length > 0) {
    advice.push(
      `${provider.missing.join(' and ')} not in ${provider.folder}: take them from the Python package of the same version\n` +
        `python3 -m pip download --no-deps --dest cuda-provider onnxruntime-gpu==${version}\n` +
        `unzip -j cuda-provider/*.whl '*/libonnxruntime_providers_*.so' -d ${provider.folder}`,
    );
  }
  const absent = libraries.filter(({ name, found }) => !found && name !== DRIVER_LIBRARY).map(({ name }) => name);
  if (absent.length > 0) {
    advice.push(
      `${absent.join(', ')} not found: CUDA ${major} and cuDNN 9 are needed\n` +
        (major === DEFAULT_CUDA
          ? `python3 -m pip install 'onnxruntime-gpu[cuda,cudnn]==${version}' nvidia-cublas\n`
          : 'install CUDA 12 and cuDNN 9 from NVIDIA\n') +
        'and put their folders of libraries into LD_LIBRARY_PATH',
    );
  }
  return advice;
}
