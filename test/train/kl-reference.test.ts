import { appendFileSync, cpSync, readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { TrainConfig } from '../../src/config.ts';
import { loadWeights, openCheckpoint } from '../../src/export/index.ts';
import { train } from '../../src/train/train.ts';
import { argumentsOf, refused } from '../bad-input/refused.ts';
import { relativeDistance } from '../fixtures/training.ts';
import { figure, SmallRuns } from './small-run.ts';

let runs: SmallRuns;
beforeAll(async () => {
  runs = await SmallRuns.create();
});
afterAll(() => runs[Symbol.dispose]());
afterEach(() => runs.clear());

const KL: Partial<TrainConfig> = { klCoefficient: 0.5, steps: 4 };

/** All weights of the run's last checkpoint, one after the other. */
async function trained(): Promise<number[]> {
  const weights = await loadWeights(await openCheckpoint(join(runs.folder.in('run'), 'checkpoints', 'step-000004')));
  return [...weights.values()].flatMap(({ data }) => [...data]);
}

describe('--kl-reference', () => {
  it('start beside an EMA baseline takes the steps of a frozen baseline, whose KL is to the start; ema does not', async () => {
    const frozen = await runs.train({ ...KL, baseline: 'frozen' });
    const weights = await trained();
    const start = await runs.train({ ...KL, emaDecay: 0.1, klReference: 'start' });
    const same = await trained();
    const ema = await runs.train({ ...KL, emaDecay: 0.1 });
    const other = await trained();
    // Two graphs of the same weights: within rounding. Rewards differ, for the baseline does.
    for (const [step, kl] of figure(frozen.rows, 'kl').entries()) {
      expect(figure(start.rows, 'kl')[step]).toBeCloseTo(kl, 5);
    }
    expect(relativeDistance(same, weights)).toBeLessThan(1e-4);
    expect(relativeDistance(other, weights)).toBeGreaterThan(1e-3);
    expect(figure(start.rows, 'kl')[0]).toBeLessThan(1e-6);
    expect(figure(ema.rows, 'kl')[3]).toBeLessThan(figure(start.rows, 'kl')[3] / 2); // it comes after
    expect(figure(start.rows, 'reward')[3]).not.toBeCloseTo(figure(frozen.rows, 'reward')[3], 3);
  });

  it('a model pulls the policy towards it; that of the start itself is start', async () => {
    await runs.train({ steps: 4, baseline: 'frozen' });
    const other = runs.folder.in('other');
    cpSync(join(runs.folder.in('run'), 'checkpoints', 'step-000004'), other, { recursive: true });
    const pulled: Partial<TrainConfig> = { klCoefficient: 10, steps: 6, learningRate: 3e-3 };
    const { rows } = await runs.train({ ...pulled, klReference: other });
    const kl = figure(rows, 'kl');
    expect(kl[0]).toBeGreaterThan(0.01);
    expect(kl[5]).toBeLessThan(kl[0] / 2);
    const [named, start] = [
      await runs.train({ ...KL, emaDecay: 0.1, klReference: runs.folder.in('model') }),
      await runs.train({ ...KL, emaDecay: 0.1, klReference: 'start' }),
    ];
    expect(named.weights.equals(start.weights)).toBe(true);
  });

  it('a resumed run is the uninterrupted one, and asks for the same reference', async () => {
    const reference = runs.folder.in('reference');
    cpSync(runs.folder.in('model'), reference, { recursive: true });
    const options = { ...KL, klReference: reference };
    const whole = await runs.train(options);
    renameSync(runs.folder.in('run'), runs.folder.in('whole'));
    const abort = new AbortController();
    const interrupted = train(runs.config(options), {
      signal: abort.signal,
      onProgress: ({ done }) => {
        if (done === 2) abort.abort();
      },
    });
    await expect(interrupted).rejects.toThrow('interrupted after step 2 of 4');
    const config = { ...runs.config(options), resume: true };
    const weights = join(reference, 'model.safetensors');
    cpSync(join(runs.folder.in('whole'), 'checkpoints', 'step-000004', 'model.safetensors'), weights);
    await expect(train(config)).rejects.toThrow(
      `--kl-reference ${reference}: its weights or its config.json are not those that run ${config.run} was started with; put them ` +
        'back, or start a new run',
    );
    cpSync(join(runs.folder.in('model'), 'model.safetensors'), weights);
    const { checkpoint } = await train(config);
    expect(readFileSync(join(checkpoint, 'model.safetensors')).equals(whole.weights)).toBe(true);
  });
});

describe('--kl-reference is refused', () => {
  const refusal = (flags: Record<string, string>) => refused(runs.folder, argumentsOf('train rlp', runs.folder, flags));

  it('without a KL, without an EMA to name, and where there is no model', async () => {
    const kl = { 'kl-coefficient': '0.1' };
    expect(await refusal({ 'kl-reference': 'start' })).toBe('--kl-reference start: has no use with --kl-coefficient 0');
    expect(await refusal({ ...kl, 'kl-reference': 'ema', baseline: 'frozen' })).toBe(
      '--kl-reference ema: needs --objective rlp with --baseline ema, which keeps a moving average',
    );
    const nowhere = runs.folder.in('nowhere');
    expect(await refusal({ ...kl, 'kl-reference': nowhere })).toMatch(new RegExp(`${nowhere}.*no such`));
  });

  it('where the tokenizer is another', async () => {
    const foreign = runs.folder.in('foreign');
    cpSync(runs.folder.in('model'), foreign, { recursive: true });
    appendFileSync(join(foreign, 'tokenizer.json'), '\n');
    const message = await refusal({ 'kl-coefficient': '0.1', 'kl-reference': foreign });
    expect(message).toBe(
      `${join(foreign, 'tokenizer.json')}: is not the tokenizer of ${runs.folder.in('model')}; the two models need the same one`,
    );
  });
});
