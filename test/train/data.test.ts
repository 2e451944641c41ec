import { spawnSync } from 'node:child_process';
import { cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readRollouts } from '../../src/arrow.ts';
import { type TrainConfig, trainSchema } from '../../src/config.ts';
import { RunError } from '../../src/errors.ts';
import { isEvaluation, readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { contentOf, type Workplace, workplace } from '../bad-input/refused.ts';
import { runCli } from '../cli/run-cli.ts';
import { goldenPath } from '../golden/golden.ts';

let folder: Workplace;
const row = (i: number) => `${JSON.stringify({ id: i, text: `${i ** 7} is a number` })}\n`;
beforeAll(async () => {
  folder = await workplace();
  for (const [name, from, count] of [
    ['a', 10, 5],
    ['b', 40, 3],
  ] as const) {
    writeFileSync(folder.in(`${name}.jsonl`), Array.from({ length: count }, (_, i) => row(from + i)).join(''));
  }
  writeFileSync(folder.in('held.jsonl'), `${row(5)}{"text":3}\n`);
  writeFileSync(folder.in('bad.jsonl'), `${row(1)}{"text":\n${row(2)}{"content":"x"}\n${row(3)}`);
});
afterAll(() => folder[Symbol.dispose]());
afterEach(() => {
  for (const name of ['run', 'whole']) rmSync(folder.in(name), { recursive: true, force: true });
});

const run = () => folder.in('run');
const jsonLines = (path: string): Record<string, unknown>[] =>
  readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line));

function configOf(more: Partial<TrainConfig>): TrainConfig {
  return trainSchema.parse({
    ...{ model: folder.in('model'), data: [folder.in('a.jsonl'), folder.in('b.jsonl')], run: run() },
    ...{ steps: 4, checkpointEvery: 1, learningRate: 1e-2, threads: 1 },
    ...(more.objective === 'rlp'
      ? { emaDecay: 0.9, documentsPerStep: 3, groupSize: 2, maxThoughtTokens: 3, temperature: 1 }
      : { blockLength: 16, batchTokens: 64 }),
    ...more,
  });
}

describe.each(['rlp', 'cpt'] as const)('%s', (objective) => {
  it.each([{ shuffleBuffer: 4 }, { shuffleBuffer: 2, dataWeights: [1, 2] }])(
    'resumed in the middle of blocks and epochs is the uninterrupted run (%o)',
    async (more) => {
      const config = configOf({ objective, ...more });
      await train(config);
      renameSync(run(), folder.in('whole'));
      const epochs = (await readMetrics(folder.in('whole'))).map((figures) => figures.epoch ?? figures['epoch/2']);
      expect(Number(epochs.at(-1))).toBeGreaterThan(1);
      for (const step of [1, 3]) {
        const abort = new AbortController();
        const hooks = {
          signal: abort.signal,
          onProgress: ({ done }: { done: number }) => void (done >= step && abort.abort()),
        };
        await expect(train({ ...config, resume: step > 1 }, hooks)).rejects.toThrow(RunError);
      }
      await train({ ...config, resume: true });
      const last = join('checkpoints', 'step-000004');
      expect(contentOf(join(run(), last))).toEqual(contentOf(folder.in('whole', last)));
      expect(contentOf(join(run(), 'rollouts'))).toEqual(contentOf(folder.in('whole', 'rollouts')));
    },
  );

  it('leaves bad rows out when it is asked to, and says so', async () => {
    const notices: string[] = [];
    const config = configOf({
      objective,
      data: [folder.in('bad.jsonl')],
      evalData: [folder.in('held.jsonl')],
      onBadRows: 'skip',
      steps: 1,
      ...(objective === 'cpt' && { batchTokens: 32 }),
    });
    const summary = await train(config, { onNotice: (message) => notices.push(message) });
    const first = [
      expect.stringMatching(/bad\.jsonl:2: not a JSON object on one line/),
      expect.stringMatching(/bad\.jsonl:4: expected a column "text", found the columns "content"/),
    ];
    expect(summary).toMatchObject({ documents: 3, badRows: { count: 2, first } });
    expect(notices.filter((notice) => notice.startsWith('warning:'))).toEqual([
      expect.stringMatching(
        /^warning: 3 rows are bad and left out \(listed in .*run.bad-rows\.jsonl\): .*bad\.jsonl:2: .*; .*bad\.jsonl:4: .*; .*held\.jsonl:2/,
      ),
    ]);
    const steps = (await readMetrics(run())).filter((figures) => !isEvaluation(figures));
    expect(steps.at(-1)).toMatchObject({ 'data/bad_rows': 2 });
    expect(jsonLines(join(run(), 'bad-rows.jsonl'))).toEqual([
      {
        file: folder.in('bad.jsonl'),
        row: 2,
        rows: 1,
        reason: expect.stringMatching(/^not a JSON object on one line/),
      },
      { file: folder.in('bad.jsonl'), row: 4, rows: 1, reason: expect.stringMatching(/^expected a column "text"/) },
      { file: folder.in('held.jsonl'), row: 2, rows: 1, reason: '"text" must be a string, found a number' },
    ]);
  });

  it('does not resume with data that has changed, however little', async () => {
    const data = folder.in('changing.jsonl');
    cpSync(folder.in('a.jsonl'), data);
    const config = configOf({ objective, data: [data], steps: 1 });
    await train(config);
    // The same documents, of which the second begins a byte later.
    writeFileSync(data, readFileSync(data, 'utf8').replace('\n', ' \n'));
    await expect(train({ ...config, steps: 2, resume: true })).rejects.toThrow(
      /its text, or the tokenizer, is not that which run/,
    );
  });
});

