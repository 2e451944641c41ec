import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { evalSchema } from '../../src/config.ts';
import { RunError } from '../../src/errors.ts';
import type { SampleRow } from '../../src/eval/index.ts';
import { runEval } from '../../src/eval-run.ts';
import type { RunHooks } from '../../src/progress.ts';
import { refused } from '../bad-input/refused.ts';
import { runCli } from '../cli/run-cli.ts';
import { temporaryFolder } from '../export/checkpoint-fixture.ts';

let folder: ReturnType<typeof temporaryFolder>;
const sums = ['783073=', '931000=', '522578=', '104030='];
const sumOf = (prompt: string) => [...prompt.slice(0, -1)].reduce((sum, digit) => sum + Number(digit), 0) % 10;
const write = (name: string, rows: readonly object[]) => {
  const file = folder.in(name);
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return file;
};

beforeEach(() => {
  folder = temporaryFolder();
});
afterEach(() => folder[Symbol.dispose]());

const evaluate = (data: string, more: readonly string[] = []) => [
  ...['eval', '--model', 'models/tiny-qwen3', '--task', 'custom', '--data', data, '--out', folder.in('out')],
  ...['--max-completion-tokens', '1', '--threads', '1', ...more],
];
const THINKING = ['--think', '--max-thought-tokens', '10'];

function readOutput(): { results: Record<string, never>; samples: SampleRow[] } {
  const files = readdirSync(folder.in('out'));
  const read = (start: string) => {
    const name = files.find((file) => file.startsWith(start));
    return readFileSync(join(folder.in('out'), name ?? ''), 'utf8');
  };
  const lines = read('samples_').trimEnd().split('\n');
  return { results: JSON.parse(read('results_')), samples: lines.map((line) => JSON.parse(line)) };
}

describe('an evaluation', () => {
  test('behind thoughts the tiny model knows its sums, greedy', async () => {
    const data = write(
      'sums.jsonl',
      sums.map((prompt) => ({ prompt, answer: sumOf(prompt) })),
    );
    const { code, out } = await runCli(evaluate(data, [...THINKING, '--json']));
    expect(code).toBe(0);
    const summary = JSON.parse(out);
    expect(summary).toMatchObject({ task: 'custom', questions: 4, samples: 1 });
    expect(summary.metrics).toEqual({
      ...{ 'exact_match,extracted': 1, 'exact_match_stderr,extracted': 0 },
      ...{ 'exact_match,equivalent': 1, 'exact_match_stderr,equivalent': 0 },
    });
    const { results, samples } = readOutput();
    expect(results).toMatchObject({
      results: { custom: { alias: 'custom', ...summary.metrics } },
      'n-samples': { custom: { original: 4, effective: 4 } },
      'n-shot': { custom: 0 },
      higher_is_better: { custom: { exact_match: true } },
    });
    // A line a question and filter.
    const twice = sums.flatMap((prompt) => [prompt, prompt]);
    expect(samples.map(({ resps }) => resps)).toEqual(twice.map((prompt) => [[String(sumOf(prompt))]]));
    expect(samples.map(({ filter }) => filter)).toEqual(sums.flatMap(() => ['extracted', 'equivalent']));
    for (const { thoughts } of samples) expect(thoughts).toEqual([expect.stringMatching(/^.*<\/think>$/s)]);
    expect(samples[0]).toMatchObject({ doc_id: 0, target: '8', filter: 'extracted', exact_match: 1 });
  }, 30_000);

  test('sampled answers depend on the seed, and not on the batch', async () => {
    const data = write(
      'sums.jsonl',
      sums.map((prompt) => ({ prompt, answer: sumOf(prompt) })),
    );
    const responses = async (...more: string[]) => {
      const flags = ['--samples', '4', '--temperature', '1', '--overwrite', ...THINKING, ...more];
      expect((await runCli(evaluate(data, flags))).code).toBe(0);
      return readOutput().samples.map(({ resps }) => resps);
    };
    const first = await responses();
    expect(await responses('--documents-per-batch', '1')).toEqual(first);
    expect(await responses('--seed', '1')).not.toEqual(first);
  }, 30_000);

  test('choices are compared, and examples shown', async () => {
    const rows = [0, 1, 2].map((i) => ({ question: `${i}?`, choices: ['1', '2'], answer: i % 2, subject: 'x' }));
    const data = write('questions.jsonl', rows);
    const shots = write('shots.jsonl', rows.slice(0, 1));
    const { code } = await runCli([
      ...['eval', '--model', 'models/tiny-qwen3', '--task', 'mmlu', '--data', data, '--out', folder.in('out')],
      ...['--shots', '1', '--shots-data', shots, '--threads', '1'],
    ]);
    expect(code).toBe(0);
    const { samples } = readOutput();
    for (const [i, { resps, filtered_resps, acc, target, arguments: args }] of samples.entries()) {
      const logProbs = (resps as number[][]).map(([value]) => value);
      expect(filtered_resps).toEqual([logProbs.indexOf(Math.max(...logProbs))]);
      expect(acc).toBe(Number(filtered_resps[0] === i % 2));
      expect(target).toBe(i % 2);
      expect(args.gen_args_1.arg_1).toBe(' B');
      expect(args.gen_args_0.arg_0).toContain('0?\nA. 1\nB. 2\nAnswer: A\n\n');
    }
  }, 30_000);
});

