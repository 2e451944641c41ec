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
}

/** The folder of onnxruntime-node that holds the shared libraries of this platform. */
function binaryFolder(): string {
  let entry: string;
  try {
    entry = createRequire(import.meta.url).resolve('onnxruntime-node');
  } catch (error) {
    throw new UserError(`onnxruntime-node is not installed (${messageOf(error)}); run: npm install`);
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
        'supported are linux x64/arm64, macOS arm64 and Windows x64/arm64; reinstall with: npm install onnxruntime-node',
    );
  }
  return found;
}

/** Path where onnxruntime-node keeps the CUDA provider once it has been downloaded. */
export function cudaProviderPath(): string {
  const name = process.platform === 'win32' ? 'onnxruntime_providers_cuda.dll' : 'libonnxruntime_providers_cuda.so';
  return join(binaryFolder(), name);
}

export function loadLibrary(path: string): Library {
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
  return { path, version, table };
}
