import * as ort from 'onnxruntime-node';
import { type DType, typedArrayFor } from '../../src/dtypes.ts';
import type { Graph } from '../../src/export/ir.ts';
import { serializeGraph } from '../../src/export/serialize.ts';

/** A tensor as a test writes it: numbers, whatever the dtype. */
export interface Tensor {
  dtype: DType;
  dims: readonly number[];
  data: readonly number[];
}

type NpmType = Exclude<ort.Tensor.Type, 'string'>;

/** Runs a graph on the npm binding of ONNX Runtime, single-threaded unless said. */
export async function openGraph(graph: Graph, threads = 1) {
  const bytes = serializeGraph(graph, { opset: 24 });
  const session = await ort.InferenceSession.create(bytes, { intraOpNumThreads: threads, logSeverityLevel: 3 });
  return {
    async run(feeds: Readonly<Record<string, Tensor>>, fetches?: readonly string[]): Promise<Record<string, number[]>> {
      const tensors = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, feed(tensor)]));
      const results = await session.run(tensors, fetches ?? session.outputNames);
      return Object.fromEntries(
        Object.entries(results).map(([name, { data }]) => [
          name,
          Array.from(data as Iterable<number | bigint>, Number),
        ]),
      );
    },
    release: () => session.release(),
  };
}

function feed({ dtype, dims, data }: Tensor): ort.Tensor {
  const array = new (typedArrayFor(dtype))(new ArrayBuffer(data.length * 8), 0, data.length);
  data.forEach((x, i) => {
    array[i] = array instanceof BigInt64Array || array instanceof BigUint64Array ? BigInt(x) : x;
  });
  return new ort.Tensor(dtype as NpmType, array as ort.Tensor.DataType & Float32Array, dims);
}
