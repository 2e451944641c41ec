import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partialPath, RolloutWriter, readRollouts } from '../src/arrow.ts';
import { type RescoreConfig, rescoreSchema, rolloutSchema, trainSchema } from '../src/config.ts';
import { RunError } from '../src/errors.ts';
import { loadWeights, openCheckpoint, writeCheckpointDirectory } from '../src/export/index.ts';
import type { RolloutRecord } from '../src/records.ts';
import { runRescore } from '../src/rescore.ts';
import { groupAdvantages, groupRelativeAdvantages } from '../src/reward/index.ts';
import { runRollout } from '../src/rollout-run.ts';
import { train } from '../src/train/train.ts';
import { contentOf, refused, type Workplace, workplace } from './bad-input/refused.ts';
import { runCli } from './cli/run-cli.ts';

const LENGTH_PENALTY = fileURLToPath(new URL('../docs/examples/length-penalty.mjs', import.meta.url));
const DOCUMENTS = 12;

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  const rows = Array.from(
    { length: DOCUMENTS },
    (_, i) => `${JSON.stringify({ id: `n${i}`, text: `${i + 10} times ${i} is ${(i + 10) * i}.` })}\n`,
  );
  writeFileSync(folder.in('data.jsonl'), rows.join(''));
  await otherModel('other', 1.1);
  await runRollout(
    rolloutSchema.parse({
      ...{ model: folder.in('model'), data: [folder.in('data.jsonl')], out: folder.in('rollouts.arrow') },
      ...{ groupSize: 3, positions: 2, maxThoughtTokens: 6, horizon: 2, temperature: 1, threads: 1 },
      prompt: 'instruction',
    }),
  );
});
afterAll(() => folder[Symbol.dispose]());

/** The model with its projections scaled. */
async function otherModel(name: string, factor: number): Promise<void> {
  const weights = await loadWeights(await openCheckpoint(folder.in('model')));
  for (const [weight, { data }] of weights) {
    if (weight.includes('proj')) data.set(data.map((value) => value * factor));
  }
  await writeCheckpointDirectory({ out: folder.in(name), source: folder.in('model'), weights, dtype: 'float32' });
}

let count = 0;
function configOf(more: Partial<RescoreConfig> = {}): RescoreConfig {
  const out = folder.in(`rescored-${count++}.arrow`);
  return rescoreSchema.parse({ rescore: folder.in('rollouts.arrow'), out, threads: 1, ...more });
}

async function rowsOf(path: string): Promise<RolloutRecord[]> {
  const rows: RolloutRecord[] = [];
  for await (const batch of await readRollouts(path)) rows.push(...batch);
  return rows;
}

async function rescored(more: Partial<RescoreConfig>): Promise<{ rows: RolloutRecord[]; metadata: unknown }> {
  const config = configOf(more);
  await runRescore(config);
  return { rows: await rowsOf(config.out), metadata: (await readRollouts(config.out)).metadata };
}

const LOG_PROBS = ['samplingLogProbs', 'thoughtLogProbs', 'reasonedLogProbs', 'baselineLogProbs'] as const;
const sum = (values: Iterable<number>) => [...values].reduce((a, b) => a + b, 0);

/** Without what depends on the rows of a batch in its last bits, or on who scored. */
const kept = ({ reward: _r, advantage: _a, baselineVersion: _v, ...row }: RolloutRecord) => ({
  ...row,
  ...Object.fromEntries(LOG_PROBS.map((name) => [name, row[name].length])),
});

function expectSame(rows: readonly RolloutRecord[], expected: readonly RolloutRecord[]): void {
  expect(rows.map(kept)).toEqual(expected.map(kept));
  for (const [i, row] of rows.entries()) {
    for (const name of LOG_PROBS) {
      for (const [j, value] of expected[i][name].entries()) {
        expect(Math.abs(row[name][j] - value), `${name} of row ${i}`).toBeLessThan(1e-5);
      }
    }
    expect(Math.abs(row.reward - expected[i].reward)).toBeLessThan(2e-5);
    expect(Math.abs(row.advantage - expected[i].advantage)).toBeLessThan(2e-5);
  }
}

