import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { TrainConfig } from '../../src/config.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { figure, SmallRuns } from './small-run.ts';

let runs: SmallRuns;
beforeAll(async () => {
  runs = await SmallRuns.create();
});
afterAll(() => runs[Symbol.dispose]());
afterEach(() => runs.clear());

describe('the baseline cancels', () => {
  it('EMA, frozen and no baseline: other rewards, and the same weights bit for bit', async () => {
    const [ema, frozen, none] = [
      await runs.train({ baseline: 'ema' }),
      await runs.train({ baseline: 'frozen' }),
      await runs.train({ baseline: 'none' }),
    ];
    expect(frozen.weights.equals(ema.weights)).toBe(true);
    expect(none.weights.equals(ema.weights)).toBe(true);
    for (const name of ['loss', 'grad_norm']) expect(figure(none.rows, name)).toEqual(figure(ema.rows, name));
    expect(figure(none.rows, 'reward')[0]).not.toBeCloseTo(figure(ema.rows, 'reward')[0], 3);
    expect(figure(frozen.rows, 'reward')[2]).not.toBeCloseTo(figure(ema.rows, 'reward')[2], 3);
  });

  it.each([
    { compareWithin: 'document' },
    { compareWithin: 'step' },
    { rewardSign: 'agree' },
  ] as Partial<TrainConfig>[])('but not under %j', async (more) => {
    const ema = await runs.train({ ...more, baseline: 'ema', steps: 1 });
    const none = await runs.train({ ...more, baseline: 'none', steps: 1 });
    expect(none.weights.equals(ema.weights)).toBe(false);
  });

  it.each(['positive', 'clip'] as const)(
    'nor where the sign of rewards is %s, which they need a baseline for',
    async (rewardSign) => {
      const ema = await runs.train({ rewardSign, emaDecay: 0.1 });
      const frozen = await runs.train({ rewardSign, baseline: 'frozen' });
      expect(figure(ema.rows, 'grad_norm')[0]).toBe(figure(frozen.rows, 'grad_norm')[0]);
      expect(frozen.weights.equals(ema.weights)).toBe(false);
    },
  );

  it('nor with a KL divergence to it, from the second step on', async () => {
    const ema = await runs.train({ klCoefficient: 0.5, baseline: 'ema', emaDecay: 0.1 });
    const none = await runs.train({ klCoefficient: 0.5, baseline: 'none' });
    expect(figure(ema.rows, 'grad_norm')[0]).toBe(figure(none.rows, 'grad_norm')[0]);
    expect(none.weights.equals(ema.weights)).toBe(false);
  });
});

describe('several updates a step', () => {
  it('in the first the ratio is 1 and nothing is clipped', async () => {
    const { rows } = await runs.train();
    for (const row of rows) {
      expect(Math.abs(Number(row.ratio_min) - 1)).toBeLessThan(1e-4);
      expect(Math.abs(Number(row.ratio_max) - 1)).toBeLessThan(1e-4);
      expect(row['clip_ratio/region_mean']).toBe(0);
      expect(row['sampling/sampling_logp_difference/max']).toBeLessThan(1e-4);
      expect(row.updates).toBe(1);
    }
  });

  it('the EMA follows after each: without a lag it is the weights themselves', async () => {
    const several: Partial<TrainConfig> = { epochsPerStep: 2, minibatches: 2, steps: 1 };
    const unlagged = await runs.train({ ...several, emaDecay: 0 });
    expect(figure(unlagged.rows, 'ema_distance')).toEqual([0]);
    expect(figure(unlagged.rows, 'updates')).toEqual([4]);
    // phi is theta of the start for the first step's rewards, whatever the lag.
    const lagged = await runs.train({ ...several, emaDecay: 0.9 });
    expect(figure(lagged.rows, 'reward')).toEqual(figure(unlagged.rows, 'reward'));
    expect(figure(lagged.rows, 'ema_distance')[0]).toBeGreaterThan(0);
  });

  it('in the next ones it moves, and is clipped', async () => {
    const { rows } = await runs.train({ epochsPerStep: 3, minibatches: 2, clipLow: 0.01, clipHigh: 0.02 });
    for (const row of rows) {
      expect(row.updates).toBe(6);
      expect(Number(row.ratio_max)).toBeGreaterThan(1.02);
      expect(Number(row['clip_ratio/low_mean'])).toBeGreaterThan(0);
      expect(Number(row['clip_ratio/high_mean'])).toBeGreaterThan(0);
      expect(row['sampling/sampling_logp_difference/max']).toBeLessThan(1e-4);
    }
  });

  it('name the update that diverged, and say that nothing of its step is kept', async () => {
    const diverged = runs.train({ learningRate: 3e38, epochsPerStep: 2 });
    await expect(diverged).rejects.toThrow(
      /^step 1: update 2 of 2: loss NaN: training has diverged; the update was not applied, and no checkpoint has any update of this step; its batch is kept in/,
    );
  });

  it('interrupted and resumed, with every option that has a state, is the uninterrupted run', async () => {
    const options: Partial<TrainConfig> = {
      ...{ steps: 4, epochsPerStep: 2, minibatches: 2, klCoefficient: 0.1, nextTokenCoefficient: 0.1 },
      ...{ importanceSampling: 'behavior', temperature: 0.7, lengthNormalization: 'token', zeroVariance: 'drop' },
    };
    const whole = await runs.train(options);
    renameSync(runs.folder.in('run'), runs.folder.in('whole'));
    const abort = new AbortController();
    const interrupted = train(runs.config(options), {
      signal: abort.signal,
      onProgress: ({ done }) => {
        if (done === 2) abort.abort();
      },
    });
    await expect(interrupted).rejects.toThrow('interrupted after step 2 of 4, which is saved');
    const { checkpoint } = await train({ ...runs.config(options), resume: true });
    expect(readFileSync(join(checkpoint, 'model.safetensors')).equals(whole.weights)).toBe(true);
    const rows = await readMetrics(runs.folder.in('run'));
    for (const name of ['loss', 'kl', 'num_tokens', 'next_token_loss', 'ema_distance']) {
      expect(figure(rows, name), name).toEqual(figure(whole.rows, name));
    }
  });
});

