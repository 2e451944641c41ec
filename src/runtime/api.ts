import koffi from 'koffi';

/**
 * The part of ONNX Runtime's C API that this package calls.
 *
 * The API is one struct of function pointers, append-only since version 1, so a function is known by its index in
 * onnxruntime_c_api.h. Nothing checks a signature given here against the library: a wrong one is a segmentation fault.
 * Hence this is the only place with signatures, and test/runtime exercises each of them.
 */

/** Address of a C object; koffi represents pointers as BigInt, NULL as null. */
export type Pointer = bigint;
/** Where a function writes a result: a JavaScript array of one element. */
export type Out<T> = [T | null];

/** OrtErrorCode, in the order of the header. */
const ERROR_CODES = [
  'ok',
  'fail',
  'invalid argument',
  'no such file',
  'no model',
  'engine error',
  'runtime exception',
  'invalid protobuf',
  'model loaded',
  'not implemented',
  'invalid graph',
  'execution provider failed',
  'model load canceled',
  'model requires compilation',
  'not found',
] as const;
export type OrtErrorCode = (typeof ERROR_CODES)[number];

/** A failed call into ONNX Runtime, with its message and code. */
export class OrtError extends Error {
  override readonly name = 'OrtError';
  readonly code: OrtErrorCode;

  constructor(message: string, code: OrtErrorCode) {
    super(message);
    this.code = code;
  }
}

interface StatusFunction<A extends unknown[]> {
  /** Calls on this thread; throws OrtError. */
  (...args: A): void;
  /** Calls on a worker thread; rejects with OrtError. Objects pointed at must not be released until it settles. */
  async(...args: A): Promise<void>;
}

const POINTER_BYTES = 8;
const PATH = process.platform === 'win32' ? 'str16' : 'str'; // ORTCHAR_T

export type OrtApi = ReturnType<typeof openApi>;