describe('scoring again with a model', () => {
  it('that is the same gives the same rows', async () => {
    const source = await rowsOf(folder.in('rollouts.arrow'));
    expect(source).toHaveLength(DOCUMENTS * 2 * 3);
    expect(new Set(source.map(({ finishReason }) => finishReason)).size).toBeGreaterThan(1);
    const { rows, metadata } = await rescored({ model: folder.in('model') });
    expectSame(rows, source);
    const before = (await readRollouts(folder.in('rollouts.arrow'))).metadata;
    expect(metadata).toEqual({
      modelHash: before.modelHash,
      config: {
        ...(before.config as object),
        rescored: {
          file: folder.in('rollouts.arrow'),
          sha256: contentOf(folder.path).get('/rollouts.arrow'),
          model: folder.in('model'),
          modelHash: before.modelHash,
        },
      },
    });
  });

  it('that is another scores the same thoughts as it would score its own', async () => {
    const source = await rowsOf(folder.in('rollouts.arrow'));
    const { rows } = await rescored({ model: folder.in('other') });
    const written = (row: RolloutRecord) => ({ ...kept(row), sampled: row.samplingLogProbs });
    expect(rows.map(written)).toEqual(source.map(written));
    const moved = rows.filter(({ reward }, i) => Math.abs(reward - source[i].reward) > 1e-3);
    expect(moved.length).toBeGreaterThan(rows.length / 2);
    for (const row of rows) {
      expect(row.reward).toBeCloseTo(sum(row.reasonedLogProbs) - sum(row.baselineLogProbs), 5);
    }
    for (let first = 0; first < rows.length; first += 3) {
      const group = rows.slice(first, first + 3);
      const advantages = groupRelativeAdvantages(group.map(({ reward }) => reward));
      for (const [g, { advantage }] of group.entries()) expect(advantage).toBeCloseTo(advantages[g], 5);
    }
    // What the other model itself writes, scored again by it, against what its own sampler recorded.
    const out = folder.in('others-own.arrow');
    await runRollout(
      rolloutSchema.parse({
        ...{ model: folder.in('other'), data: [folder.in('data.jsonl')], out, groupSize: 2, maxThoughtTokens: 4 },
        ...{ prompt: 'One text.', baselinePrompt: true, horizonReduction: 'mean', horizon: 3, threads: 1 },
      }),
    );
    const own = await rescored({ rescore: out, model: folder.in('other') });
    expectSame(own.rows, await rowsOf(out));
  });

  it('for the no-think score alone, or another than for the thoughts', async () => {
    const source = await rowsOf(folder.in('rollouts.arrow'));
    const other = await rescored({ model: folder.in('other') });
    const baseline = await rescored({ baselineModel: folder.in('other') });
    const both = await rescored({ model: folder.in('other'), baselineModel: folder.in('model') });
    for (const [i, row] of baseline.rows.entries()) {
      expect(row.reasonedLogProbs).toEqual(source[i].reasonedLogProbs);
      expect(row.baselineLogProbs).toEqual(other.rows[i].baselineLogProbs);
      expect(row.advantage).toBeCloseTo(source[i].advantage, 5); // the baseline cancels
      expect(both.rows[i].reasonedLogProbs).toEqual(other.rows[i].reasonedLogProbs);
      for (const [h, value] of both.rows[i].baselineLogProbs.entries()) {
        expect(value).toBeCloseTo(source[i].baselineLogProbs[h], 5);
      }
    }
    // The same no-think model while sampling.
    const sampled = folder.in('two-models.arrow');
    await runRollout(
      rolloutSchema.parse({
        ...{
          model: folder.in('model'),
          baselineModel: folder.in('other'),
          data: [folder.in('data.jsonl')],
          out: sampled,
        },
        ...{ groupSize: 3, positions: 2, maxThoughtTokens: 6, horizon: 2, temperature: 1, threads: 1 },
        prompt: 'instruction',
      }),
    );
    expectSame(await rowsOf(sampled), baseline.rows);
  });

  it('takes the thoughts of a training step: the first step is scored by the start, the second by its checkpoint', async () => {
    const few = [101, 102].map((id) => `${JSON.stringify({ id, text: `${id} is not ${id + 1}.` })}\n`);
    writeFileSync(folder.in('few.jsonl'), few.join(''));
    const config = trainSchema.parse({
      ...{ data: [folder.in('data.jsonl'), folder.in('few.jsonl')], dataWeights: [3, 1], documentsPerStep: 4 },
      ...{ model: folder.in('model'), run: folder.in('run'), threads: 1 },
      ...{ steps: 2, checkpointEvery: 1, learningRate: 1e-2, emaDecay: 0, temperature: 1, maxThoughtTokens: 5 },
      ...{ groupSize: 2, compareWithin: 'document', positions: 2, horizon: 2 },
      ...{ unclosed: 'penalize', unclosedPenalty: 0.5, advantageScale: 'step' },
    });
    await train(config);
    const step = (n: number) => folder.in('run', 'rollouts', `step-00000${n}.arrow`);
    expectSame((await rescored({ rescore: step(1), model: folder.in('model') })).rows, await rowsOf(step(1)));
    const second = await rowsOf(step(2));
    const again = await rescored({ rescore: step(2), model: folder.in('run', 'checkpoints', 'step-000001') });
    expectSame(again.rows, second);
    expect(new Set(second.map(({ policyVersion }) => policyVersion))).toEqual(new Set([1]));
  });
});

