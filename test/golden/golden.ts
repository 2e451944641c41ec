import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export type GoldenArray = Float32Array | Float64Array | BigInt64Array | Uint8Array;
export type GoldenTensors = ReadonlyMap<string, { shape: readonly number[]; data: GoldenArray }>;

const ARRAYS: Record<string, new (buffer: ArrayBuffer) => GoldenArray> = {
  F32: Float32Array,
  F64: Float64Array,
  I64: BigInt64Array,
  BOOL: Uint8Array,
};

/** Inputs of the golden RLP step: rlp-step/NAME.json. */
export interface GoldenRlpStep {
  /** Folder of the policy below test/golden. */
  checkpoint: string;
  think: number;
  end_think: number;
  end_of_text: number;
  max_thought_tokens: number;
  settings: Record<
    | 'clip_low'
    | 'clip_high'
    | 'learning_rate'
    | 'beta1'
    | 'beta2'
    | 'epsilon'
    | 'weight_decay'
    | 'max_grad_norm'
    | 'ema_decay',
    number
  >;
  documents: { tokens: number[]; positions: { position: number; thoughts: GoldenThought[] }[] }[];
  /** Largest difference of PyTorch's float32 results from float64, by kind of result. */
  max_difference_float64: Record<string, number>;
}

export interface GoldenThought {
  /** Sampled tokens; the closing delimiter is the last of a 'closed' thought, and forced after the others. */
  tokens: number[];
  finish_reason: 'closed' | 'length' | 'eos';
  /** One a token, exact in float32. */
  old_log_probs: number[];
}

/** Absolute path below test/golden. */
export function goldenPath(...parts: string[]): string {
  return fileURLToPath(new URL(parts.join('/'), import.meta.url));
}

/** Content of NAME.json, say of `logits/tied-gqa`; README.md says what it holds. */
export function readGoldenJson<Content>(name: string): Content {
  return JSON.parse(readFileSync(goldenPath(`${name}.json`), 'utf8')) as Content;
}

/** Tensors of NAME.safetensors, row-major, read without the code under test. */
export function readGolden(name: string): GoldenTensors {
  const bytes = readFileSync(goldenPath(`${name}.safetensors`));
  const data = 8 + Number(bytes.readBigUInt64LE(0));
  const header: Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }> = JSON.parse(
    bytes.toString('utf8', 8, data),
  );
  const tensors = Object.entries(header).filter(([name]) => name !== '__metadata__');
  return new Map(
    tensors.map(([tensor, { dtype, shape, data_offsets: offsets }]) => {
      const ArrayType = ARRAYS[dtype];
      if (ArrayType === undefined) throw new Error(`${name}.safetensors: ${tensor} is ${dtype}`);
      // A copy: a typed array has to start at a multiple of its element size.
      const slice = Uint8Array.from(bytes.subarray(data + offsets[0], data + offsets[1]));
      return [tensor, { shape, data: new ArrayType(slice.buffer) }];
    }),
  );
}

/** One tensor of readGolden as float32 or float64 numbers. */
export function floats(tensors: GoldenTensors, name: string): Float32Array | Float64Array {
  const data = tensors.get(name)?.data;
  if (data instanceof Float32Array || data instanceof Float64Array) return data;
  throw new Error(`no floating-point golden tensor ${name}; there are ${[...tensors.keys()].join(', ')}`);
}

/** One int64 tensor of readGolden. */
export function integers(tensors: GoldenTensors, name: string): BigInt64Array {
  const data = tensors.get(name)?.data;
  if (data instanceof BigInt64Array) return data;
  throw new Error(`no int64 golden tensor ${name}; there are ${[...tensors.keys()].join(', ')}`);
}