test('gpqa from a .csv, arc from a .json, as they are published', async () => {
  const columns = ['Question', 'Correct Answer', 'Incorrect Answer 1', 'Incorrect Answer 2', 'Incorrect Answer 3'];
  const csv = folder.in('gpqa.csv');
  writeFileSync(csv, `Id,${columns.join(',')}\n7,"Which, of\nthese?","12, 13",2,3,4\n8,Why?,1,2,3,4\n`);
  const json = folder.in('arc.json');
  const choices = { text: ['123', '4'], label: ['A', 'B'] };
  writeFileSync(json, JSON.stringify([{ id: 'x', question: '654321=', choices, answerKey: 'B' }]));
  for (const [task, data] of [
    ['gpqa', csv],
    ['arc-easy', json],
  ]) {
    const args = ['eval', '--model', 'models/tiny-qwen3', '--task', task, '--data', data, '--out', folder.in(task)];
    const { code, out, err } = await runCli([...args, '--threads', '1', '--json']);
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(Object.keys(JSON.parse(out).metrics)).toEqual(expect.arrayContaining(['acc,none', 'acc_norm,none']));
  }
  const [file] = readdirSync(folder.in('gpqa')).filter((name) => name.startsWith('samples_'));
  const [first] = readFileSync(join(folder.in('gpqa'), file), 'utf8').split('\n');
  const { doc, arguments: args } = JSON.parse(first) as SampleRow;
  expect(doc).toMatchObject({ Question: 'Which, of\nthese?', 'Correct Answer': '12, 13' });
  expect(args.gen_args_0.arg_0).toMatch(
    /^What is the correct answer to this question:Which, of\nthese\?\nChoices:\n\(A\) /,
  );
}, 30_000);

test('a table for people; bad rows that are left out are told; a part of the questions', async () => {
  const data = write('sums.jsonl', [{ prompt: '' }, ...sums.map((prompt) => ({ prompt, answer: sumOf(prompt) }))]);
  const flags = ['--samples', '2', '--temperature', '1', '--limit', '3', '--on-bad-rows', 'skip', ...THINKING];
  const { code, out, err } = await runCli(evaluate(data, flags));
  expect(code).toBe(0);
  expect(err).toContain('warning: 1 row is bad and left out: ');
  expect(out).toMatch(/^questions +3\nbad rows count +1\n/m);
  const figures = String.raw`\d\.\d{4} +\d\.\d{4}`;
  expect(out).toMatch(/\nfilter {6}metric {8}value {2}stderr {2}run std\n/);
  expect(out).toMatch(new RegExp(`^extracted   exact_match  ${figures} +${figures.slice(0, 9)}`, 'm'));
  expect(out).toMatch(new RegExp(`^extracted   pass@2 +${figures} *$`, 'm'));
  const { results } = readOutput();
  expect(results).toMatchObject({
    'n-samples': { custom: { original: 4, effective: 3 } },
    config: { model: 'rlp-ort' },
  });
}, 30_000);