describe('options', () => {
  it('KL holds the policy near its start', async () => {
    const slow: Partial<TrainConfig> = { baseline: 'frozen', learningRate: 1e-3, steps: 6 };
    const free = await runs.train({ ...slow, klCoefficient: 1e-6 });
    const held = await runs.train({ ...slow, klCoefficient: 10 });
    expect(figure(held.rows, 'kl')[0]).toBeLessThan(1e-6); // the start itself
    expect(figure(free.rows, 'kl')[5]).toBeGreaterThan(2 * figure(held.rows, 'kl')[5]);
    expect(figure(held.rows, 'kl')[5]).toBeGreaterThan(0);
  });

  it('a next-token loss lowers the cross-entropy of the text', async () => {
    const { rows } = await runs.train({ nextTokenCoefficient: 1, steps: 8, documentsPerStep: 9 });
    const losses = figure(rows, 'next_token_loss');
    expect(losses[7]).toBeLessThan(losses[0] - 0.1);
  });

  it('importance weights are 1 where sampler and trainer agree, and capped where they do not', async () => {
    const same = await runs.train({ importanceSampling: 'mismatch', temperature: 0.5 });
    for (const end of ['min', 'max']) {
      expect(Math.abs(figure(same.rows, `sampling/importance_sampling_ratio/${end}`)[0] - 1)).toBeLessThan(1e-4);
    }
    // Of the rollout and the first pass, not of two passes of training.
    const free = await runs.train({ temperature: 0.5 });
    for (const name of ['mean', 'max'].map((each) => `sampling/sampling_logp_difference/${each}`)) {
      const [difference] = figure(same.rows, name);
      expect(difference).toBeGreaterThan(0);
      expect(Math.abs(difference - figure(free.rows, name)[0])).toBeLessThan(1e-6);
    }
    const drawn = await runs.train({ importanceSampling: 'behavior', temperature: 0.5, importanceCap: 1.25 });
    expect(figure(drawn.rows, 'sampling/importance_sampling_ratio/max')[0]).toBe(1.25);
    expect(figure(drawn.rows, 'sampling/importance_sampling_ratio/min')[0]).toBeLessThan(0.9);
    const [{ thoughtLogProbs, samplingLogProbs }] = drawn.thoughts;
    expect([...thoughtLogProbs]).not.toEqual([...samplingLogProbs]);
  });

  it('groups without a gradient are left out; where there is no other, nothing is updated', async () => {
    // So cold that all thoughts of a group are the same.
    const cold: Partial<TrainConfig> = { temperature: 0.001, steps: 2 };
    const kept = await runs.train(cold);
    const dropped = await runs.train({ ...cold, zeroVariance: 'drop' });
    for (const { rows } of [kept, dropped]) expect(figure(rows, 'frac_reward_zero_std')).toEqual([1, 1]);
    expect(figure(dropped.rows, 'updates')).toEqual([0, 0]);
    expect(figure(kept.rows, 'updates')).toEqual([1, 1]);
    expect(figure(dropped.rows, 'loss')).toEqual([0, 0]);
    // They were read and sampled all the same.
    for (const name of ['num_tokens', 'num_input_tokens']) {
      expect(figure(dropped.rows, name)).toEqual(figure(kept.rows, name));
    }
  });

  it('thoughts that do not close are dropped or penalised, and counted', async () => {
    const unclosed = ({ finishReason }: RolloutRecord) => finishReason !== 'closed';
    const close = await runs.train({ steps: 1 });
    expect(close.thoughts.some(unclosed)).toBe(true);
    const drop = await runs.train({ steps: 1, unclosed: 'drop' });
    for (const thought of drop.thoughts.filter(unclosed)) expect(thought.advantage).toBe(0);
    const penalized = await runs.train({ steps: 1, unclosed: 'penalize', unclosedPenalty: 3 });
    for (const [i, thought] of penalized.thoughts.entries()) {
      const expected = close.thoughts[i].reward - (unclosed(thought) ? 3 : 0);
      expect(thought.reward).toBeCloseTo(expected, 5);
    }
    const shares = ['completions/clipped_ratio', 'completions/eos_ratio'].map((name) => figure(close.rows, name)[0]);
    const expected = close.thoughts.filter(unclosed).length / close.thoughts.length;
    expect(shares[0] + shares[1]).toBeCloseTo(expected, 12);
  });

  it('documents are cut behind the context that is allowed; the horizon is behind that', async () => {
    const config = { steps: 6, maxContextTokens: 4, horizon: 2, positions: 9 };
    const { rows, thoughts } = await runs.train(config);
    const positions = [...new Set(thoughts.map(({ position }) => position))].sort();
    expect(positions).toEqual([1, 2, 3, 4]);
    expect(figure(rows, 'num_input_tokens')[5]).toBe(6 * 3 * 4);
    runs.clear();
    expect(await train(runs.config({ ...config, steps: 3 }))).toMatchObject({ documents: 9, truncated: 9 });
    runs.clear();
    // More than any document has: nothing is cut.
    expect(await train(runs.config({ ...config, steps: 3, maxContextTokens: 400 }))).toMatchObject({ truncated: 0 });
  });

  it('the mean over a horizon is the sum divided by its length', async () => {
    const sum = await runs.train({ steps: 1, horizon: 4 });
    const mean = await runs.train({ steps: 1, horizon: 4, horizonReduction: 'mean' });
    for (const [i, { reward }] of mean.thoughts.entries()) expect(reward).toBeCloseTo(sum.thoughts[i].reward / 4, 5);
  });

  it.each([{}, { unclosed: 'drop' }, { thoughtLoss: 'best-of-group' }] as Partial<TrainConfig>[])(
    'tokens are those of each document up to its last position, once, and of all thoughts: %j',
    async (more) => {
      const { rows, thoughts } = await runs.train({ ...more, steps: 2 });
      const last = new Map<string, number>();
      for (const { documentId, position } of thoughts) {
        last.set(documentId, Math.max(position, last.get(documentId) ?? 0));
      }
      const input = [...last.values()].reduce((a, b) => a + b);
      // The opening delimiter is one token.
      const written = thoughts.reduce((sum, { thoughtTokens }) => sum + thoughtTokens.length + 1, 0);
      expect(last.size).toBe(3);
      expect(rows[0]).toMatchObject({ num_input_tokens: input, num_tokens: input + written });
      expect(rows[1].num_tokens).toBeGreaterThan(input + written);
      expect(rows[1].num_input_tokens).toBeGreaterThan(input);
    },
  );

  it('tokens a second of scoring are those of the passes that are run, and not there without one', async () => {
    const scored = async (more: Partial<TrainConfig>) => {
      const { rows, thoughts } = await runs.train({ steps: 1, ...more });
      const [rate, time] = ['tokens_per_second/score', 'time/score'].map((name) => rows[0][name]);
      return { tokens: rate === undefined ? undefined : Math.round(Number(rate) * Number(time)), rows, thoughts };
    };
    const { tokens, rows } = await scored({ horizon: 2 });
    expect(tokens).toBe(Number(rows[0].num_input_tokens) + 3); // 3 documents, to the second target's predecessor
    expect((await scored({ baseline: 'none' })).tokens).toBeUndefined();
    const weighed = await scored({ baseline: 'none', importanceSampling: 'behavior' });
    // The trees of the loss: the last token of each thought is predicted, not read.
    expect(weighed.tokens).toBe(Number(weighed.rows[0].num_tokens) - weighed.thoughts.length);
  });

  it('ema_distance grows from the start', async () => {
    const { rows } = await runs.train({ baseline: 'frozen' });
    const distances = figure(rows, 'ema_distance');
    expect(distances[0]).toBeGreaterThan(0);
    expect(distances[2]).toBeGreaterThan(distances[0]);
  });
});
