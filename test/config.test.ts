import { expect, test } from 'vitest';
import {
  doctorSchema,
  exportSchema,
  inspectSchema,
  OPTION_GROUPS,
  parseDevice,
  rolloutOptionsSchema,
  rolloutSchema,
  trainOptionsSchema,
  trainSchema,
} from '../src/config.ts';
import { optionSpecs } from '../src/config-options.ts';

const minimal = { model: 'm', data: ['a.txt'], run: 'r' };

test('every setting has a description, a known group and a lower-case flag', () => {
  for (const schema of [exportSchema, rolloutOptionsSchema, trainOptionsSchema, inspectSchema, doctorSchema]) {
    for (const spec of optionSpecs(schema)) {
      expect(spec.meta.description).not.toBe('');
      expect(OPTION_GROUPS).toContain(spec.meta.group);
      expect(spec.name).toMatch(/^[a-z][a-z0-9]*(-[a-z0-9]+)*$/);
    }
  }
});

test('rollout and train sample alike by default', () => {
  const rollout = rolloutSchema.parse({ model: 'm', data: ['a.txt'], out: 'o.arrow' });
  const train = trainSchema.parse(minimal);
  const { out: _out, step: _step, ...shared } = rollout;
  expect(train).toMatchObject(shared);
});

test('the defaults of train are those of the paper where it states them', () => {
  expect(trainSchema.parse(minimal)).toMatchObject({
    objective: 'rlp',
    groupSize: 16,
    positions: 1,
    positionStrategy: 'uniform',
    documentsPerStep: 512,
    steps: 200,
    learningRate: 1e-6,
    schedule: 'constant',
    temperature: 0.7,
    topK: 0,
    topP: 1,
    minP: 0,
    maxContextTokens: 2048,
    maxThoughtTokens: 2048,
    horizon: 1,
    baseline: 'ema',
    emaDecay: 0.999,
    beta1: 0.9,
    beta2: 0.95,
  });
});

test('an EMA is kept for rlp, and for cpt and sft on request', () => {
  expect(trainSchema.parse({ ...minimal, objective: 'cpt' }).emaDecay).toBeUndefined();
  expect(trainSchema.parse({ ...minimal, objective: 'sft', emaDecay: 0.9 }).emaDecay).toBe(0.9);
  expect(() => trainSchema.parse({ ...minimal, objective: 'grpo', emaDecay: 0.9 })).toThrow(
    'is for --objective rlp, cpt or sft only, and this is grpo',
  );
});

test('the defaults of rpt and cpt are those of their papers', () => {
  const { maxContextTokens, groupSize, temperature } = trainSchema.parse({ ...minimal, objective: 'rpt' });
  expect({ maxContextTokens, groupSize, temperature }).toEqual({
    ...{ maxContextTokens: 4096, groupSize: 8, temperature: 0.8 },
  });
  const cpt = (more: object) => trainSchema.parse({ ...minimal, objective: 'cpt', ...more });
  expect(cpt({})).toMatchObject({ blockLength: 8192, batchTokens: 6 * 2 ** 20, maxContextTokens: undefined });
  expect(cpt({ batchTokens: 512 }).blockLength).toBe(512);
  expect(cpt({ packing: 'none' }).blockLength).toBe(8192);
  expect(trainSchema.parse({ ...minimal, objective: 'sft' }).blockLength).toBe(2048);
});

test('weight decay depends on the objective unless it is given', () => {
  expect(trainSchema.parse(minimal).weightDecay).toBe(0);
  expect(trainSchema.parse({ ...minimal, objective: 'cpt' }).weightDecay).toBe(0.1);
  expect(trainSchema.parse({ ...minimal, objective: 'cpt', weightDecay: 0 }).weightDecay).toBe(0);
  expect(trainSchema.parse({ ...minimal, objective: 'cpt' }).finalLearningRate).toBeCloseTo(1e-7, 15);
  const sft = trainSchema.parse({ ...minimal, objective: 'sft' });
  expect(sft).toMatchObject({
    learningRate: 2e-5,
    schedule: 'linear',
    documentsPerStep: 8,
    epochs: 3,
    steps: undefined,
  });
  const stepsGoFirst = trainSchema.parse({ ...minimal, objective: 'sft', steps: 7, epochs: 2 });
  expect(stepsGoFirst).toMatchObject({ steps: 7, epochs: undefined });
});

test('a greedy rollout is allowed, greedy RLP training is not', () => {
  expect(rolloutSchema.safeParse({ model: 'm', data: ['a'], out: 'o', temperature: 0 }).success).toBe(true);
  expect(trainSchema.safeParse({ ...minimal, temperature: 0 }).success).toBe(false);
  expect(trainSchema.safeParse({ ...minimal, topK: 1 }).success).toBe(false);
});

