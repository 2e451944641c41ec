import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { partialPath, RolloutWriter, readRollouts } from '../src/arrow.ts';
import { type RescoreConfig, rescoreSchema, type TrainConfig, trainSchema } from '../src/config.ts';
import type { RolloutRecord } from '../src/records.ts';
import { runRescore } from '../src/rescore.ts';
import { train } from '../src/train/train.ts';
import { refused, type Workplace, workplace } from './bad-input/refused.ts';
import { runCli } from './cli/run-cli.ts';

const TINY = 'models/tiny-qwen3';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  const lines = readFileSync(join(TINY, 'corpus', 'train.jsonl'), 'utf8')
    .trim()
    .split('\n')
    .slice(0, 24);
  const texts = lines.map((line) => (JSON.parse(line) as { text: string }).text);
  const prompts = texts.map((text, id) => ({ id, prompt: text.slice(0, 7), answer: Number(text[7]) }));
  const jsonl = (rows: readonly object[]) => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
  writeFileSync(folder.in('prompts.jsonl'), jsonl(prompts));
  writeFileSync(folder.in('texts.jsonl'), jsonl(texts.map((text, id) => ({ id, text, positions: [7] }))));
  writeFileSync(folder.in('half.mjs'), 'export default (rows) => rows.map(({ builtInReward }) => builtInReward / 2);');
  await trained('grpo');
  await trained('rpt');
  await trained('bare', { withoutThought: true });
  await trained('module', { reward: folder.in('half.mjs') });
});
afterAll(() => folder[Symbol.dispose]());

/** Two steps; hot enough for thoughts that do not close in time. */
async function trained(name: string, more: Partial<TrainConfig> = {}): Promise<void> {
  const rpt = name === 'rpt';
  const task = rpt ? { prediction: 'text', positionStrategy: 'column', prompt: 'Add. ' } : { stop: ['\n'] };
  await train(
    trainSchema.parse({
      ...{ objective: rpt ? 'rpt' : 'grpo', model: TINY, run: folder.in(name), threads: 1 },
      ...{ data: [folder.in(rpt ? 'texts.jsonl' : 'prompts.jsonl')], steps: 2, documentsPerStep: 6, groupSize: 4 },
      ...{
        checkpointEvery: 1,
        learningRate: 1e-3,
        temperature: more.withoutThought ? 1 : 1.5,
        maxCompletionTokens: rpt ? 2 : 3,
      },
      ...(!more.withoutThought && { maxThoughtTokens: 8, unclosed: 'penalize', unclosedPenalty: 0.25 }),
      ...{ ...task, ...more },
    }),
  );
}

const fileOf = (run: string, step = 1) => folder.in(run, 'rollouts', `step-00000${step}.arrow`);
const checkpointOf = (run: string, step = 1) => folder.in(run, 'checkpoints', `step-00000${step}`);

async function rowsOf(path: string): Promise<RolloutRecord[]> {
  const rows: RolloutRecord[] = [];
  for await (const batch of await readRollouts(path)) rows.push(...batch);
  return rows;
}

let count = 0;
async function rescored(rescore: string, more: Partial<RescoreConfig>, notices: string[] = []) {
  const out = folder.in(`rescored-${count++}.arrow`);
  const config = rescoreSchema.parse({ rescore, out, threads: 1, ...more });
  const summary = await runRescore(config, { onNotice: (notice) => notices.push(notice) });
  return { rows: await rowsOf(out), summary, out };
}

const LOG_PROBS = ['samplingLogProbs', 'thoughtLogProbs', 'reasonedLogProbs', 'baselineLogProbs'] as const;
/** What no scoring changes. */
const kept = (row: RolloutRecord) => ({
  ...row,
  ...Object.fromEntries(LOG_PROBS.map((name) => [name, row[name].length])),
});

