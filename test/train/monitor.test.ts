import { describe, expect, it } from 'vitest';
import type { MetricsRow } from '../../src/run-folder.ts';
import { TrainingMonitor, type WatchedRun, WINDOW } from '../../src/train/monitor.ts';

/** A healthy step, changed where said. */
const row = (step: number, more: Partial<MetricsRow> = {}): MetricsRow => ({
  step,
  ...{ 'completions/mean_length': 40, entropy: 2, reward_std: 0.5, frac_reward_zero_std: 0.1 },
  ...more,
});

/** Messages by step, and the active warnings after the last. */
function watch(rows: readonly MetricsRow[], run: Partial<WatchedRun> = {}) {
  const monitor = new TrainingMonitor({ objective: 'rlp', maxThoughtTokens: 64, ...run });
  const told = rows.flatMap((each) =>
    monitor.observe(each).map(({ name, message }) => ({ step: each.step, name, message })),
  );
  return { told, active: monitor.active };
}
const steps = (count: number, at: (step: number) => Partial<MetricsRow> = () => ({})) =>
  Array.from({ length: count }, (_, i) => row(i + 1, at(i + 1)));

/** Falls from `from` to `to` in a straight line over `count` steps, and stays. */
const falling = (from: number, to: number, count: number) => (step: number) =>
  from + (to - from) * Math.min(1, (step - 1) / (count - 1));

