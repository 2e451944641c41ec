import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readRollouts } from '../../src/arrow.ts';
import { RunError } from '../../src/errors.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { loadRewardModule } from '../../src/reward/index.ts';
import { train } from '../../src/train/train.ts';
import { argumentsOf, refused } from '../bad-input/refused.ts';
import { runCli } from '../cli/run-cli.ts';
import { figure, SmallRuns } from './small-run.ts';

const EXAMPLE = fileURLToPath(new URL('../../docs/examples/length-penalty.mjs', import.meta.url));

let runs: SmallRuns;
beforeAll(async () => {
  runs = await SmallRuns.create();
});
afterAll(() => runs[Symbol.dispose]());
afterEach(() => runs.clear());

/** A module in the folder of the test. */
function moduleOf(name: string, source: string): string {
  const path = runs.folder.in(name);
  writeFileSync(path, source);
  return path;
}

const gainOf = ({ reasonedLogProbs, baselineLogProbs }: RolloutRecord) => reasonedLogProbs[0] - baselineLogProbs[0];

describe('a reward module', () => {
  it('pays the thoughts: the example takes a price of each token off', async () => {
    const { thoughts, rows } = await runs.train({ reward: EXAMPLE, steps: 1 });
    for (const thought of thoughts) {
      expect(thought.reward).toBeCloseTo(gainOf(thought) - 0.01 * thought.thoughtTokens.length, 5);
    }
    const rewards = thoughts.map(({ reward }) => reward);
    const mean = rewards.reduce((a, b) => a + b) / rewards.length;
    const variance = rewards.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (rewards.length - 1);
    expect(rows[0]['rewards/length-penalty/mean']).toBeCloseTo(mean, 12);
    expect(rows[0]['rewards/length-penalty/std']).toBeCloseTo(Math.sqrt(variance), 12);
    expect(rows[0].reward).toBeCloseTo(mean, 12);
    // Of the rewards, and so not of S_pred.
    for (let first = 0; first < thoughts.length; first += 3) {
      const group = rewards.slice(first, first + 3);
      const others = (group[1] + group[2]) / 2;
      expect(thoughts[first].advantage).toBeCloseTo(group[0] - others, 9);
    }
  });

  it('that pays the information gain trains as the information gain does', async () => {
    const same = moduleOf('same.mjs', 'export default (thoughts) => thoughts.map((t) => t.builtInReward);\n');
    const own = await runs.train();
    const asked = await runs.train({ reward: same });
    expect(figure(asked.rows, 'reward')[0]).toBe(figure(own.rows, 'reward')[0]);
    expect(figure(asked.rows, 'grad_norm')[2]).toBeCloseTo(figure(own.rows, 'grad_norm')[2], 4);
  });

  it('sees what the row says, and the text around the thought', async () => {
    const seen = runs.folder.in('seen.json');
    const spy = moduleOf(
      'spy.mjs',
      `import { writeFileSync } from 'node:fs';
      export default async (thoughts) => {
        writeFileSync(${JSON.stringify(seen)}, JSON.stringify(thoughts));
        for (const thought of thoughts) thought.thoughtTokens.fill(0); // of no consequence
        return thoughts.map((_, i) => i);
      };`,
    );
    const { thoughts, rows } = await runs.train({ reward: spy, steps: 1, prompt: 'instruction', maxThoughtTokens: 5 });
    expect(thoughts.some(({ thoughtTokens }) => thoughtTokens.some((token) => token !== 0))).toBe(true);
    const inputs = JSON.parse(readFileSync(seen, 'utf8'));
    expect(inputs).toHaveLength(thoughts.length);
    for (const [i, thought] of thoughts.entries()) {
      const { prefix, document, builtInReward, ...row } = inputs[i];
      expect(document).toBe(`${(Number(thought.documentId) + 10) ** 7} is a number`);
      expect(document.startsWith(prefix + thought.target)).toBe(true);
      expect(prefix.length).toBe(thought.position); // one byte a token
      expect(builtInReward).toBeCloseTo(gainOf(thought), 5);
      expect(row.thought).toBe(thought.thought);
      const { reward: _reward, advantage: _advantage, ...unpaid } = thought;
      expect(row).toEqual(JSON.parse(JSON.stringify(unpaid)));
      expect(thought.reward).toBe(i);
    }
    expect(rows[0]['rewards/spy/mean']).toBe((thoughts.length - 1) / 2);
  });

  it('is measured on held-out text, too', async () => {
    const evalData = [runs.folder.in('data.jsonl')];
    const { rows } = await runs.train({ reward: EXAMPLE, steps: 1, evalData });
    const [before] = rows;
    const price = 0.01 * Number(before['eval/completions/mean_length']);
    expect(before['eval/reward']).toBeCloseTo(Number(before['eval/information_gain']) - price, 6);
  });
});

