import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { trainSchema } from '../../src/config.ts';
import { supervisedObjective } from '../../src/train/supervised.ts';
import type { TreeBatch } from '../../src/tree-batch.ts';
import { argumentsOf, refused, type Workplace, workplace } from '../bad-input/refused.ts';
import { runCli } from '../cli/run-cli.ts';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
});
afterAll(() => folder[Symbol.dispose]());

const PLAN = /^rlp-ort: planned memory: [\d.]+ GB \(weights [\d.]+ GB, optimizer [\d.]+ GB, .*head [\d.]+ GB\)/m;

describe('train', () => {
  it('prints the planned memory before the first step, then loss and speed', async () => {
    const { code, err } = await runCli(argumentsOf('train cpt', folder, { steps: '2', threads: '1' }));
    expect(code).toBe(0);
    const lines = err.trimEnd().split('\n');
    const plan = lines.findIndex((line) => PLAN.test(line));
    const steps = lines.flatMap((line, i) => (/^train: \d\/2 steps/.test(line) ? [i] : []));
    expect(plan).toBeGreaterThanOrEqual(0);
    expect(plan).toBeLessThan(steps[0]);
    expect(lines[steps[steps.length - 1]]).toMatch(/^train: 2\/2 steps {2}loss \d[\d.]* {2}tokens\/s \d[\d.]*$/);
  });

  it('prints it with --dry-run, with what is free, and the settings; nothing is written', async () => {
    const sft = ['train', '--objective', 'sft', '--model', folder.in('model'), '--data', 'd.jsonl', '--run', 'r'];
    const { code, out, err } = await runCli([...sft, '--dry-run']);
    expect(code).toBe(0);
    expect(err).toMatch(PLAN);
    expect(err).toMatch(/; [\d.]+ GB are free$/m);
    expect(out).toMatch(/^objective: sft$/m);
    const device = await runCli([...argumentsOf('train cpt', folder, { device: 'cuda:1' }), '--dry-run']);
    expect(device.err).toMatch(
      /^rlp-ort: planned memory of cuda:1: .* GB \(.*\); planned memory of the host: .* GB \(.*\); .* are free$/m,
    );
  });

  it('refuses what does not fit before anything is written, and says what would', async () => {
    const flags = { 'micro-batch-tokens': '4000000000', run: folder.in('other') };
    expect(await refused(folder, argumentsOf('train cpt', folder, flags))).toMatch(
      /^planned memory: \d+\.\d GB \(.*\), but [\d.]+ GB are free; it fits with --micro-batch-tokens \d+$/,
    );
  });
});

it('an evaluation takes batches as large as a micro-batch at most', async () => {
  const batches: TreeBatch[] = [];
  const session = {
    async runEvalStep(batch: TreeBatch) {
      batches.push(batch);
      return { loss: 1 };
    },
  };
  const evaluate = async (microBatchTokens: number) => {
    batches.length = 0;
    const config = trainSchema.parse({ model: 'm', data: ['d'], run: 'r', objective: 'cpt', microBatchTokens });
    // What is not there is not looked at.
    const context = { config, hooks: {}, session } as unknown as Parameters<typeof supervisedObjective>[0];
    const document = { trunk: [1, 2, 3, 4, 5, 6, 7, 8], losses: [{ token: 0, target: 2, nllWeight: 1 }], branches: [] };
    const objective = supervisedObjective<number>(context, {
      next: async () => [],
      lossOf: (items) => items.map(() => document),
      heldOut: [1, 2, 3, 4, 5, 6],
      metrics: () => ({}),
      state: () => null,
      restore: () => {},
    });
    await objective.evaluate();
    return batches.map(({ dims: { D } }) => D);
  };
  expect(await evaluate(27)).toEqual([3, 3]); // 8 tokens and an empty branch of 1
  expect(await evaluate(8192)).toEqual([6]);
});
