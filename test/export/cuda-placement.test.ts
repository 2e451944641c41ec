import { describe, expect, it } from 'vitest';
import { type ArtifactName, buildArtifactGraph } from '../../src/export/artifacts.ts';
import type { ComputeDType } from '../../src/export/autocast.ts';
import { GraphBuilder } from '../../src/export/builder.ts';
import { captureObstacles, cudaPlacement } from '../../src/export/cuda-placement.ts';
import type { GraphOptions } from '../../src/export/index.ts';
import { parameterShapes } from '../../src/model-config.ts';
import { TINY_MODEL } from '../fixtures/tiny-model.ts';

const SHAPES = parameterShapes(TINY_MODEL);
const locate = (name: string) => {
  const shape = SHAPES.get(name) ?? [];
  const length = 2 * shape.reduce((a, b) => a * b, 1);
  return { dtype: 'bfloat16' as const, shape, location: 'model.safetensors', offset: 0, length };
};
const build = (name: ArtifactName, options: GraphOptions) => buildArtifactGraph(name, TINY_MODEL, locate, options);
const DTYPES: readonly ComputeDType[] = ['float32', 'float16', 'bfloat16'];

// What ONNX Runtime 1.30.0 says itself of these graphs, with its CUDA provider and CUDA libraries that do nothing ("N Memcpy nodes
// are added to the graph"): a size that joins a calculation on the device, the condition of the If, bounds of cuts.
describe.each(DTYPES)('copies between host and device, %s', (dtype) => {
  it.each([
    ['prefill', []],
    ['step', []],
    ['evalModel', []],
    ['trainingModel', ['MemcpyFromHost of Mul']],
    ['optimizerModel', ['MemcpyToHost of Not']],
  ] as const)('%s: %j', (name, expected) => {
    const { graph, opset } = build(name, { dtype, truncation: false });
    expect(cudaPlacement(graph, opset).copies.map(({ op, of }) => `${op} of ${of}`)).toEqual(expected);
  });

  it('four where cuts are chosen at run time', () => {
    const { graph, opset } = build('step', { dtype });
    expect(cudaPlacement(graph, opset).copies).toHaveLength(4);
  });
});

it.each([
  ['without cuts', false],
  ['with cuts that are fixed', { topK: 0, topP: 0.9, minP: 0.05 }],
  ['with top-k', { topK: 50, topP: 0.9, minP: 0 }],
])('a decoding step %s can be captured: no control flow, no copy, no count to wait for', (_, truncation) => {
  for (const dtype of DTYPES) {
    for (const weightsAsInputs of [false, true]) {
      const { graph, opset } = build('step', { dtype, truncation, weightsAsInputs });
      expect(captureObstacles(graph, opset)).toEqual([]);
    }
  }
  const forCpu = build('step', { truncation, forCpu: true });
  expect(captureObstacles(forCpu.graph, forCpu.opset)).not.toEqual([]);
});

it('leaves to the CPU what computes shapes, and no more', () => {
  for (const truncation of [false, true]) {
    const { graph, opset } = build('step', { truncation });
    const ops = new Set(cudaPlacement(graph, opset).onCpu.map(({ op }) => op));
    expect(ops).toEqual(new Set(['Concat', 'Mul', 'Squeeze']));
  }
});

describe('the rules on graphs by hand', () => {
  const b = new GraphBuilder('example');
  const x = b.input('x', 'float32', ['N', 4]);
  const ids = b.input('ids', 'int64', ['N']);
  const placed = () => cudaPlacement(b.graph, 24);

  it('a size that a kernel reads on the host stays there; what mixes with the device is copied', () => {
    b.output('zeros', b.zeros('float32', ['N', 4]));
    expect(placed()).toMatchObject({ onCpu: [{ op: 'Concat' }], copies: [] });
    b.output('mixed', b.add(b.mul(x, 2), b.cast(b.dim('N'), 'float32')));
    expect(placed().copies).toEqual([{ op: 'MemcpyFromHost', of: 'Cast' }]);
  });

  it('an input goes with the sizes to the CPU, and is copied where the device reads it, too', () => {
    b.output('last', b.sub(b.dim('N'), ids));
    expect(placed().onCpu.map(({ op }) => op)).toEqual(['Concat', 'Cast', 'Sub']);
    b.output('rows', b.gather(x, ids));
    expect(placed().copies.map(({ of }) => of)).toEqual(['Cast', 'ids']);
  });

  it('a count from the device is copied to the host for who reads it there', () => {
    const count = b.unsqueeze(b.argmax(b.input('scores', 'float32', [5]), 0, false), [0]);
    b.output('top', b.topK(x, count, 1, 'k'));
    expect(placed().copies.at(-1)).toEqual({ op: 'MemcpyToHost', of: 'Unsqueeze' });
  });

  it('a node without a kernel drags its operands to the host', () => {
    b.output('cut', b.thresholdedRelu(b.mul(x, 3), 1));
    expect(placed().copies.at(-1)).toEqual({ op: 'MemcpyToHost', of: 'Mul' });
    expect(captureObstacles(b.graph, 24)).toContain('no kernel: ThresholdedRelu 22');
  });
});

it('tells what cannot be captured', () => {
  const b = new GraphBuilder('example');
  const [x, y] = [b.input('x', 'float32', ['A', 4]), b.input('y', 'float32', ['B', 4])];
  const joined = b.concat([x, y], 0);
  b.output('halves', b.concat(b.split(joined, ['A', 'B'], 0), 0));
  b.output('twice', b.concat([x, x], 1));
  b.output('found', b.nonZero(x, 'found'));
  b.output(
    'either',
    b.either(
      b.input('c', 'bool', []),
      () => [b.neg(x)],
      () => [x],
    )[0],
  );
  expect(captureObstacles(b.graph, 24)).toEqual([
    'control flow: If',
    'NonZero waits for its count',
    'table of sizes: Concat',
    'table of sizes: Split',
    'table of sizes: Concat',
  ]);
});