describe('an evaluation that is interrupted', () => {
  const rows = [...sums, '111111=', '222222='].map((prompt) => ({ prompt, answer: sumOf(prompt) }));
  const settings = (more: object = {}) => ({
    ...{ model: 'models/tiny-qwen3', task: 'custom', data: [write('sums.jsonl', rows)], out: folder.in('out') },
    ...{ think: true, maxThoughtTokens: 10, maxCompletionTokens: 1, threads: 1, samples: 2, temperature: 1 },
    ...{ documentsPerBatch: 2, ...more },
  });
  const run = (more: object = {}, hooks: RunHooks = {}) => runEval(evalSchema.parse(settings(more)), hooks);
  const partial = () => folder.in('out.partial.jsonl');
  /** Interrupts once `count` questions are answered. */
  async function interruptAt(count: number, more: object = {}): Promise<unknown> {
    const abort = new AbortController();
    const onProgress = ({ done }: { done: number }) => void (done >= count && abort.abort());
    return await run(more, { signal: abort.signal, onProgress }).catch((thrown: unknown) => thrown);
  }

  test('goes on where it was, and ends as if nothing had happened', async () => {
    const whole = await run();
    const { samples } = readOutput();
    rmSync(folder.in('out'), { recursive: true });

    expect(await interruptAt(2)).toEqual(
      new RunError(`interrupted; 2 of 6 questions are kept in ${partial()}; to go on: the same command with --resume`),
    );
    expect(readdirSync(folder.path).sort()).toEqual(['out.partial.jsonl', 'sums.jsonl']);
    await expect(run()).rejects.toThrow(
      `${partial()}: an unfinished evaluation is there; --resume to go on with it, or remove the file`,
    );
    expect(await interruptAt(4, { resume: true, documentsPerBatch: 3 })).toBeInstanceOf(RunError);
    // As a kill leaves it, in the middle of a line.
    const lines = readFileSync(partial(), 'utf8');
    expect(lines.trimEnd().split('\n')).toHaveLength(1 + 4);
    writeFileSync(partial(), lines.slice(0, -3));

    const resumed = await run({ resume: true });
    expect(resumed.metrics).toEqual(whole.metrics);
    expect(readOutput().samples).toEqual(samples);
    expect(readdirSync(folder.path).sort()).toEqual(['out', 'sums.jsonl']);
  }, 30_000);

  test('choices behind thoughts, too', async () => {
    const questions = [0, 1, 2, 3, 4].map((i) => ({ question: `${i}1111${i}=`, choices: ['1', '2'], answer: i % 2 }));
    const data = [write('questions.jsonl', questions)];
    const mmlu = { task: 'mmlu', data, maxThoughtTokens: 3, maxCompletionTokens: undefined };
    const whole = await run(mmlu);
    const { samples } = readOutput();
    rmSync(folder.in('out'), { recursive: true });
    // Also where a thought is cut off and closed by force.
    for (const { thoughts } of samples) {
      expect(thoughts).toHaveLength(2);
      for (const text of thoughts ?? []) expect(text).toMatch(/^(?:(?!<\/think>).)*<\/think>$/s);
    }
    expect(String(await interruptAt(1, mmlu))).toMatch(/interrupted; 2 of 5 questions are kept/);
    const resumed = await run({ ...mmlu, resume: true });
    expect(resumed.metrics).toEqual(whole.metrics);
    // Other batches are padded otherwise: the last bits may differ.
    for (const [i, { resps }] of readOutput().samples.entries()) {
      const flat = (value: unknown[]) => value.flat(2) as number[];
      const expected = flat(samples[i].resps);
      for (const [j, value] of flat(resps).entries()) expect(value).toBeCloseTo(expected[j], 4);
    }
  }, 30_000);

  test('before its first answer leaves nothing', async () => {
    expect(await interruptAt(0)).toEqual(new RunError('interrupted; to go on: the same command with --resume'));
    expect(readdirSync(folder.path)).toEqual(['sums.jsonl']);
  });

  test('does not go on with other settings, questions or weights, nor with another file', async () => {
    await interruptAt(2);
    await expect(run({ resume: true, seed: 3 })).rejects.toThrow(
      `${partial()}: cannot go on with another evaluation: settings.seed is 0 in the file and 3 now; resume with the same settings`,
    );
    const others = write('others.jsonl', [...rows].reverse());
    await expect(run({ resume: true, data: [others] })).rejects.toThrow(
      /another evaluation: promptsHash is "\w{64}" in the file and "\w{64}" now/,
    );
    writeFileSync(partial(), `${readFileSync(partial(), 'utf8')}3\n`);
    await expect(run({ resume: true })).rejects.toThrow(
      `${partial()}:4: not a file of answers that an evaluation left; remove it and start over`,
    );
    writeFileSync(partial(), 'something\n');
    await expect(run({ resume: true })).rejects.toThrow(
      `${partial()}:1: not a file of answers that an evaluation left; remove it and start over`,
    );
    expect(readFileSync(partial(), 'utf8')).toBe('something\n');
  }, 30_000);
});