describe('a run with a reward module', () => {
  it('records its hash, and is not resumed with another', async () => {
    const source = 'export default (thoughts) => thoughts.map(({ thought }) => thought.length);\n';
    const path = moduleOf('length.mjs', source);
    const config = runs.config({ reward: path, checkpointEvery: 1 });
    const abort = new AbortController();
    const onProgress = ({ done }: { done: number }) => void (done === 1 && abort.abort());
    await expect(train(config, { signal: abort.signal, onProgress })).rejects.toThrow(RunError);
    const { metadata } = await readRollouts(runs.folder.in('run', 'rollouts', 'step-000001.arrow'));
    const { hash } = await loadRewardModule(path);
    expect(metadata.config).toMatchObject({
      reward: path,
      rewardHash: hash,
      dataHash: expect.stringMatching(/^\w{64}$/),
    });

    moduleOf('length.mjs', `${source} `);
    const args = ['train', '--run', config.run, '--resume'];
    expect(await refused(runs.folder, args)).toBe(
      `reward module ${path}: is not the one that run ${config.run} was started with; put it back, or start a new run`,
    );
    moduleOf('length.mjs', source);
    expect((await runCli(args)).code).toBe(0);
  });

  it.each([
    ['undefined.mjs', 'export const x = 1;', /expected a default export that is a function .*, found x exported$/],
    ['broken.mjs', 'export default (', /cannot be loaded: \w*Error: /],
    ['data.csv', 'a,b', /./],
  ])('that is none is refused before anything is written: %s', async (name, source, problem) => {
    const path = moduleOf(name, source);
    for (const command of ['rollout', 'train rlp']) {
      const message = await refused(runs.folder, argumentsOf(command, runs.folder, { reward: path }));
      expect(message.split('\n')[0]).toMatch(new RegExp(`^reward module ${path}: `));
      expect(message).toMatch(problem);
    }
  });

  it('that is not there', async () => {
    const path = runs.folder.in('nowhere.mjs');
    expect(await refused(runs.folder, argumentsOf('rollout', runs.folder, { reward: path }))).toBe(
      `cannot read ${path}: no such file or folder (ENOENT)`,
    );
  });

  it.each([
    [
      'throws.mjs',
      'export default (thoughts) => {\n  return thoughts.map((t) => t.nothing.length);\n};',
      /threw TypeError: .* \(line 2\)\n$/,
    ],
    [
      'nan.mjs',
      'export default (thoughts) => thoughts.map((t) => 0 / t.rollout);',
      /rollout 0: it is NaN, expected a finite number\n$/,
    ],
    [
      'short.mjs',
      'export default () => [];',
      /it returned 0 values; expected an array of \d+ numbers, one a thought\n$/,
    ],
  ])('that fails at work ends it with exit code 2: %s', async (name, source, problem) => {
    const path = moduleOf(name, source);
    for (const command of ['rollout', 'train rlp']) {
      const { code, err } = await runCli(argumentsOf(command, runs.folder, { reward: path }));
      expect({ code, err }).toEqual({ code: 2, err: expect.stringMatching(problem) });
      expect(err).toMatch(new RegExp(`\\nrlp-ort: reward module ${path}: .*document `));
      expect(err).not.toMatch(/\n\s+at /);
      rmSync(runs.folder.in('new'), { recursive: true, force: true });
    }
  });
});
