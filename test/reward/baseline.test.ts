import { expect, test } from 'vitest';
import { Baseline, type BaselineOptions, type NoThinkScorer } from '../../src/reward/baseline.ts';

/** A "model" of one weight: log p = -weight for every token. The EMA is what the optimizer graph computes. */
class FakeModel implements NoThinkScorer {
  theta = 4;
  phi = Number.NaN;
  copies = 0;
  async copyFromPolicy() {
    this.phi = this.theta;
    this.copies++;
  }
  async score(requests: Parameters<NoThinkScorer['score']>[0], horizon: number) {
    return requests.map(({ positions }) => positions.map(() => new Float32Array(horizon).fill(-this.phi)));
  }
  update(theta: number, emaDecay: number) {
    this.theta = theta;
    this.phi = emaDecay * this.phi + (1 - emaDecay) * theta;
  }
}

const requests = [{ document: 'a', tokens: [1, 2, 3], positions: [1, 2] }];

/** Runs three updates; the log-probs before each, and the versions. */
async function life(options: BaselineOptions) {
  const model = new FakeModel();
  const baseline = new Baseline(options, model);
  const seen: (number | undefined)[] = [];
  const versions: number[] = [];
  for (const theta of [8, 16, 32]) {
    seen.push((await baseline.score(requests, 1))?.[0][1][0]);
    versions.push(baseline.version);
    model.update(theta, baseline.emaDecay);
    baseline.afterUpdate(true);
  }
  return { model, seen, versions };
}

test('ema starts as theta at the first batch and follows with lag tau', async () => {
  const { seen, versions, model } = await life({ kind: 'ema', tau: 0.5 });
  expect(seen).toEqual([-4, -6, -11]);
  expect(versions).toEqual([0, 1, 2]);
  expect(model.copies).toBe(1);
});

test('tau = 0 is the policy itself', async () => {
  expect((await life({ kind: 'ema', tau: 0 })).seen).toEqual([-4, -8, -16]);
});

test('frozen stays what theta was at the first batch', async () => {
  const { seen, versions } = await life({ kind: 'frozen' });
  expect(seen).toEqual([-4, -4, -4]);
  expect(versions).toEqual([0, 0, 0]);
});

test('none scores nothing and needs no scorer', async () => {
  const { seen, versions, model } = await life({ kind: 'none' });
  expect(seen).toEqual([undefined, undefined, undefined]);
  expect(versions).toEqual([-1, -1, -1]);
  expect(model.copies).toBe(0);
  expect(new Baseline({ kind: 'none' }).version).toBe(-1);
});

test('a skipped optimizer step is no version', async () => {
  const baseline = new Baseline({ kind: 'ema', tau: 0.9 }, new FakeModel());
  await baseline.start();
  baseline.afterUpdate(false);
  expect(baseline.version).toBe(0);
});

test('a resumed baseline does not start again', async () => {
  const model = new FakeModel();
  const before = new Baseline({ kind: 'ema', tau: 0.5 }, model);
  await before.start();
  model.update(8, before.emaDecay);
  before.afterUpdate(true);
  const after = new Baseline(before.options, model, JSON.parse(JSON.stringify(before.state)));
  expect((await after.score(requests, 2))?.[0][0]).toEqual(Float32Array.of(-6, -6));
  expect(after.version).toBe(1);
  expect(model.copies).toBe(1);
});

test('errors', async () => {
  for (const tau of [1, -0.1, Number.NaN]) {
    expect(() => new Baseline({ kind: 'ema', tau }, new FakeModel())).toThrow(
      `baseline tau ${tau}: expected 0 <= tau < 1`,
    );
  }
  expect(() => new Baseline({ kind: 'frozen' })).toThrow("internal: baseline 'frozen' without a scorer");
  expect(() => new Baseline({ kind: 'frozen' }, new FakeModel()).afterUpdate(true)).toThrow('internal: the policy was');
  const model = new FakeModel();
  model.theta = Number.POSITIVE_INFINITY;
  await expect(new Baseline({ kind: 'frozen' }, model).score(requests, 1)).rejects.toThrow(
    'document a, position 1: baseline log-prob 0 is -Infinity, expected a finite number',
  );
});

test('scores that are known are taken, checked, and not asked for again', async () => {
  const asked: string[] = [];
  class Asked extends FakeModel {
    override async score(unknown: typeof requests, horizon: number) {
      asked.push(...unknown.map(({ document }) => document));
      return await super.score(unknown, horizon);
    }
  }
  const baseline = new Baseline({ kind: 'frozen' }, new Asked());
  const [first] = requests;
  const known = [Float32Array.of(-1), Float32Array.of(-2)];
  const mixed = [first, { ...first, document: 'b', known }, { ...first, document: 'c' }];
  const four = [Float32Array.of(-4), Float32Array.of(-4)];
  expect(await baseline.score(mixed, 1)).toEqual([four, known, four]);
  expect(asked).toEqual(['a', 'c']);

  const lost = [{ ...first, known: [Float32Array.of(-1), Float32Array.of(Number.NaN)] }];
  await expect(baseline.score(lost, 1)).rejects.toThrow('document a, position 2');
  const short = [{ ...first, known: [Float32Array.of(-1)] }];
  await expect(baseline.score(short, 1)).rejects.toThrow('no log-probs, expected 1');
  expect(asked).toEqual(['a', 'c']);
});
