import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { LibraryHandle } from 'koffi';
import koffi from 'koffi';
import { messageOf, UserError } from '../errors.ts';

/** Version of the C API table that `api.ts` describes; ONNX Runtime 1.N offers tables 1 to N. */
const API_VERSION = 30;

/** File names of the shared library, first choice first: the name the npm binding itself links against. */
const LIBRARY_NAMES: Partial<Record<NodeJS.Platform, readonly string[]>> = {
  linux: ['libonnxruntime.so.1'],
  darwin: ['libonnxruntime.1.dylib', 'libonnxruntime.1.30.0.dylib', 'libonnxruntime.dylib'],
  win32: ['onnxruntime.dll'],
};

export interface Library {
  /** Absolute path of the shared library. */
  path: string;
  /** ONNX Runtime's version, e.g. "1.30.0". */
  version: string;
  /** Address of the OrtApi function table. */
  table: bigint;
  /** Held for as long as the table is used: koffi unloads a library whose handle is garbage collected. */
  handle: LibraryHandle;
}

/** The folder of onnxruntime-node that holds the shared libraries of this platform. */
function binaryFolder(): string {
  let entry: string;
  try {
    entry = createRequire(import.meta.url).resolve('onnxruntime-node');
  } catch (error) {
    // It is an optional dependency: npm leaves it out, without a word, where its install script fails.
    throw new UserError(
      `onnxruntime-node is not installed (${messageOf(error).split('\n', 1)[0]}); run: npm install --ignore-scripts ` +
        '(npm leaves it out where its install script cannot fetch the CUDA provider from NuGet)',
    );
  }
  return join(dirname(entry), '..', 'bin', 'napi-v6', process.platform, process.arch);
}

/**
 * Path of the libonnxruntime that onnxruntime-node ships. Loading that very file, rather than one of our own, lets both
 * live in a process: the loader hands out one copy of it, with one environment.
 */
export function findLibrary(): string {
  const folder = binaryFolder();
  const candidates = (LIBRARY_NAMES[process.platform] ?? []).map((name) => join(folder, name));
  const found = candidates.find((path) => existsSync(path));
  if (found === undefined) {
    throw new UserError(
      `onnxruntime-node has no ONNX Runtime library for ${process.platform}-${process.arch} (looked in ${folder}); ` +
        'supported are linux x64/arm64, macOS arm64 and Windows x64/arm64; reinstall with: npm install --ignore-scripts',
    );
  }
  return found;
}

/** The files that onnxruntime-node's install script adds for CUDA. They are too large for the npm registry. */
export function cudaLibraries(): string[] {
  const names = ['libonnxruntime_providers_shared.so', 'libonnxruntime_providers_cuda.so'];
  return names.map((name) => join(binaryFolder(), name));
}

/**
 * koffi runs a native function on a stack of its own making: 2 MiB for calls on this thread, 128 KiB for calls on others.
 * A MatMul kernel's buffers alone take more than 64 KiB, and an overflow is a segmentation fault; so we ask for what a main
 * thread has. Only touched pages cost memory.
 */
const STACK_BYTES = 8 * 1024 * 1024;

function reserveStacks(): void {
  const { sync_stack_size: sync = 0, async_stack_size: async = 0 } = koffi.config();
  if (sync >= STACK_BYTES && async >= STACK_BYTES) return;
  try {
    koffi.config({ sync_stack_size: STACK_BYTES, async_stack_size: STACK_BYTES });
  } catch (error) {
    throw new UserError(
      `cannot give ONNX Runtime the stack it needs (${messageOf(error)}); before loading other libraries through koffi, ` +
        `call koffi.config({ sync_stack_size: ${STACK_BYTES}, async_stack_size: ${STACK_BYTES} })`,
    );
  }
}

export function loadLibrary(path: string): Library {
  reserveStacks();
  let library: LibraryHandle;
  try {
    library = koffi.load(path);
  } catch (error) {
    throw new UserError(`cannot load ${path}: ${messageOf(error)}`);
  }
  // struct OrtApiBase { const OrtApi* (*GetApi)(uint32_t version); const char* (*GetVersionString)(void); }
  const base: unknown = library.func('OrtGetApiBase', 'void *', [])();
  const [getApi, getVersionString]: [bigint, bigint] = koffi.decode(base, koffi.array('void *', 2));
  const version: string = koffi.call(getVersionString, koffi.proto('str', []));
  const table: bigint | null = koffi.call(getApi, koffi.proto('void *', ['uint32_t']), API_VERSION);
  if (table === null) {
    throw new UserError(
      `${path} is ONNX Runtime ${version}, which lacks C API version ${API_VERSION}; install onnxruntime-node 1.${API_VERSION}.0 or later`,
    );
  }
  return { path, version, table, handle: library };
}