describe('scoring again with a reward', () => {
  it('needs no model, nor the data', async () => {
    renameSync(folder.in('data.jsonl'), folder.in('away.jsonl'));
    renameSync(folder.in('model'), folder.in('away'));
    try {
      const source = await rowsOf(folder.in('rollouts.arrow'));
      const { rows, metadata } = await rescored({ reward: LENGTH_PENALTY });
      for (const [i, { reward, advantage: _, ...row }] of rows.entries()) {
        expect(reward).toBeCloseTo(source[i].reward - 0.01 * row.thoughtTokens.length, 9);
        expect(source[i]).toMatchObject(row);
      }
      const first = rows.slice(0, 3).map(({ reward }) => reward);
      const expected = groupAdvantages([{ document: {}, rewards: first }]);
      expect(rows.slice(0, 3).map(({ advantage }) => advantage)).toEqual([...expected[0]]);
      expect(metadata).toMatchObject({
        config: { rescored: { reward: LENGTH_PENALTY, rewardHash: expect.stringMatching(/^\w{64}$/) } },
      });
      // And the other way round: what was re-scored can be, and says where it came from.
      const middle = configOf({ reward: LENGTH_PENALTY });
      await runRescore(middle);
      const same = folder.in('same.mjs');
      writeFileSync(same, 'export default (thoughts) => thoughts.map((thought) => thought.builtInReward);');
      const notices: string[] = [];
      const unpaid = configOf({ rescore: middle.out, baselineModel: folder.in('other') });
      await expect(runRescore(unpaid, { onNotice: (notice) => notices.push(notice) })).rejects.toThrow(/data\.jsonl/);
      expect(notices).toEqual([
        `${middle.out}: was paid by the reward module ${LENGTH_PENALTY}; what it is paid now is the information gain. To keep the ` +
          `module: --reward ${LENGTH_PENALTY}`,
      ]);
      const back = await rescored({ rescore: middle.out, reward: same });
      for (const [i, row] of back.rows.entries()) expect(row.reward).toBeCloseTo(source[i].reward, 9);
      expect(back.metadata).toMatchObject({
        config: {
          rescored: { file: middle.out, before: { file: folder.in('rollouts.arrow'), reward: LENGTH_PENALTY } },
        },
      });
    } finally {
      renameSync(folder.in('away'), folder.in('model'));
      renameSync(folder.in('away.jsonl'), folder.in('data.jsonl'));
    }
  });

  it('has the whole text only where the data is read again', async () => {
    const reward = folder.in('prefix.mjs');
    writeFileSync(
      reward,
      'export default (thoughts) => thoughts.map(({ prefix, document, target }) =>\n' +
        '  document.startsWith(prefix + target) ? prefix.length : -1);',
    );
    const { rows } = await rescored({ model: folder.in('model'), reward });
    expect(rows.map((row) => row.reward)).toEqual(rows.map((row) => row.position)); // one byte a token
    const out = folder.in('refused.arrow');
    const args = ['rollout', '--rescore', folder.in('rollouts.arrow'), '--out', out, '--reward', reward];
    const { code, err } = await runCli(args);
    expect(code).toBe(2);
    expect(err).toContain(
      `\nrlp-ort: reward module ${reward}: asks for \`prefix\`, which a rollout file does not hold (its \`context\` is the end of ` +
        'the prefix); add --model, and the data will be read again\n',
    );
    expect(existsSync(partialPath(out))).toBe(false);
  });
});

