import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type TrainConfig, trainSchema } from '../../src/config.ts';
import { readSafetensorsHeader } from '../../src/export/index.ts';
import { openModel } from '../../src/model-directory.ts';
import { type MetricsRow, readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { argumentsOf, contentOf, refused, type Workplace, workplace } from '../bad-input/refused.ts';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  const rows = Array.from(
    { length: 9 },
    (_, i) => `${JSON.stringify({ id: i, text: `${(i + 10) ** 7} is a number` })}\n`,
  );
  writeFileSync(folder.in('data.jsonl'), rows.join(''));
  const questions = Array.from({ length: 9 }, (_, i) => ({ prompt: `${i + 10}^7=`, answer: `${(i + 10) ** 7}` }));
  const lines = questions.map((row) => `${JSON.stringify({ ...row, response: row.answer })}\n`);
  writeFileSync(folder.in('questions.jsonl'), lines.join(''));
  // A model of random weights is never right: it is paid for what it writes.
  writeFileSync(folder.in('pay.mjs'), 'export default (thoughts) => thoughts.map((t) => t.thoughtTokens[0] % 5);\n');
});
afterAll(() => folder[Symbol.dispose]());

/** Settings of each objective, as small as they can be. */
const SETTINGS: Record<TrainConfig['objective'], () => Partial<TrainConfig>> = {
  rlp: () => ({ ...THINKING, emaDecay: 0.9 }),
  rpt: () => ({ ...THINKING, ...ANSWERING(), prediction: 'text', entropyThreshold: 0 }),
  grpo: () => ({ ...THINKING, ...ANSWERING(), data: [folder.in('questions.jsonl')] }),
  cpt: () => ({ blockLength: 16, batchTokens: 32 }),
  sft: () => ({ data: [folder.in('questions.jsonl')], documentsPerStep: 2 }),
};
const THINKING = { documentsPerStep: 2, groupSize: 3, maxThoughtTokens: 5, temperature: 1 };
const ANSWERING = () => ({ maxCompletionTokens: 2, reward: folder.in('pay.mjs') });

function configOf(objective: TrainConfig['objective'], more: Partial<TrainConfig> = {}): TrainConfig {
  return trainSchema.parse({
    ...{ model: folder.in('model'), data: [folder.in('data.jsonl')], run: folder.in('run'), objective },
    ...{ steps: 4, checkpointEvery: 2, learningRate: 1e-2, threads: 1, schedule: 'constant' },
    ...SETTINGS[objective](),
    ...{ loraRank: 2, loraAlpha: 4, loraTargetModules: ['q_proj,down_proj'] },
    ...more,
  });
}

describe.each([
  ['rlp', {}],
  ['rpt', {}],
  ['grpo', {}],
  ['cpt', {}],
  ['cpt', { recompute: true }],
  ['sft', {}],
] as const)('LoRA, %s %o', (objective, more) => {
  it('leaves a merged model with the adapters beside it, and resumes to the byte', async () => {
    const config = configOf(objective, more);
    await train(config);
    const last = 'checkpoints/step-000004';
    const out = folder.in('run', last);

    const adapter = await readSafetensorsHeader(join(out, 'adapter', 'adapter_model.safetensors'));
    expect([...adapter.tensors.keys()].sort()).toEqual(
      ['mlp.down_proj', 'self_attn.q_proj'].flatMap((module) =>
        ['lora_A', 'lora_B'].map((kind) => `base_model.model.model.layers.0.${module}.${kind}.weight`),
      ),
    );
    expect(JSON.parse(readFileSync(join(out, 'adapter', 'adapter_config.json'), 'utf8'))).toMatchObject({
      peft_type: 'LORA',
      task_type: 'CAUSAL_LM',
      base_model_name_or_path: folder.in('model'),
      r: 2,
      lora_alpha: 4,
      target_modules: ['q_proj', 'down_proj'],
    });
    const reads = objective === 'rlp' || objective === 'rpt'; // a baseline, a proxy
    expect(existsSync(join(out, 'checkpoint', 'ema.safetensors'))).toBe(reads);
    const before = await (await openModel(folder.in('model'))).loadWeights();
    for (const [name, { data }] of await (await openModel(out)).loadWeights()) {
      const old = before.get(name)?.data ?? [];
      const same = data.every((number, i) => number === old[i]);
      expect(same, name).toBe(!/(q_proj|down_proj)/.test(name));
    }

    renameSync(folder.in('run'), folder.in('whole'));
    await train({ ...config, steps: 2 });
    await train({ ...config, model: relative(process.cwd(), config.model), resume: true });
    expect(contentOf(folder.in('run', last))).toEqual(contentOf(folder.in('whole', last)));
    for (const run of ['run', 'whole']) rmSync(folder.in(run), { recursive: true });
  });
});

describe('LoRA', () => {
  it('has the losses and gradients of kept activations when layers are computed again', async () => {
    const figures: MetricsRow[][] = [];
    for (const recompute of [false, true]) {
      const config = configOf('cpt', { recompute, checkpointEvery: 0, run: folder.in(`recompute-${recompute}`) });
      await train(config);
      figures.push(await readMetrics(config.run));
    }
    const [kept, again] = figures;
    for (const [i, row] of kept.entries()) {
      expect(again[i].loss).toBeCloseTo(Number(row.loss), 5);
      expect(again[i].grad_norm).toBeCloseTo(Number(row.grad_norm), 5);
    }
    expect(kept[3].loss).toBeLessThan(Number(kept[0].loss));
  });

  it('refuses a layer that is not there, before anything is written', async () => {
    const flags = { 'lora-rank': '2', 'lora-target-modules': 'q_proj,c_attn' };
    expect(await refused(folder, argumentsOf('train cpt', folder, flags))).toMatch(
      /^--lora-target-modules c_attn: the model has no linear layer of that name; it has q_proj, /,
    );
    expect(await refused(folder, argumentsOf('train cpt', folder, { 'lora-rank': '0' }))).toBe(
      '--lora-rank 0: must be a whole number, at least 1',
    );
  });
});