describe('is refused', () => {
  test.each<[what: string, rows: object[], more: string[], message: RegExp]>([
    ['a row without an answer', [{ prompt: 'x' }], [], /:1: expected a column "answer" .* found "prompt"/],
    [
      'a question that is too long',
      [{ prompt: 'x'.repeat(5000), answer: 1 }],
      [],
      /:1: the question has 5000 tokens, .*leave 409\d/,
    ],
    [
      'samples that are all the same',
      [{ prompt: 'x', answer: 1 }],
      ['--samples', '2'],
      /--samples 2: needs --temperature above 0/,
    ],
    ['examples from nowhere', [{ prompt: 'x', answer: 1 }], ['--shots', '2'], /--shots 2: needs --shots-data/],
    [
      'a chat template that is not there',
      [{ prompt: 'x', answer: 1 }],
      ['--chat-template', 'model'],
      /--chat-template model: .* has none/,
    ],
    [
      'a task that is not known',
      [{ prompt: 'x', answer: 1 }],
      ['--task', 'gsm9k'],
      /^--task gsm9k: must be one of gsm8k, .*custom; did you mean gsm8k\?$/,
    ],
    ['a file without rows', [], [], /data\.jsonl: the file holds no rows; expected a JSON object a line$/],
    [
      'gsm8k without a golden answer',
      [{ question: 'q', answer: 'four' }],
      ['--task', 'gsm8k'],
      /:1: the answer has no "#### NUMBER" at its end, and is no number itself\. .*--on-bad-rows skip$/,
    ],
    [
      'choices that are not there',
      [{ question: 'q', answer: 1 }],
      ['--task', 'mmlu-pro'],
      /:1: expected a column "choices" or "options" with a value, found "question", "answer"/,
    ],
    ['no model', [{ prompt: 'x', answer: 1 }], ['--model', 'nowhere'], /nowhere/],
    ['a GPU that is not there', [{ prompt: 'x', answer: 1 }], ['--device', 'cuda'], /cannot use device cuda:0/],
  ])('%s', async (_what, rows, more, message) => {
    const data = write('data.jsonl', rows);
    const args = evaluate(data, more);
    // A flag given twice is another error.
    const once = ['--task', '--model'].includes(more[0]) ? args.toSpliced(args.indexOf(more[0]), 2) : args;
    expect(await refused(folder, once)).toMatch(message);
  });

  test('output that is there already', async () => {
    const data = write('sums.jsonl', [{ prompt: sums[0], answer: sumOf(sums[0]) }]);
    expect((await runCli(evaluate(data))).code).toBe(0);
    expect(await refused(folder, evaluate(data))).toMatch(/exists already; pass --overwrite to replace it/);
  });

  test('too few examples of a subject', async () => {
    const row = (subject: string) => ({ question: 'q', choices: ['1', '2'], answer: 0, subject });
    const [data, shots] = [write('q.jsonl', [row('law')]), write('s.jsonl', [row('art'), row('law')])];
    const args = ['eval', '--model', 'models/tiny-qwen3', '--task', 'mmlu', '--data', data, '--out', folder.in('out')];
    expect(await refused(folder, [...args, '--shots', '2', '--shots-data', shots])).toMatch(
      /--shots 2: --shots-data has 1 examples about "law", for .*q\.jsonl:1/,
    );
  });
});
