import { describe, expect, test } from 'vitest';
import { BranchRow, type StepResult, type ThoughtRules } from '../../src/rollout/branch-row.ts';

const RULES = { open: 1, close: 2, endOfText: [3, 4], maxThoughtTokens: 3 };
const TARGETS = [10, 11, 12];

/** Answers a row with sampled tokens; the n-th answer has log-probs -n, -n / 10 and, for the target, -n / 100. */
function drive(row: BranchRow, sampled: readonly number[]): { fed: number[]; targets: number[]; uniforms: number[] } {
  const [fed, targets, uniforms]: number[][] = [[], [], []];
  for (let n = 1; ; n++) {
    fed.push(row.token);
    targets.push(row.target);
    uniforms.push(row.uniform);
    expect(row.written).toBe(n - 1);
    const result: StepResult = {
      sampledId: sampled[n - 1] ?? 99,
      sampledLogProb: -n,
      samplingLogProb: -n / 10,
      targetLogProb: -n / 100,
    };
    if (row.advance(result)) return { fed, targets, uniforms };
  }
}

const rowWith = (rules: Partial<ThoughtRules> = {}, targets = TARGETS) =>
  new BranchRow(
    { document: 'd', position: 5, rollout: 0, targets },
    { ...RULES, ...rules },
    (index) => (index + 1) / 10,
  );

test('a thought that is closed goes straight on to its targets', () => {
  const row = rowWith();
  const { fed, targets, uniforms } = drive(row, [20, 2]);
  expect(fed).toEqual([1, 20, 2, 10, 11]);
  expect(targets).toEqual([0, 0, 10, 11, 12]);
  expect(uniforms).toEqual([0.1, 0.2, 0, 0, 0]);
  expect(row.thought).toEqual({
    document: 'd',
    position: 5,
    rollout: 0,
    tokens: [20, 2],
    logProbs: [-1, -2],
    samplingLogProbs: [-0.1, -0.2],
    finishReason: 'closed',
    targets: TARGETS,
    reasonedLogProbs: [-0.03, -0.04, -0.05],
  });
});

test('a thought as long as may be is closed by force', () => {
  const row = rowWith();
  const { fed, targets } = drive(row, [20, 21, 22]);
  expect(fed).toEqual([1, 20, 21, 22, 2, 10, 11]);
  expect(targets).toEqual([0, 0, 0, 0, 10, 11, 12]);
  expect(row.thought).toMatchObject({
    tokens: [20, 21, 22],
    finishReason: 'length',
    reasonedLogProbs: [-0.05, -0.06, -0.07],
  });
  expect(row.written).toBe(BranchRow.capacity(RULES, TARGETS.length));
});

test.each([3, 4])('a thought that ends with end-of-text %i keeps it, and is closed by force', (end) => {
  const row = rowWith();
  const { fed } = drive(row, [20, end]);
  expect(fed).toEqual([1, 20, end, 2, 10, 11]);
  expect(row.thought).toMatchObject({ tokens: [20, end], finishReason: 'eos' });
});

test('closing at the last token that is allowed is closing', () => {
  const row = rowWith();
  drive(row, [20, 21, 2]);
  expect(row.thought).toMatchObject({ tokens: [20, 21, 2], finishReason: 'closed' });
});

test('a thought may be nothing but its closing delimiter', () => {
  const row = rowWith({}, [10]);
  const { fed, targets } = drive(row, [2]);
  expect(fed).toEqual([1, 2]);
  expect(targets).toEqual([0, 10]);
  expect(row.thought).toMatchObject({ tokens: [2], finishReason: 'closed', reasonedLogProbs: [-0.02] });
});

test('the closing delimiter counts as such even where it is an end of text', () => {
  const row = rowWith({ endOfText: [2] }, [10]);
  drive(row, [2]);
  expect(row.thought.finishReason).toBe('closed');
});

test('target tokens are not sampled: delimiters among them change nothing', () => {
  const row = rowWith({}, [2, 3, 1]);
  const { fed } = drive(row, [20, 2]);
  expect(fed).toEqual([1, 20, 2, 2, 3]);
  expect(row.thought.reasonedLogProbs.length).toBe(3);
});

