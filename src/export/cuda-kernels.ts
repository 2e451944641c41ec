import type { DType } from '../dtypes.ts';
import { bodiesOf, type Graph, type Node } from './ir.ts';
import { sinceVersion } from './operator-versions.ts';
import type { Op } from './operators.ts';

const FLOATS: readonly DType[] = ['float64', 'float32', 'float16'];
const WITH_BFLOAT16: readonly DType[] = [...FLOATS, 'bfloat16'];
const LOW_FLOATS: readonly DType[] = ['float32', 'float16', 'bfloat16'];
const COMPARED: readonly DType[] = [...FLOATS, 'int32', 'int64'];
const COUNTED: readonly DType[] = [...WITH_BFLOAT16, 'int32', 'int64'];
const MOVED: readonly DType[] = [...COUNTED, 'bool'];
const LOGIC: readonly DType[] = ['bool'];

/**
 * Types for which ONNX Runtime's CUDA provider has a kernel of an operator, as far as our graphs have such types: what the provider
 * library in the package onnxruntime-gpu 1.30.0 took of graphs of one node, at opset 24. Of the operand that an operator is
 * about: indices, sizes and conditions have one type only. An operator of the IR without an entry does not compile.
 */
const CUDA_KERNELS: Record<Op, readonly DType[]> = {
  Add: COUNTED,
  Sub: COUNTED,
  Mul: COUNTED,
  Div: COUNTED,
  Min: COUNTED,
  Max: COUNTED,
  Pow: COUNTED,
  Less: COMPARED,
  LessOrEqual: COMPARED,
  Greater: COMPARED,
  GreaterOrEqual: COMPARED,
  Equal: [...COMPARED, 'bool'],
  And: LOGIC,
  Or: LOGIC,
  Not: LOGIC,
  IsNaN: WITH_BFLOAT16,
  IsInf: WITH_BFLOAT16,
  Where: COUNTED,
  Neg: COUNTED,
  Abs: COUNTED,
  Identity: MOVED,
  Exp: WITH_BFLOAT16,
  Log: FLOATS,
  Sqrt: WITH_BFLOAT16,
  Reciprocal: FLOATS,
  Sigmoid: WITH_BFLOAT16,
  Tanh: WITH_BFLOAT16,
  Softplus: WITH_BFLOAT16,
  Relu: WITH_BFLOAT16,
  ThresholdedRelu: FLOATS,
  Shrink: [...FLOATS, 'int32', 'int64'],
  Cos: WITH_BFLOAT16,
  Sin: WITH_BFLOAT16,
  Cast: MOVED,
  MatMul: WITH_BFLOAT16,
  FusedMatMul: WITH_BFLOAT16,
  Gemm: WITH_BFLOAT16,
  Softmax: WITH_BFLOAT16,
  LogSoftmax: FLOATS,
  SimplifiedLayerNormalization: LOW_FLOATS,
  ReduceSum: COUNTED,
  ReduceMean: [...FLOATS, 'int32'],
  ReduceMax: COMPARED,
  ReduceSumSquare: FLOATS,
  CumSum: COMPARED,
  ArgMax: FLOATS,
  NonZero: ['float32', 'float16', 'int32', 'int64', 'bool'],
  TopK: COUNTED,
  Reshape: MOVED,
  Expand: MOVED,
  Range: ['float64', 'float32', 'int32', 'int64'],
  ConstantOfShape: MOVED,
  Shape: MOVED,
  Transpose: MOVED,
  Unsqueeze: MOVED,
  Squeeze: MOVED,
  Concat: MOVED,
  Split: MOVED,
  Slice: MOVED,
  Gather: MOVED,
  GatherElements: MOVED,
  ScatterElements: MOVED,
  Loop: MOVED,
  If: MOVED,
  RotaryEmbedding: LOW_FLOATS,
  TensorScatter: MOVED,
};

/** The types that a kernel is chosen by. */
function typesOf({ op, inputs, outputs }: Node): readonly DType[] {
  if (op === 'Loop' || op === 'If') return [];
  if (op === 'Cast') return [...inputs, ...outputs].flatMap((value) => value?.dtype ?? []);
  const value = op === 'Where' ? inputs[1] : op === 'ConstantOfShape' ? outputs[0] : inputs[0];
  return value == null ? [] : [value.dtype];
}

/**
 * The newest version of an operator that has a kernel. One without an entry has kernels up to opset 25. A kernel is taken only for
 * the very version that it was registered for, or for those of a range that ends: not for a later version of the operator.
 */
const NEWEST_KERNEL: Partial<Record<Op, number>> = { ThresholdedRelu: 10 };
const NEWEST_OPSET = 25;

/** Inputs that a kernel reads on the host: shapes, bounds, counts and conditions. */
const HOST_INPUTS: Partial<Record<Op, readonly number[]>> = {
  ...{ Reshape: [1], Expand: [1], ConstantOfShape: [0], Range: [0, 1, 2], Slice: [1, 2, 3, 4], Split: [1], TopK: [1] },
  ...{ If: [0], Loop: [0, 1] },
};

/** Whether the CUDA kernel of an operator reads an input on the host. */
export const readsOnHost = (op: Op, input: number): boolean => HOST_INPUTS[op]?.includes(input) ?? false;

/** Whether the CUDA kernel of an operator leaves its output on the host. */
export const writesOnHost = (op: Op): boolean => op === 'Shape';

/** Why ONNX Runtime gives a node to the CPU although it is to compute on a GPU: `LogSoftmax bfloat16`, `ThresholdedRelu 22`. */
export function missingKernels(node: Node, opset: number): string[] {
  const version = sinceVersion(node.op, opset);
  if (version > (NEWEST_KERNEL[node.op] ?? NEWEST_OPSET)) return [`${node.op} ${version}`];
  const missing = typesOf(node).filter((dtype) => !CUDA_KERNELS[node.op].includes(dtype));
  return missing.map((dtype) => `${node.op} ${dtype}`);
}

/** Nodes of a graph, those in bodies too, that ONNX Runtime could not run on a GPU, see missingKernels. */
export const withoutCudaKernel = (graph: Graph, opset: number): string[] =>
  graph.nodes.flatMap((node) => [
    ...missingKernels(node, opset),
    ...bodiesOf(node).flatMap(([, body]) => withoutCudaKernel(body, opset)),
  ]);
