import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildArtifactGraph } from '../../src/export/artifacts.ts';
import { trainingRolloutGraphs } from '../../src/export/index.ts';
import { RolloutEngine } from '../../src/rollout/index.ts';
import { RolloutModel } from '../../src/rollout/rollout-model.ts';
import { type Device, Value } from '../../src/runtime/index.ts';
import { randomWeights, TINY_MODEL } from '../fixtures/tiny-model.ts';
import { collect, OPTIONS, randomDocuments } from './fixture.ts';
import { Reference } from './reference.ts';

/**
 * Log-probs in nats, against float32 without a cache. A unit roundoff of 5e-4 on keys, values and operands of two layers; logits of this
 * model are within 3 of each other.
 */
const TOLERANCE = 5e-3;

const weights = randomWeights(TINY_MODEL);
const documents = randomDocuments(TINY_MODEL.vocabSize, [7, 40, 130], (length) => [Math.floor(length / 2), length - 1]);
let reference: Reference;
beforeAll(async () => {
  reference = await Reference.create(TINY_MODEL, weights);
});
afterAll(() => reference[Symbol.dispose]());

const BUILDS: [name: string, device: Device, weightsAsInputs: boolean][] = [
  ['the CPU, weights inside', { kind: 'cpu' }, false],
  ['a device, weights as inputs', { kind: 'mock' }, true],
];

describe.each(BUILDS)('caches in float16 on %s', (_, device, weightsAsInputs) => {
  const forCpu = device.kind === 'cpu';
  const limits = { vocabSize: TINY_MODEL.vocabSize, maxPositions: TINY_MODEL.maxPositions };
  const graphs = { ...trainingRolloutGraphs(TINY_MODEL, { dtype: 'float16', weightsAsInputs, forCpu }), ...limits };
  const owned = [...weights].map(([name, { shape, data }]) => {
    return [name, Value.from('float32', shape, data).movedTo(weightsAsInputs ? device : { kind: 'cpu' })] as const;
  });
  const given = weightsAsInputs ? { weights: new Map(owned) } : { initializers: new Map(owned) };
  afterAll(() => {
    for (const [, value] of owned) value.dispose();
  });

  it('are what the graphs take', async () => {
    using model = await RolloutModel.create(graphs, { device, ...given });
    expect(model.cacheDtype).toBe('float16');
    for (const session of [model.prefill, model.step]) {
      const caches = session.inputs.filter(({ name }) => /^(trunk|branch)\./.test(name));
      expect(new Set(caches.map(({ dtype }) => dtype))).toEqual(new Set(['float16']));
    }
  });

  it('give the log-probs of float32 to within rounding, through all that changes the caches', async () => {
    using engine = await RolloutEngine.create(graphs, { device, intraOpThreads: 1, ...given });
    const options = { ...OPTIONS, maxThoughtTokens: 40, rowsPerDocument: 2 };
    const differences: number[] = [];
    for (const { document, thoughts } of await collect(engine, documents, options)) {
      for (const thought of thoughts) {
        const { written, scored } = await reference.thought(document.tokens, thought, options);
        thought.tokens.forEach((token, i) => {
          differences.push(Math.abs(thought.logProbs[i] - written[i][token]));
        });
        thought.targets.forEach((target, i) => {
          differences.push(Math.abs(thought.reasonedLogProbs[i] - scored[i][target]));
        });
      }
    }
    expect(differences.length).toBeGreaterThan(100);
    const largest = Math.max(...differences);
    expect(largest).toBeLessThan(TOLERANCE);
    expect(largest).toBeGreaterThan(1e-6); // it did round
  });
});

it.each(['prefill', 'step'] as const)('%s casts no cache: products read it as it is', (name) => {
  for (const forCpu of [false, true]) {
    const locate = (weight: string) => {
      const { shape } = weights.get(weight) ?? { shape: [] };
      return {
        dtype: 'float32' as const,
        shape,
        location: '',
        offset: 0,
        length: 4 * shape.reduce((a, b) => a * b, 1),
      };
    };
    const { graph } = buildArtifactGraph(name, TINY_MODEL, locate, { dtype: 'bfloat16', forCpu });
    const whole = graph.nodes.filter(({ op, inputs: [x] }) => op === 'Cast' && /\b[LP]\b.*\b8\b/.test(`${x?.shape}`));
    expect(whole).toEqual([]);
  }
});