describe('data that has moved', () => {
  const CHANGED =
    /: is not what \S+\.arrow was made from, text by text; name that with --data \(and its files in the same order\)$/;

  it('is found where --data says', async () => {
    renameSync(folder.in('data.jsonl'), folder.in('moved.jsonl'));
    try {
      expect(await refusal({})).toMatch(/data\.jsonl: no such file or folder/);
      const { rows } = await rescored({ model: folder.in('model'), data: [folder.in('moved.jsonl')] });
      expectSame(rows, await rowsOf(folder.in('rollouts.arrow')));
      writeFileSync(
        folder.in('changed.jsonl'),
        readFileSync(folder.in('moved.jsonl'), 'utf8').replace('times', 'plus'),
      );
      expect(await refusal({ data: folder.in('changed.jsonl') })).toMatch(CHANGED);
    } finally {
      renameSync(folder.in('moved.jsonl'), folder.in('data.jsonl'));
    }
    writeFileSync(folder.in('data-before.jsonl'), readFileSync(folder.in('data.jsonl')));
    writeFileSync(folder.in('data.jsonl'), readFileSync(folder.in('changed.jsonl')));
    expect(await refusal({})).toMatch(CHANGED);
    renameSync(folder.in('data-before.jsonl'), folder.in('data.jsonl'));
  });

  it('without ids of its own: by the names of the files and their rows', async () => {
    const corpus = (name: string) => join(folder.in(name), '*.txt');
    const texts = {
      'a.txt': 'One and one is two.',
      'b.txt': 'Two and two is four.',
      'c.txt': 'Three and four is seven.',
    };
    mkdirSync(folder.in('texts'));
    for (const [name, text] of Object.entries(texts)) writeFileSync(folder.in('texts', name), text);
    const source = folder.in('texts.arrow');
    const flags = { groupSize: 2, positions: 2, maxThoughtTokens: 3, threads: 1 };
    await runRollout(
      rolloutSchema.parse({ model: folder.in('model'), data: [corpus('texts')], out: source, ...flags }),
    );
    renameSync(folder.in('texts'), folder.in('elsewhere'));
    const again = (data: string[]) => rescored({ rescore: source, model: folder.in('model'), data });
    expectSame((await again([corpus('elsewhere')])).rows, await rowsOf(source));
    // The same texts in files of other names: what is whose cannot be told.
    renameSync(folder.in('elsewhere', 'c.txt'), folder.in('elsewhere', 'd.txt'));
    await expect(again([corpus('elsewhere')])).rejects.toThrow(/document \S+c\.txt:1 is not in the data/);
    mkdirSync(folder.in('elsewhere', 'more'));
    renameSync(folder.in('elsewhere', 'd.txt'), folder.in('elsewhere', 'more', 'a.txt'));
    await expect(again([corpus('elsewhere'), corpus('elsewhere/more')])).rejects.toThrow(/two files are called a\.txt/);

    // A single file may be called anything.
    writeFileSync(
      folder.in('lines.jsonl'),
      Object.values(texts)
        .map((text) => `${JSON.stringify({ text })}\n`)
        .join(''),
    );
    const out = folder.in('lines.arrow');
    await runRollout(
      rolloutSchema.parse({ model: folder.in('model'), data: [folder.in('lines.jsonl')], out, ...flags }),
    );
    renameSync(folder.in('lines.jsonl'), folder.in('renamed.jsonl'));
    const renamed = { rescore: out, model: folder.in('model'), data: [folder.in('renamed.jsonl')] };
    expectSame((await rescored(renamed)).rows, await rowsOf(out));
  });
});

/** The message of a re-scoring by `model` that is refused and leaves no trace. */
async function refusal(flags: Record<string, string>): Promise<string> {
  const all = {
    ...{ rescore: folder.in('rollouts.arrow'), model: folder.in('model'), out: folder.in('new', 'refused.arrow') },
    ...flags,
  };
  return await refused(folder, ['rollout', ...Object.entries(all).flatMap(([name, value]) => [`--${name}`, value])]);
}

