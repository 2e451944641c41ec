import type { DType } from '../dtypes.ts';
import { bodiesOf, type Graph, type Node } from './ir.ts';
import type { Op } from './operators.ts';

const FLOATS: readonly DType[] = ['float64', 'float32', 'float16'];
const WITH_BFLOAT16: readonly DType[] = [...FLOATS, 'bfloat16'];
const COMPARED: readonly DType[] = [...FLOATS, 'int32', 'int64'];
const COUNTED: readonly DType[] = [...WITH_BFLOAT16, 'int32', 'int64'];
const MOVED: readonly DType[] = [...COUNTED, 'bool'];
const LOGIC: readonly DType[] = ['bool'];

/**
 * Types for which ONNX Runtime's CUDA provider has a kernel of an operator, at the opset of our graphs and as far as our
 * graphs have such types: its docs/OperatorKernels.md at commit 001d12d. Of the operand that an operator is
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
  Softplus: FLOATS,
  Relu: WITH_BFLOAT16,
  // Up to opset 21: the one kernel is of version 10, and is not taken for version 22.
  ThresholdedRelu: [],
  Cos: FLOATS,
  Sin: FLOATS,
  Cast: MOVED,
  MatMul: WITH_BFLOAT16,
  FusedMatMul: WITH_BFLOAT16,
  Gemm: WITH_BFLOAT16,
  Softmax: WITH_BFLOAT16,
  LogSoftmax: FLOATS,
  SimplifiedLayerNormalization: WITH_BFLOAT16,
  ReduceSum: COUNTED,
  ReduceMean: [...FLOATS, 'int32'],
  ReduceMax: COMPARED,
  ReduceSumSquare: FLOATS,
  CumSum: COMPARED,
  ArgMax: FLOATS,
  NonZero: ['float32', 'float16', 'int32', 'int64', 'bool'],
  TopK: COMPARED,
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
  RotaryEmbedding: ['float32', 'float16', 'bfloat16'],
  TensorScatter: MOVED,
};

/** The types that a kernel is chosen by. */
function typesOf({ op, inputs, outputs }: Node): readonly DType[] {
  if (op === 'Loop' || op === 'If') return [];
  if (op === 'Cast') return [...inputs, ...outputs].flatMap((value) => value?.dtype ?? []);
  const value = op === 'Where' ? inputs[1] : op === 'ConstantOfShape' ? outputs[0] : inputs[0];
  return value == null ? [] : [value.dtype];
}

/** Nodes of a graph, those in bodies too, that ONNX Runtime could not run on a GPU: `LogSoftmax bfloat16`. */
export function withoutCudaKernel(graph: Graph): string[] {
  return graph.nodes.flatMap((node) => {
    const missing = typesOf(node).filter((dtype) => !CUDA_KERNELS[node.op].includes(dtype));
    const inside = bodiesOf(node).flatMap(([, body]) => withoutCudaKernel(body));
    return [...missing.map((dtype) => `${node.op} ${dtype}`), ...inside];
  });
}