describe('rollout', () => {
  const flags = ['--group-size', '2', '--max-thought-tokens', '2', '--json'];
  const rollout = (out: string, ...more: string[]) => [
    'rollout',
    '--model',
    folder.in('model'),
    '--out',
    folder.in(out),
    ...flags,
    ...more,
  ];

  async function documentsOf(out: string): Promise<string[]> {
    const names = new Set<string>();
    for await (const batch of await readRollouts(folder.in(out)))
      for (const { documentId } of batch) names.add(documentId);
    return [...names];
  }

  it('takes parquet and arrow, columns by name, patterns and a limit', async () => {
    const golden = (name: string) => goldenPath('data', name);
    const columns = ['--text-column', 'prompt', '--id-column', 'response'];
    const data = ['--data', golden('zst*.parquet'), golden('null.feather'), '--on-bad-rows', 'skip'];
    const { code, out, err } = await runCli(rollout('a.arrow', ...data, ...columns, '--limit', '6'));
    expect({ code, err }).toMatchObject({ code: 0 });
    expect(JSON.parse(out)).toMatchObject({ documents: 6, rows: 12 });
    expect(await documentsOf('a.arrow')).toEqual([0, 2, 4, 6, 8, 10].map((answer) => `It is ${answer}.`));
  });

  it('counts bad rows', async () => {
    const { code, out, err } = await runCli(
      rollout('b.arrow', '--data', folder.in('bad.jsonl'), '--on-bad-rows', 'skip'),
    );
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject({ documents: 3, badRows: { count: 2 } });
    expect(err).toMatch(
      /warning: 2 rows are bad and left out \(listed in .*b\.arrow\.bad-rows\.jsonl\): .*bad\.jsonl:2: not a JSON object/,
    );
    expect(jsonLines(folder.in('b.arrow.bad-rows.jsonl')).map(({ row }) => row)).toEqual([2, 4]);
    expect(await documentsOf('b.arrow')).toEqual(['1', '2', '3']);
  });

  it('reads standard input', async () => {
    const input = '{"text":"the first document"}\n{"text":"the second one"}\n';
    const args = ['--import', 'tsx', 'src/cli/main.ts', ...rollout('c.arrow', '--data', '-')];
    const { status, stdout } = spawnSync(process.execPath, args, { input, encoding: 'utf8' });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ documents: 2 });
    expect(await documentsOf('c.arrow')).toEqual(['stdin:1', 'stdin:2']);
  });
});