describe('completions scored again', () => {
  it.each([
    ['grpo', 1, TINY],
    ['grpo', 2, 'grpo'],
    ['rpt', 1, TINY],
    ['rpt', 2, 'rpt'],
    ['bare', 1, TINY],
  ])('%s, step %i, by the model that wrote them are the same', async (run, step, writer) => {
    const source = await rowsOf(fileOf(run, step));
    const model = writer === TINY ? TINY : checkpointOf(writer);
    const { rows, summary } = await rescored(fileOf(run, step), { model });
    // Rewards and advantages to the last bit: nothing in them is a log-prob.
    expect(rows.map(kept)).toEqual(source.map(kept));
    for (const [i, row] of rows.entries()) {
      for (const name of LOG_PROBS) {
        for (const [j, value] of row[name].entries()) expect(value).toBeCloseTo(source[i][name][j], 4);
      }
    }
    expect(new Set(source.map(({ reward }) => reward)).size).toBeGreaterThan(1);
    if (run === 'grpo') expect(new Set(source.map(({ finishReason }) => finishReason)).size).toBeGreaterThan(1);
    const answers = source.flatMap(({ reasonedLogProbs }) => [...reasonedLogProbs]);
    expect(summary).toMatchObject({ rows: 24, reward: summary.rewardBefore });
    expect(summary.reasonedCrossEntropy).toBeCloseTo(-answers.reduce((a, b) => a + b) / answers.length, 4);
    expect(summary).not.toHaveProperty('noThinkCrossEntropy');
  });

  it('by another model have its log-probs, and the same rewards', async () => {
    const source = await rowsOf(fileOf('grpo'));
    const { rows } = await rescored(fileOf('grpo'), { model: checkpointOf('grpo', 2) });
    expect(rows.map(kept)).toEqual(source.map(kept));
    const differs = (name: 'thoughtLogProbs' | 'reasonedLogProbs') =>
      rows.some((row, i) => Math.abs(row[name][0] - source[i][name][0]) > 1e-3);
    expect([differs('thoughtLogProbs'), differs('reasonedLogProbs')]).toEqual([true, true]);
  });

  it.each(['grpo', 'rpt'])('%s by a reward module: from the file alone, or with the data', async (run) => {
    const source = await rowsOf(fileOf(run));
    const own = (row: RolloutRecord) => row.reward + (row.finishReason === 'closed' ? 0 : 0.25);
    const alone = await rescored(fileOf(run), { reward: folder.in('half.mjs') });
    for (const [i, row] of alone.rows.entries()) {
      expect(row.reward).toBeCloseTo(own(source[i]) / 2 - (row.finishReason === 'closed' ? 0 : 0.25), 12);
    }
    for (let first = 0; first < alone.rows.length; first += 4) {
      const group = alone.rows.slice(first, first + 4);
      const mean = group.reduce((sum, { reward }) => sum + reward, 0) / 4; // itself included
      const std = Math.sqrt(group.reduce((sum, { reward }) => sum + (reward - mean) ** 2, 0) / 3);
      for (const { reward, advantage } of group) expect(advantage).toBeCloseTo((reward - mean) / (std + 1e-4), 9);
    }
    writeFileSync(
      folder.in('told.mjs'),
      `export default (rows) => rows.map(({ builtInReward, reference, document, prefix, target }) => {
        const right = ${run === 'grpo' ? 'target.trim() === reference' : 'target.length > 0 && document.slice(prefix.length).startsWith(target)'};
        return builtInReward === Number(right) ? builtInReward / 2 : 99;
      });`,
    );
    const told = await rescored(fileOf(run), { model: TINY, reward: folder.in('told.mjs') });
    expect(told.rows.map(({ reward }) => reward)).toEqual(alone.rows.map(({ reward }) => reward));
  });

  it('of a run that a module paid are paid by the rule, with a notice, unless the module is named again', async () => {
    const source = await rowsOf(fileOf('module'));
    const notices: string[] = [];
    const { rows, out } = await rescored(fileOf('module'), { model: TINY }, notices);
    const penalty = ({ finishReason }: RolloutRecord) => (finishReason === 'closed' ? 0 : 0.25);
    for (const [i, row] of rows.entries()) {
      expect(row.reward + penalty(row)).toBeCloseTo(2 * (source[i].reward + penalty(row)), 12);
    }
    const module = folder.in('half.mjs');
    expect(notices).toEqual([
      `${fileOf('module')}: was paid by the reward module ${module}; what it is paid now is the reward of --objective grpo. To keep ` +
        `the module: --reward ${module}`,
    ]);
    const again = await rescored(fileOf('module'), { model: TINY, reward: module }, notices);
    expect(again.rows.map(({ reward }) => reward)).toEqual(source.map(({ reward }) => reward));
    // What is paid by the rule has the rule's reward, whatever had paid it before.
    const back = await rescored(out, { reward: module }, notices);
    expect(back.rows.map(({ reward }) => reward)).toEqual(source.map(({ reward }) => reward));
    expect(notices).toHaveLength(1);
  });

  it('finds its data where --data says', async () => {
    cpSync(folder.in('prompts.jsonl'), folder.in('moved.jsonl'));
    const { rows } = await rescored(fileOf('grpo'), { model: TINY, data: [folder.in('moved.jsonl')] });
    expect(rows.map(kept)).toEqual((await rowsOf(fileOf('grpo'))).map(kept));
  });
});

