import { missingKernels, readsOnHost, writesOnHost } from './cuda-kernels.ts';
import { bodiesOf, type Dim, type Graph, type Node, type Value } from './ir.ts';

/** Where ONNX Runtime would run the nodes of a graph on an NVIDIA GPU, by its own rules; bodies are not looked into. */
export interface CudaPlacement {
  /** Left to the CPU: without a kernel, or made of nothing but what is on the host (sizes that a Shape told). */
  onCpu: Node[];
  /** Copies between host and device in every run, MemcpyToHost and MemcpyFromHost: the value, and who made it. */
  copies: { op: 'MemcpyToHost' | 'MemcpyFromHost'; of: string }[];
}

/** Initializers of at most as many elements do not keep a node off the CPU. */
const SMALL_INITIALIZER = 100;

/**
 * The rules of ONNX Runtime 1.30: GetCpuPreferredNodes (core/framework/fallback_cpu_capability.cc) and MemcpyTransformer
 * (core/optimizer/transformer_memcpy.cc). Against the provider library of onnxruntime-gpu 1.30.0, loaded with CUDA libraries that do
 * nothing, it gives the same copies for all of our graphs.
 */
export function cudaPlacement(graph: Graph, opset: number): CudaPlacement {
  const constants = new Set(graph.initializers.map(({ value }) => value));
  const inputs = new Map([...graph.inputs].map(([name, value]) => [value, name]));
  // What depends on constants alone is computed when the session is made.
  const nodes = graph.nodes.filter((node) => {
    const folds = bodiesOf(node).length === 0 && node.inputs.every((value) => value === null || constants.has(value));
    if (folds) for (const output of node.outputs) constants.add(output);
    return !folds;
  });

  const onHost = new Set<Value>();
  const onCpu = new Set<Node>();
  for (const node of nodes) {
    const leftOver = missingKernels(node, opset).length > 0;
    const prefers = !leftOver && prefersCpu(node, { onHost, constants, inputs });
    if (leftOver || prefers) onCpu.add(node);
    if (leftOver || prefers || writesOnHost(node.op)) for (const output of node.outputs) onHost.add(output);
  }

  const wantsOnHost = (node: Node, input: number) => onCpu.has(node) || readsOnHost(node.op, input);
  const wanted = new Map<Value, { host: boolean; device: boolean }>();
  for (const node of nodes) {
    node.inputs.forEach((value, i) => {
      if (value === null || constants.has(value)) return;
      const uses = wanted.get(value) ?? { host: false, device: false };
      uses[wantsOnHost(node, i) ? 'host' : 'device'] = true;
      wanted.set(value, uses);
    });
  }
  const copies: CudaPlacement['copies'] = [];
  for (const [value, { host, device }] of wanted) {
    const input = inputs.get(value);
    const of = input ?? nodes.find(({ outputs }) => outputs.includes(value))?.op ?? 'a value from around';
    // An input for both is put where the CPU reads it. One for the CPU alone is never on the device.
    if (input === undefined ? onHost.has(value) && device : host && device) copies.push({ op: 'MemcpyFromHost', of });
    else if (input === undefined && !onHost.has(value) && host) copies.push({ op: 'MemcpyToHost', of });
  }
  return { onCpu: [...onCpu], copies };
}

/** Whether a node reads what is on the host, nothing that is on the device, and none of it because its kernel reads it there. */
function prefersCpu(
  { op, inputs }: Node,
  known: { onHost: ReadonlySet<Value>; constants: ReadonlySet<Value>; inputs: ReadonlyMap<Value, string> },
): boolean {
  const present = inputs.flatMap((value, i) => (value === null ? [] : [{ value, i }]));
  if (!present.some(({ value }) => known.onHost.has(value))) return false;
  return present.every(({ value, i }) => {
    if (value.dtype === 'float16' || value.dtype === 'bfloat16') return false;
    if (known.inputs.has(value)) return true;
    if (known.constants.has(value)) return sizeOf(value.shape) <= SMALL_INITIALIZER;
    return known.onHost.has(value) && !readsOnHost(op, i);
  });
}

const sizeOf = (shape: readonly Dim[]): number => shape.reduce<number>((size, dim) => size * Number(dim), 1);

/**
 * Why decoding steps of a graph could not be captured as a CUDA graph and run again; empty where they can. ONNX Runtime refuses control
 * flow and copies between host and device. A kernel that waits for the device cannot be captured. One that brings a table of sizes to
 * the device is captured with the address of that table, whose memory it has given back before the graph runs again.
 */
export function captureObstacles(graph: Graph, opset: number): string[] {
  const { onCpu, copies } = cudaPlacement(graph, opset);
  return [
    ...graph.nodes.filter((node) => bodiesOf(node).length > 0).map(({ op }) => `control flow: ${op}`),
    ...onCpu.flatMap((node) => missingKernels(node, opset)).map((missing) => `no kernel: ${missing}`),
    ...copies.map(({ op, of }) => `${op} of ${of}`),
    ...graph.nodes.filter(({ op }) => op === 'NonZero').map(() => 'NonZero waits for its count'),
    ...graph.nodes.filter(hasTable).map(({ op }) => `table of sizes: ${op}`),
  ];
}

/** Concat and Split keep the sizes of their parts in an argument of the kernel only where all are equal. */
function hasTable({ op, inputs, outputs, attributes: { axis } }: Node): boolean {
  if (op !== 'Concat' && op !== 'Split') return false;
  const parts = op === 'Concat' ? inputs : outputs;
  const isShape = outputs.every(({ dtype, shape }) => dtype === 'int64' && shape.length === 1);
  return !isShape && new Set(parts.map((part) => part?.shape[Number(axis)])).size > 1;
}