describe('collapse', () => {
  it.each([
    ['thought_length_collapse', 'completions/mean_length', 40, 0.25],
    ['entropy_collapse', 'entropy', 2, 0.1],
    ['reward_variance_collapse', 'reward_std', 0.5, 0.1],
  ] as const)(
    '%s: at the first step whose window is below its share of the start, once',
    (name, figure, start, share) => {
      // After the first window the figure is 0: the window mean falls by a tenth of the start a step.
      const series = steps(30, (step) => ({ [figure]: step <= WINDOW ? start : 0 }));
      const { told, active } = watch(series);
      expect(told.map((each) => each.name)).toEqual([name]);
      // The window of step WINDOW + n has WINDOW - n values of the start: below the share from this n on.
      const n = Math.floor(WINDOW * (1 - share)) + 1;
      expect(told[0].step).toBe(WINDOW + n);
      expect(told[0].message).toMatch(new RegExp(`^${name} at step ${WINDOW + n}: .*; .*--`));
      expect(active).toEqual([name]);
    },
  );

  it('says what was seen', () => {
    const { told } = watch(steps(40, (step) => ({ entropy: falling(2, 0.1, 20)(step) })));
    expect(told[0].message).toMatch(
      /^entropy_collapse at step \d+: sampled tokens are nearly certain: entropy was 1\.55 over the first 10 steps and is 0\.1\d* over the last; there is little/,
    );
  });

  it.each([
    ['as they were', () => ({})],
    [
      'half of the start',
      (step: number) => ({ 'completions/mean_length': falling(40, 20, 60)(step), entropy: falling(2, 1, 60)(step) }),
    ],
    ['noise', (step: number) => ({ entropy: step % 2 === 0 ? 0.05 : 4, reward_std: step % 5 === 0 ? 0 : 0.5 })],
    [
      'one bad step',
      (step: number) => ({
        'completions/mean_length': step === 30 ? 1 : 40,
        frac_reward_zero_std: step === 30 ? 1 : 0,
      }),
    ],
    ['growth', (step: number) => ({ 'completions/mean_length': 40 * step, entropy: 2 * step })],
    [
      'figures that are missing or no numbers',
      (step: number) => ({ entropy: step > 20 ? null : 2, reward_std: step > 20 ? null : 0.5 }),
    ],
  ])('is not told of %s', (_name, at) => {
    expect(watch(steps(60, at))).toEqual({ told: [], active: [] });
  });

  it('reward_variance_collapse: also where more than nine tenths of the groups have no spread', () => {
    const at = (share: number) => watch(steps(12, () => ({ frac_reward_zero_std: share })));
    expect(at(0.89).told).toEqual([]);
    expect(at(0.95).told.map(({ name, step }) => [name, step])).toEqual([['reward_variance_collapse', WINDOW]]);
    expect(at(0.95).told[0].message).toContain('95% of the groups have no spread');
  });

  describe('from the start', () => {
    const named = (at: Partial<MetricsRow>, run: Partial<WatchedRun> = {}) =>
      watch(
        steps(12, () => at),
        run,
      ).told.map(({ name, step }) => [name, step]);

    it.each([
      ['thought_length_collapse', 'completions/mean_length', 1.9, 2.1],
      ['entropy_collapse', 'entropy', 0.009, 0.011],
      ['reward_variance_collapse', 'reward_std', 0.0009, 0.0011],
    ] as const)('%s: once a window is full', (name, figure, below, above) => {
      expect(named({ [figure]: below })).toEqual([[name, WINDOW]]);
      expect(named({ [figure]: above })).toEqual([]);
    });

    it('says what is seen', () => {
      const { told } = watch(steps(10, () => ({ 'completions/mean_length': 1 })));
      expect(told[0].message).toMatch(
        /^thought_length_collapse at step 10: thoughts are short: completions\/mean_length is 1 over the last 10 steps; the/,
      );
    });

    it('not of thoughts that are short because they must be, nor of rewards in another unit', () => {
      expect(named({ 'completions/mean_length': 1 }, { maxThoughtTokens: 4 })).toEqual([]);
      expect(named({ reward_std: 0.0001 }, { reward: 'mine.mjs' })).toEqual([]);
      expect(named({ reward_std: 0.0001 }, { objective: 'grpo' })).toEqual([]);
      expect(named({ reward_std: 0, frac_reward_zero_std: 1 }, { reward: 'mine.mjs' })).toHaveLength(1);
    });
  });

  it.each(['rpt', 'grpo'] as const)('%s: the length is that of thoughts, not of whole completions', (objective) => {
    const at = (step: number) => ({ 'thoughts/mean_length': step <= WINDOW ? 30 : 3, 'completions/mean_length': 200 });
    expect(watch(steps(30, at), { objective }).active).toEqual(['thought_length_collapse']);
    // Without thoughts there is no such figure.
    expect(
      watch(
        steps(30, (step) => ({ 'completions/mean_length': 400 / step ** 2 })),
        { objective },
      ).told,
    ).toEqual([]);
  });

  it.each(['cpt', 'sft'] as const)('%s has no thoughts that could collapse', (objective) => {
    const fit = steps(30, (step) => ({ entropy: 3 / step ** 3, reward_std: 0 }));
    expect(watch(fit, { objective })).toEqual({ told: [], active: [] });
  });

  it('ends when the figure recovers, and is not told a second time', () => {
    const series = steps(60, (step) => ({ entropy: (step > 12 && step < 30) || step > 45 ? 0.02 : 2 }));
    const { told, active } = watch(series.slice(0, 45));
    expect([told.length, active]).toEqual([1, []]);
    expect(watch(series)).toMatchObject({ told: [{ name: 'entropy_collapse' }], active: ['entropy_collapse'] });
  });
});

describe('predictor_drift', () => {
  const evaluations = (...values: number[]): MetricsRow[] =>
    values.map((value, i) => ({ step: 50 * i, 'eval/no_think_cross_entropy': value }));

  it('when held-out text is predicted more than 0.1 nats worse than at the start', () => {
    const { told, active } = watch(evaluations(2, 2.05, 1.9, 2.09, 2.2, 2.3));
    expect(told.map(({ step, name }) => [step, name])).toEqual([[200, 'predictor_drift']]);
    expect(told[0].message).toContain('2.2 against 2 nats a token');
    expect(active).toEqual(['predictor_drift']);
  });

  it('not when it falls, or there is no evaluation', () => {
    expect(watch(evaluations(2, 1.5, 1.2)).told).toEqual([]);
    expect(watch(evaluations(2)).told).toEqual([]);
  });
});