describe('delimiters of several tokens', () => {
  const rules = { open: [1, 5], close: [7, 8], maxThoughtTokens: 4 };

  test('the opening is fed as it is, and nothing is sampled before its last token', () => {
    const row = rowWith(rules);
    // Answers to the tokens fed: the first is to token 1 of the opening, and is not asked for.
    const { fed, targets, uniforms } = drive(row, [2, 20, 7, 8]);
    expect(fed).toEqual([1, 5, 20, 7, 8, 10, 11]);
    expect(targets).toEqual([0, 0, 0, 0, 10, 11, 12]);
    expect(uniforms).toEqual([0, 0.1, 0.2, 0.3, 0, 0, 0]);
    expect(row.thought).toMatchObject({
      tokens: [20, 7, 8],
      logProbs: [-2, -3, -4],
      finishReason: 'closed',
      reasonedLogProbs: [-0.05, -0.06, -0.07],
    });
  });

  test('part of the closing is no closing; forced, it comes as a whole', () => {
    const row = rowWith(rules);
    const { fed, targets } = drive(row, [2, 7, 20, 8, 7]);
    expect(fed).toEqual([1, 5, 7, 20, 8, 7, 7, 8, 10, 11]);
    expect(targets).toEqual([0, 0, 0, 0, 0, 0, 0, 10, 11, 12]);
    expect(row.thought).toMatchObject({ tokens: [7, 20, 8, 7], finishReason: 'length' });
    expect(row.written).toBe(BranchRow.capacity(rules, TARGETS.length));
  });

  test('an end of text within the closing is not lost on it', () => {
    const row = rowWith({ ...rules, close: [3, 8] });
    drive(row, [2, 20, 3]);
    expect(row.thought).toMatchObject({ tokens: [20, 3], finishReason: 'eos' });
  });
});

describe('a completion', () => {
  const completion = { thought: true, maxTokens: 3 };
  const rowOf = (rules: Partial<ThoughtRules>, before = 50) =>
    new BranchRow(
      { document: 'd', position: 5, rollout: 0, targets: [] },
      { ...RULES, completion, ...rules },
      (index) => (index + 1) / 10,
      before,
    );

  test('goes on behind the closing delimiter, and its noise goes on, too', () => {
    const row = rowOf({});
    const { fed, uniforms } = drive(row, [20, 2, 30, 31, 32]);
    expect(fed).toEqual([1, 20, 2, 30, 31]); // the last token is not fed
    expect(uniforms).toEqual([0.1, 0.2, expect.closeTo(0.3), 0.4, 0.5]);
    expect(row.trunkLength).toBe(5);
    expect(row.thought).toEqual({
      ...{ document: 'd', position: 5, rollout: 0, targets: [], reasonedLogProbs: [] },
      ...{ tokens: [20, 2], logProbs: [-1, -2], samplingLogProbs: [-0.1, -0.2], finishReason: 'closed' },
      answer: {
        forced: [],
        tokens: [30, 31, 32],
        logProbs: [-3, -4, -5],
        samplingLogProbs: [-0.3, -0.4, -0.5],
        finishReason: 'length',
      },
    });
  });

  test('a thought as long as may be is closed by force: what is forced is no part of the answer', () => {
    const row = rowOf({ close: [7, 8] });
    // Answers to the tokens fed; those to 22 and 7 are not asked for.
    const { fed, uniforms } = drive(row, [20, 21, 22, 98, 97, 30, 31, 32]);
    expect(fed).toEqual([1, 20, 21, 22, 7, 8, 30, 31]);
    expect(uniforms).toEqual([0.1, 0.2, expect.closeTo(0.3), 0, 0, 0.4, 0.5, 0.6]);
    expect(row.thought).toMatchObject({
      tokens: [20, 21, 22],
      finishReason: 'length',
      answer: { forced: [7, 8], tokens: [30, 31, 32], logProbs: [-6, -7, -8], finishReason: 'length' },
    });
    expect(row.written).toBe(BranchRow.capacity({ ...RULES, close: [7, 8], completion }, 99));
  });

  test.each([3, 4])('ends with end-of-text %i, and keeps it', (end) => {
    const row = rowOf({});
    const { fed } = drive(row, [2, 30, end]);
    expect(fed).toEqual([1, 2, 30]);
    expect(row.thought.answer).toMatchObject({ tokens: [30, end], finishReason: 'eos' });
  });

  test('ends where the stop says so', () => {
    const stop = (tokens: readonly number[]) => tokens.at(-1) === 31;
    const row = rowOf({ completion: { ...completion, stop } });
    drive(row, [2, 30, 31]);
    expect(row.thought.answer).toMatchObject({ tokens: [30, 31], finishReason: 'stop' });
  });

  test('has no answer where the thought ends the text', () => {
    const row = rowOf({});
    const { fed } = drive(row, [20, 3]);
    expect(fed).toEqual([1, 20]);
    expect(row.thought).toMatchObject({
      tokens: [20, 3],
      finishReason: 'eos',
      answer: { forced: [], tokens: [], finishReason: 'eos' },
    });
  });

  test('without a thought begins with the token before the position', () => {
    const rules = { completion: { thought: false, maxTokens: 3 } };
    const row = rowOf(rules);
    const { fed, uniforms } = drive(row, [2, 31, 32]);
    expect(fed).toEqual([50, 2, 31]); // a closing delimiter means nothing here
    expect(uniforms).toEqual([0.1, 0.2, expect.closeTo(0.3)]);
    expect(row.trunkLength).toBe(4);
    expect(row.thought).toMatchObject({ tokens: [], answer: { forced: [], tokens: [2, 31, 32] } });
    expect(row.written).toBe(BranchRow.capacity({ ...RULES, ...rules }, 99));
  });
});