describe('completions that cannot be scored again', () => {
  const refusal = (rescore: string, ...flags: string[]) =>
    refused(folder, ['rollout', '--rescore', rescore, '--out', folder.in('new', 'refused.arrow'), ...flags]);

  /** The file with other settings or rows. */
  async function changed(
    run: string,
    config: Record<string, unknown>,
    change: (row: RolloutRecord) => RolloutRecord = (row) => row,
  ): Promise<string> {
    const source = await readRollouts(fileOf(run));
    const path = folder.in(`changed-${count++}.arrow`);
    const metadata = { ...source.metadata, config: { ...(source.metadata.config as object), ...config } };
    await using writer = await RolloutWriter.open(path, metadata);
    for await (const rows of source) await writer.append(rows.map(change));
    await writer.finish();
    return path;
  }

  it('a baseline, which they have none of, and files of other objectives', async () => {
    expect(await refusal(fileOf('grpo'), '--baseline-model', TINY)).toBe(
      `--baseline-model ${TINY}: ${fileOf('grpo')} comes from --objective grpo, which has no score without a thought; leave it out`,
    );
    const cpt = await changed('grpo', { objective: 'cpt' });
    expect(await refusal(cpt, '--model', TINY)).toBe(
      `${cpt}: comes from --objective cpt; only thoughts of rlp, rpt and grpo can be scored again`,
    );
  });

  it('what is not in the file, by the name under which it is asked for', async () => {
    const asking = async (rescore: string, name: string) => {
      const reward = folder.in(`${name}.mjs`);
      writeFileSync(reward, `export default (rows) => rows.map((row) => row.${name}.length ?? 0);`);
      const out = folder.in('never.arrow');
      const { code, err } = await runCli(['rollout', '--rescore', rescore, '--out', out, '--reward', reward]);
      expect(code).toBe(2);
      expect(existsSync(partialPath(out))).toBe(false);
      return err.trimEnd().split('\n').at(-1)?.replace(`rlp-ort: reward module ${reward}: `, '');
    };
    const again = 'add --model, and the data will be read again';
    expect(await asking(fileOf('grpo'), 'reference')).toBe(
      `asks for \`reference\`, which a rollout file does not hold; ${again}`,
    );
    expect(await asking(fileOf('rpt'), 'prefix')).toBe(
      `asks for \`prefix\`, which a rollout file does not hold (its \`context\` is the end of the prefix); ${again}`,
    );
    expect(await asking(fileOf('module'), 'builtInReward')).toBe(
      `asks for \`builtInReward\`, which a file that a reward module has paid does not hold; ${again}`,
    );
  });

  it('by a model, where data or template have changed, or are not known', async () => {
    const old = await changed('grpo', { textHash: undefined });
    expect(await refusal(old, '--model', TINY)).toBe(
      `${old}: does not say what data and tokenizer it was made with; only --reward can score it again`,
    );
    const others = readFileSync(folder.in('prompts.jsonl'), 'utf8').replace(/"answer":\d/, '"answer":11');
    writeFileSync(folder.in('others.jsonl'), others);
    expect(await refusal(fileOf('grpo'), '--model', TINY, '--data', folder.in('others.jsonl'))).toBe(
      `data ${folder.in('others.jsonl')}: is not what ${fileOf('grpo')} was made from, text by text; name that with --data (and its ` +
        'files in the same order). A chat template is part of the text: it must be the same one',
    );
    const moved = await changed('rpt', {}, (row) => ({ ...row, context: `${row.context}!` }));
    const args = ['rollout', '--rescore', moved, '--model', TINY, '--out', folder.in('never.arrow')];
    const { code, err } = await runCli(args);
    expect(code).toBe(2);
    expect(err).toMatch(
      /changed-\d+\.arrow: document \d+, position 7: stands behind "\d{6}=!", in the data there is "\d{6}="; the file has been changed\n$/,
    );
    rmSync(partialPath(folder.in('never.arrow')), { force: true });
  });

  it('a prompt that a model with fewer positions cannot hold', async () => {
    cpSync(TINY, folder.in('short'), { recursive: true });
    const path = folder.in('short', 'config.json');
    const config = JSON.parse(readFileSync(path, 'utf8'));
    writeFileSync(path, JSON.stringify({ ...config, max_position_embeddings: 18 }));
    const long = folder.in('long.jsonl');
    const rows = [1, 2].map((id) => ({ id, prompt: id === 1 ? '1=' : '314159=', answer: 1 }));
    writeFileSync(long, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    rmSync(folder.in('module'), { recursive: true });
    await trained('module', { data: [long], steps: 1, documentsPerStep: 2 });
    await expect(rescored(fileOf('module'), { model: folder.in('short') })).rejects.toThrow(
      `${fileOf('module')}: document 2 is not in the data, or too long for the model's positions`,
    );
  });
});