/** Builds callables from the function table at `table`. */
export function openApi(table: Pointer) {
  const at = (index: number): Pointer => koffi.decode(table, index * POINTER_BYTES, 'void *');
  const bind = (index: number, result: string, parameters: string) => {
    const types = parameters.split(',').map((type) => {
      const spec = type.trim();
      return spec.startsWith('_Out_ ') ? koffi.out(koffi.type(spec.slice('_Out_ '.length))) : spec;
    });
    return koffi.decode(at(index), koffi.proto(result, types));
  };

  const plain = <A extends unknown[], R = void>(index: number, result: string, parameters: string) =>
    bind(index, result, parameters) as (...args: A) => R;

  const getErrorCode = plain<[Pointer], number>(1, 'int', 'void *');
  const getErrorMessage = plain<[Pointer], string>(2, 'str', 'void *');
  const releaseStatus = plain<[Pointer]>(93, 'void', 'void *');

  const errorOf = (status: Pointer): OrtError => {
    const error = new OrtError(getErrorMessage(status), ERROR_CODES[getErrorCode(status)] ?? 'fail');
    releaseStatus(status);
    return error;
  };

  /** Arguments of calls on other threads: koffi passes the addresses of arrays, and does not keep the arrays alive. */
  const inFlight = new Set<unknown[]>();

  /** A function that returns OrtStatus*: NULL on success. */
  const status = <A extends unknown[]>(index: number, parameters: string): StatusFunction<A> => {
    const native = bind(index, 'void *', parameters);
    const call = (...args: A): void => {
      const failure: Pointer | null = native(...args);
      if (failure !== null) throw errorOf(failure);
    };
    const async = (...args: A): Promise<void> =>
      new Promise((resolve, reject) => {
        inFlight.add(args);
        native.async(...args, (broken: unknown, failure: Pointer | null) => {
          inFlight.delete(args);
          if (broken) reject(broken);
          else if (failure !== null) reject(errorOf(failure));
          else resolve();
        });
      });
    return Object.assign(call, { async });
  };

  const release = (index: number) => plain<[Pointer]>(index, 'void', 'void *');

  return {
    // Environment
    CreateEnv: status<[severity: number, name: string, out: Out<Pointer>]>(3, 'int, str, _Out_ void **'),
    GetAvailableProviders: status<[names: Out<Pointer>, count: Out<number>]>(125, '_Out_ void **, _Out_ int *'),
    ReleaseAvailableProviders: status<[names: Pointer, count: number]>(126, 'void *, int'),

    // Memory
    CreateMemoryInfo: status<[name: string, allocator: number, id: number, memory: number, out: Out<Pointer>]>(
      68,
      'str, int, int, int, _Out_ void **',
    ),
    MemoryInfoGetName: status<[info: Pointer, out: Out<string>]>(71, 'void *, _Out_ str *'),
    MemoryInfoGetId: status<[info: Pointer, out: Out<number>]>(72, 'void *, _Out_ int *'),
    GetAllocatorWithDefaultOptions: status<[out: Out<Pointer>]>(78, '_Out_ void **'),
    AllocatorFree: status<[allocator: Pointer, memory: Pointer]>(76, 'void *, void *'),
    CreateAllocator: status<[session: Pointer, info: Pointer, out: Out<Pointer>]>(131, 'void *, void *, _Out_ void **'),

    // Values
    CreateTensorAsOrtValue: status<
      [allocator: Pointer, shape: BigInt64Array, rank: number, elementType: number, out: Out<Pointer>]
    >(48, 'void *, int64_t *, size_t, int, _Out_ void **'),
    /** A tensor over memory of the caller, who keeps it alive. */
    CreateTensorWithDataAsOrtValue: status<
      [
        info: Pointer,
        data: Pointer,
        bytes: number,
        shape: BigInt64Array,
        rank: number,
        elementType: number,
        out: Out<Pointer>,
      ]
    >(49, 'void *, void *, size_t, int64_t *, size_t, int, _Out_ void **'),
    GetTensorMutableData: status<[value: Pointer, out: Out<Pointer>]>(51, 'void *, _Out_ void **'),
    GetTensorTypeAndShape: status<[value: Pointer, out: Out<Pointer>]>(65, 'void *, _Out_ void **'),
    GetTensorMemoryInfo: status<[value: Pointer, out: Out<Pointer>]>(194, 'void *, _Out_ void **'),
    ReleaseValue: release(96),

    // Types of inputs, outputs and values
    GetOnnxTypeFromTypeInfo: status<[type: Pointer, out: Out<number>]>(56, 'void *, _Out_ int *'),
    /** The result belongs to the type info and is not released. */
    CastTypeInfoToTensorInfo: status<[type: Pointer, out: Out<Pointer>]>(55, 'void *, _Out_ void **'),
    GetTensorElementType: status<[info: Pointer, out: Out<number>]>(60, 'void *, _Out_ int *'),
    GetDimensionsCount: status<[info: Pointer, out: Out<number>]>(61, 'void *, _Out_ size_t *'),
    GetDimensions: status<[info: Pointer, dims: BigInt64Array, rank: number]>(62, 'void *, int64_t *, size_t'),
    /** The names belong to the type info; they are read as pointers because `rank` of them are written. */
    GetSymbolicDimensions: status<[info: Pointer, names: BigUint64Array, rank: number]>(63, 'void *, void *, size_t'),
    ReleaseTypeInfo: release(98),
    ReleaseTensorTypeAndShapeInfo: release(99),

    // Session options
    CreateSessionOptions: status<[out: Out<Pointer>]>(10, '_Out_ void **'),
    EnableProfiling: status<[options: Pointer, prefix: string]>(14, `void *, ${PATH}`),
    DisableMemPattern: status<[options: Pointer]>(17, 'void *'),
    SetSessionLogSeverityLevel: status<[options: Pointer, severity: number]>(22, 'void *, int'),
    SetSessionGraphOptimizationLevel: status<[options: Pointer, level: number]>(23, 'void *, int'),
    SetIntraOpNumThreads: status<[options: Pointer, threads: number]>(24, 'void *, int'),
    AddSessionConfigEntry: status<[options: Pointer, key: string, value: string]>(130, 'void *, str, str'),
    AddExternalInitializers: status<
      [options: Pointer, names: readonly string[], values: readonly Pointer[], count: number]
    >(210, 'void *, const char **, void **, size_t'),
    ReleaseSessionOptions: release(100),

    // CUDA
    CreateCUDAProviderOptions: status<[out: Out<Pointer>]>(205, '_Out_ void **'),
    UpdateCUDAProviderOptions: status<
      [options: Pointer, keys: readonly string[], values: readonly string[], count: number]
    >(206, 'void *, const char **, const char **, size_t'),
    ReleaseCUDAProviderOptions: release(208),
    SessionOptionsAppendExecutionProvider_CUDA_V2: status<[options: Pointer, cuda: Pointer]>(204, 'void *, void *'),

    // Sessions
    CreateSession: status<[environment: Pointer, path: string, options: Pointer, out: Out<Pointer>]>(
      7,
      `void *, ${PATH}, void *, _Out_ void **`,
    ),
    CreateSessionFromArray: status<
      [environment: Pointer, model: Uint8Array, bytes: number, options: Pointer, out: Out<Pointer>]
    >(8, 'void *, void *, size_t, void *, _Out_ void **'),
    SessionGetInputCount: status<[session: Pointer, out: Out<number>]>(30, 'void *, _Out_ size_t *'),
    SessionGetOutputCount: status<[session: Pointer, out: Out<number>]>(31, 'void *, _Out_ size_t *'),
    SessionGetInputTypeInfo: status<[session: Pointer, index: number, out: Out<Pointer>]>(
      33,
      'void *, size_t, _Out_ void **',
    ),
    SessionGetOutputTypeInfo: status<[session: Pointer, index: number, out: Out<Pointer>]>(
      34,
      'void *, size_t, _Out_ void **',
    ),
    SessionGetInputName: status<[session: Pointer, index: number, allocator: Pointer, out: Out<Pointer>]>(
      36,
      'void *, size_t, void *, _Out_ void **',
    ),
    SessionGetOutputName: status<[session: Pointer, index: number, allocator: Pointer, out: Out<Pointer>]>(
      37,
      'void *, size_t, void *, _Out_ void **',
    ),
    /** The array and what it holds belong to the session. */
    Session_GetEpGraphAssignmentInfo: status<[session: Pointer, subgraphs: Out<Pointer>, count: Out<number>]>(
      407,
      'void *, _Out_ void **, _Out_ size_t *',
    ),
    EpAssignedSubgraph_GetEpName: status<[subgraph: Pointer, out: Out<string>]>(408, 'void *, _Out_ str *'),
    EpAssignedSubgraph_GetNodes: status<[subgraph: Pointer, nodes: Out<Pointer>, count: Out<number>]>(
      409,
      'void *, _Out_ void **, _Out_ size_t *',
    ),
    EpAssignedNode_GetName: status<[node: Pointer, out: Out<string>]>(410, 'void *, _Out_ str *'),
    EpAssignedNode_GetOperatorType: status<[node: Pointer, out: Out<string>]>(412, 'void *, _Out_ str *'),
    ReleaseSession: release(95),

    // Bindings
    CreateIoBinding: status<[session: Pointer, out: Out<Pointer>]>(134, 'void *, _Out_ void **'),
    BindInput: status<[binding: Pointer, name: string, value: Pointer]>(136, 'void *, str, void *'),
    BindOutput: status<[binding: Pointer, name: string, value: Pointer]>(137, 'void *, str, void *'),
    BindOutputToDevice: status<[binding: Pointer, name: string, memory: Pointer]>(138, 'void *, str, void *'),
    /** Writes an array of new OrtValues, in the order the outputs were first bound; the array belongs to the caller. */
    GetBoundOutputValues: status<[binding: Pointer, allocator: Pointer, values: Out<Pointer>, count: Out<number>]>(
      140,
      'void *, void *, _Out_ void **, _Out_ size_t *',
    ),
    SynchronizeBoundInputs: status<[binding: Pointer]>(202, 'void *'),
    RunWithBinding: status<[session: Pointer, options: Pointer | null, binding: Pointer]>(
      133,
      'void *, void *, void *',
    ),
    ReleaseIoBinding: release(135),
    CreateRunOptions: status<[out: Out<Pointer>]>(39, '_Out_ void **'),
    AddRunConfigEntry: status<[options: Pointer, key: string, value: string]>(165, 'void *, str, str'),
    ReleaseRunOptions: release(97),
    /** Of a session with CUDA graphs: frees the one of this `gpu_graph_id`. */
    SessionReleaseCapturedGraph: status<[session: Pointer, graphId: number]>(421, 'void *, int'),
  };
}

/** The NUL-terminated UTF-8 string at an address. */
export const readString = (address: Pointer): string => koffi.decode.string(address);