describe('what cannot be', () => {
  it('is refused by name', async () => {
    const file = folder.in('rollouts.arrow');
    expect(await refusal({ temperature: '0.5', 'group-size': '2' })).toBe(
      '2 problems:\n  --temperature 0.5: has no use with --rescore: thoughts are not sampled, and all else is as the file was made\n' +
        '  --group-size 2: has no use with --rescore: thoughts are not sampled, and all else is as the file was made',
    );
    expect(await refused(folder, ['rollout', '--rescore', file, '--out', folder.in('x.arrow')])).toBe(
      `--rescore ${file}: needs --model or --baseline-model to score with, or a --reward to pay with`,
    );
    const paid = ['rollout', '--rescore', file, '--out', folder.in('x.arrow'), '--reward', LENGTH_PENALTY];
    expect(await refused(folder, [...paid, '--data', folder.in('data.jsonl')])).toBe(
      `--data ${folder.in('data.jsonl')}: is read for --model or --baseline-model only`,
    );
    expect(await refusal({ rescore: folder.in('data.jsonl') })).toMatch(/data\.jsonl: not an Arrow IPC file/);
    expect(await refusal({ rescore: folder.in('nowhere.arrow') })).toMatch(
      /cannot open .*nowhere\.arrow: no such file/,
    );
    expect(await refusal({ out: file })).toBe(`--out ${file}: is the file to score; choose another path`);
    const onto = [...paid.slice(0, 4), file, ...paid.slice(5), '--resume'];
    expect(await refused(folder, onto)).toBe(`--out ${file}: is the file to score; choose another path`);
  });

  it('a changed tokenizer, in either model', async () => {
    cpSync(folder.in('model'), folder.in('retold'), { recursive: true });
    const path = folder.in('retold', 'tokenizer.json');
    writeFileSync(path, `${readFileSync(path, 'utf8')}\n`);
    expect(await refusal({ model: folder.in('retold') })).toBe(
      `${path}: is not the tokenizer that ${folder.in('rollouts.arrow')} was made with, whose tokens would mean something else`,
    );
    expect(await refusal({ 'baseline-model': folder.in('retold') })).toBe(
      `${path}: is not the tokenizer of ${folder.in('model')}; the two models need the same one`,
    );
  });
});

describe('a file', () => {
  /** The rollouts with other metadata or rows. */
  async function changed(
    config: Record<string, unknown>,
    change: (row: RolloutRecord) => RolloutRecord = (row) => row,
  ): Promise<string> {
    const source = await readRollouts(folder.in('rollouts.arrow'));
    const path = folder.in(`changed-${count++}.arrow`);
    const metadata = { ...source.metadata, config: { ...(source.metadata.config as object), ...config } };
    await using writer = await RolloutWriter.open(path, metadata);
    for await (const rows of source) await writer.append(rows.map(change));
    await writer.finish();
    return path;
  }

  it('from an earlier version, which does not say what data it was made with', async () => {
    const path = await changed({ dataHash: undefined });
    expect(await refusal({ rescore: path })).toBe(
      `${path}: does not say what data and tokenizer it was made with; only --reward can score it again`,
    );
    expect((await rescored({ rescore: path, reward: LENGTH_PENALTY })).rows).toHaveLength(DOCUMENTS * 6);
  });

  it('from standard input: the data by its ids, where it is a file', async () => {
    const path = await changed({ data: ['-'] });
    expect(await refusal({ rescore: path })).toBe(
      `${path}: its data came from standard input, which cannot be read again; name it as a file with --data`,
    );
    const { rows } = await rescored({ rescore: path, model: folder.in('model'), data: [folder.in('data.jsonl')] });
    expectSame(rows, await rowsOf(path));
  });

  it('of another objective, with settings that are none, with rows that are not those of the data', async () => {
    const sft = await changed({ objective: 'sft' });
    expect(await refusal({ rescore: sft })).toBe(
      `${sft}: comes from --objective sft; only thoughts of rlp, rpt and grpo can be scored again`,
    );
    const broken = await changed({ groupSize: 'many' });
    expect(await refusal({ rescore: broken })).toMatch(
      `${broken}: the recorded setting groupSize is not what rlp-ort writes (`,
    );
    const other = await changed({}, (row) => ({ ...row, targetTokens: row.targetTokens.map((token) => token + 1) }));
    const { code, err } = await runCli([
      ...['rollout', '--rescore', other, '--model', folder.in('model'), '--out', folder.in('never.arrow')],
    ]);
    expect(code).toBe(2);
    expect(err).toMatch(
      /changed-\d+\.arrow: document n0, position \d+: has the targets \d+, \d+, in the data there is \d+, \d+; the file has been changed\n$/,
    );
    const lost = await changed({}, (row) => ({ ...row, documentId: `lost ${row.documentId}` }));
    await expect(runRescore(configOf({ rescore: lost, model: folder.in('model') }))).rejects.toThrow(
      `${lost}: document lost n0 is not in the data, or too short for the model's positions`,
    );
  });

  it('whose documents a model with fewer positions cannot hold', async () => {
    cpSync(folder.in('model'), folder.in('short'), { recursive: true });
    const config = JSON.parse(readFileSync(folder.in('short', 'config.json'), 'utf8'));
    const withPositions = (positions: number) =>
      writeFileSync(
        folder.in('short', 'config.json'),
        JSON.stringify({ ...config, max_position_embeddings: positions }),
      );
    withPositions(16);
    expect(await refusal({ model: folder.in('short') })).toMatch(
      new RegExp(
        `^${folder.in('rollouts.arrow')}: was made with settings that do not fit ${folder.in('short')}: --max-thought`,
      ),
    );
    const path = await promptless();
    withPositions(20);
    await expect(runRescore(configOf({ rescore: path, model: folder.in('short') }))).rejects.toThrow(
      /promptless\.arrow: document n\d+, position \d+: the model's positions hold only \d+ tokens of it$/,
    );
  });

  async function promptless(): Promise<string> {
    const out = folder.in('promptless.arrow');
    const files = { model: folder.in('model'), data: [folder.in('data.jsonl')], out };
    await runRollout(rolloutSchema.parse({ ...files, groupSize: 2, positions: 4, maxThoughtTokens: 2, threads: 1 }));
    return out;
  }
});

