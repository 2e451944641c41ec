import { describe, expect, it } from 'vitest';
import { ARTIFACTS, type ArtifactName, buildArtifactGraph } from '../../src/export/artifacts.ts';
import type { ComputeDType } from '../../src/export/autocast.ts';
import { GraphBuilder } from '../../src/export/builder.ts';
import { withoutCudaKernel } from '../../src/export/cuda-kernels.ts';
import { adapterShapes } from '../../src/lora.ts';
import { parameterShapes } from '../../src/model-config.ts';
import { TINY_MODEL } from '../fixtures/tiny-model.ts';

const LORA = { rank: 2, alpha: 4, targetModules: ['q_proj', 'v_proj'] };
const SHAPES = new Map([...parameterShapes(TINY_MODEL), ...adapterShapes(TINY_MODEL, LORA)]);
const locate = (name: string) => {
  const shape = SHAPES.get(name) ?? [];
  const length = 2 * shape.reduce((a, b) => a * b, 1);
  return { dtype: 'bfloat16' as const, shape, location: 'model.safetensors', offset: 0, length };
};

describe.each<ComputeDType>(['float32', 'float16', 'bfloat16'])('graphs in %s', (dtype) => {
  it.each(Object.keys(ARTIFACTS) as ArtifactName[])('%s has a CUDA kernel for every node', (name) => {
    for (const recompute of [false, true]) {
      const { graph, opset } = buildArtifactGraph(name, TINY_MODEL, locate, { dtype, recompute });
      expect(graph.nodes.length).toBeGreaterThan(10);
      expect(withoutCudaKernel(graph, opset)).toEqual([]);
    }
  });

  it('so has evalModel with the entropy of the likeliest tokens', () => {
    const { graph, opset } = buildArtifactGraph('evalModel', TINY_MODEL, locate, { dtype, entropyTopK: 16 });
    expect(withoutCudaKernel(graph, opset)).toEqual([]);
  });

  it.each(['prefill', 'step', 'trainingModel', 'evalModel', 'optimizerModel'] as const)(
    'so has %s with LoRA',
    (name) => {
      const { graph, opset } = buildArtifactGraph(name, TINY_MODEL, locate, { dtype, lora: LORA });
      expect(withoutCudaKernel(graph, opset)).toEqual([]);
    },
  );
});

it('finds what has none, in bodies of loops too', () => {
  const b = new GraphBuilder('example');
  const x = b.input('x', 'bfloat16', [2, 3]);
  const { stacked } = b.loop(4, [], () => ({ carried: [], stacked: [b.logSoftmax(x)] }));
  b.output('y', stacked[0]);
  expect(withoutCudaKernel(b.graph, 24)).toEqual(['LogSoftmax bfloat16']);
});

it('takes no kernel of an older version for a newer one', () => {
  const b = new GraphBuilder('example');
  const x = b.input('x', 'float32', [2, 3]);
  b.output('y', b.thresholdedRelu(b.cos(x), 1));
  b.input('n', 'int64', ['N']);
  b.output('z', b.range('N'));
  expect([21, 22, 27].map((opset) => withoutCudaKernel(b.graph, opset))).toEqual([
    [],
    ['ThresholdedRelu 22'],
    ['ThresholdedRelu 22', 'Range 27'],
  ]);
});