test('settings that an objective would ignore are refused unless they say what is so anyway', () => {
  const problems = (more: object) =>
    trainSchema.safeParse({ ...minimal, ...more }).error?.issues.map(({ path, message }) => `${path}: ${message}`);
  const thinking = { groupSize: 8, klCoefficient: 0.1, temperature: 0.7 };
  for (const objective of ['cpt', 'sft']) {
    expect(problems({ objective, ...thinking })).toEqual([
      `groupSize: is for --objective rlp, rpt or grpo only, and this is ${objective}`,
      `klCoefficient: is for --objective rlp, rpt or grpo only, and this is ${objective}`,
    ]);
  }
  expect(problems({ ...thinking, packing: 'none', blockLength: 16 })).toEqual([
    'packing: is for --objective cpt only, and this is rlp',
    'blockLength: is for --objective cpt or sft only, and this is rlp',
  ]);
  expect(problems({ objective: 'cpt', prompt: 'instruction' })).toEqual([
    'prompt: is for --objective rlp, rpt, grpo or sft only, and this is cpt',
  ]);
  expect(problems({ lossOnTarget: true })).toEqual(['lossOnTarget: is for --objective sft only, and this is rlp']);
  expect(problems({ objective: 'sft', lossOnTarget: true, thinkOpen: '[', blockLength: 16 })).toBeUndefined();
  const columns = { promptColumn: 'q', responseColumn: 'a', messagesColumn: 'm', idColumn: 'n' };
  expect(problems({ objective: 'grpo', ...columns, textColumn: 't' })).toEqual([
    'responseColumn: is for --objective sft only, and this is grpo',
    'messagesColumn: is for --objective sft only, and this is grpo',
    'textColumn: is for --objective rlp, rpt, cpt or sft only, and this is grpo',
  ]);
  expect(problems({ objective: 'sft', ...columns, textColumn: 't', positionColumn: 'p' })).toEqual([
    'idColumn: is for --objective rlp, rpt, cpt or grpo only, and this is sft',
  ]);
});

test('a limit of held-out data needs such data', () => {
  const problems = (more: object) => trainSchema.safeParse({ ...minimal, ...more }).error?.issues[0];
  expect(problems({ evalLimit: 3 })).toMatchObject({ path: ['evalLimit'], message: 'has no use without --eval-data' });
  expect(problems({ evalLimit: 3, evalData: ['e.txt'] })).toBeUndefined();
});

const VALID: [name: string, more: object][] = [
  ['what a strategy takes', { positionStrategy: 'every', positionStride: 3 }],
  ['K of the highest entropy', { positionStrategy: 'entropy', positions: 3 }],
  ['a column by another name', { positionStrategy: 'column', positionsColumn: 'at' }],
  ['a penalty', { unclosed: 'penalize', unclosedPenalty: 2 }],
  ['a cap', { importanceSampling: 'behavior', importanceCap: 5 }],
  ['a baseline that sees a prompt', { prompt: 'instruction', baselinePrompt: true }],
  ['the sign of a reward of its own', { baseline: 'none', rewardSign: 'positive', reward: 'mine.mjs' }],
  ['signs that agree without a baseline', { baseline: 'none', rewardSign: 'agree' }],
  ['adapters', { loraRank: 2, loraAlpha: 1, loraTargetModules: ['all-linear'] }],
  ['defaults said aloud', { baseline: 'none', emaDecay: 0.999, importanceCap: 2, positions: 1, finalLearningRate: 0 }],
  ['a step of less than a block', { objective: 'cpt', batchTokens: 512 }],
  ['blocks apart', { objective: 'cpt', packing: 'none', documentsPerStep: 4 }],
  ['a rate that falls', { objective: 'cpt', finalLearningRate: 1e-8 }],
  ['held-out prompts', { objective: 'grpo', evalData: ['b.txt'], evalEvery: 5, evalSamples: 2 }],
  ['a GPU', { device: 'cuda', tf32: true, gpuMemoryLimit: 8 }],
];

test.each(VALID)('a resolved configuration is valid: %s', (_name, more) => {
  const resolved = trainSchema.parse({ ...minimal, ...more });
  expect(trainSchema.parse(resolved)).toEqual(resolved);
});

test.each(['rlp', 'rpt', 'grpo', 'cpt', 'sft'])('a resolved configuration is valid: %s', (objective) => {
  const resolved = trainSchema.parse({ ...minimal, objective, learningRate: 3e-4 });
  expect(trainSchema.parse(resolved)).toEqual(resolved);
});

test('devices', () => {
  expect(parseDevice('cpu')).toEqual({ kind: 'cpu' });
  expect(parseDevice('cuda')).toEqual({ kind: 'cuda', id: 0 });
  expect(parseDevice('cuda:3')).toEqual({ kind: 'cuda', id: 3 });
});

test.each([{ compareWithin: 'step' }, { advantageScale: 'step' }])(
  'what compares all documents of a step does not go with documents that are replaced: %o',
  (options) => {
    const rpt = { ...minimal, objective: 'rpt', ...options };
    expect(() => trainSchema.parse(rpt)).toThrow('of which those without spread are replaced: --resample-from 0');
    expect(trainSchema.parse({ ...rpt, resampleFrom: 0 })).toMatchObject(options);
  },
);