describe('an interrupted re-scoring', () => {
  it('goes on where it was, to the same file', async () => {
    const whole = configOf({ model: folder.in('other') });
    const summary = await runRescore(whole);
    expect(summary).toMatchObject({ out: whole.out, source: whole.rescore, rows: DOCUMENTS * 6 });
    const config = { ...configOf({ model: folder.in('other') }) };
    const abort = new AbortController();
    const interrupted = runRescore(config, {
      signal: abort.signal,
      onProgress: ({ done }) => void (done > 0 && abort.abort()),
    });
    await expect(interrupted).rejects.toThrow(RunError);
    await expect(interrupted).rejects.toThrow(
      `interrupted; 24 of 72 thoughts are kept in ${partialPath(config.out)}; to go on: the same command with --resume`,
    );
    const other = { ...config, model: folder.in('model'), resume: true };
    await expect(runRescore(other)).rejects.toThrow('cannot continue a file of another run: config.rescored.model is');
    expect(await runRescore({ ...config, resume: true })).toMatchObject({ rows: 48 });
    expect(readFileSync(config.out).equals(readFileSync(whole.out))).toBe(true);
  });

  it('by a kill at any moment, too', async () => {
    const source = folder.in('many.arrow');
    const sampling = { groupSize: 6, positions: 4, maxThoughtTokens: 40, documentsPerBatch: 1, threads: 1 };
    const files = { model: folder.in('model'), data: [folder.in('data.jsonl')], out: source };
    await runRollout(rolloutSchema.parse({ ...files, ...sampling }));
    const out = folder.in('killed.arrow');
    const args = ['rollout', '--rescore', source, '--model', folder.in('other'), '--threads', '1', '--resume'];
    const size = () => (existsSync(partialPath(out)) ? statSync(partialPath(out)).size : 0);
    for (const delay of [0, 10]) {
      const before = size();
      const command = ['--import', 'tsx', 'src/cli/main.ts', ...args, '--out', out];
      const child = spawn(process.execPath, command, { stdio: 'ignore' });
      while (size() <= before && child.exitCode === null) await sleep(2);
      await sleep(delay);
      child.kill('SIGKILL');
      expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
      expect(existsSync(out)).toBe(false);
    }
    expect((await runCli([...args, '--out', out])).code).toBe(0);
    expect((await runCli([...args, '--out', folder.in('undisturbed.arrow')])).code).toBe(0);
    expect(readFileSync(out).equals(readFileSync(folder.in('undisturbed.arrow')))).toBe(true);
    expect((await runCli(['inspect', out])).out).toMatch(/rows +288\n/);
    rmSync(out);
  });
});
