import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readRollouts } from '../../src/arrow.ts';
import { rescoreSchema, type TrainConfig, trainOptionsSchema, trainSchema } from '../../src/config.ts';
import { settingsToYaml } from '../../src/config-resolve.ts';
import { RunError } from '../../src/errors.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { runRescore } from '../../src/rescore.ts';
import { readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { contentOf, refused, type Workplace, workplace } from '../bad-input/refused.ts';

const TINY = 'models/tiny-qwen3';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
  for (const name of ['train', 'held-out']) {
    const lines = readFileSync(join(TINY, 'corpus', `${name}.jsonl`), 'utf8')
      .trim()
      .split('\n');
    const rows = lines.slice(0, name === 'train' ? lines.length : 100).map((line) => {
      const [question, answer] = (JSON.parse(line) as { text: string }).text.split('=');
      return `${JSON.stringify({ id: question, prompt: `${question}=`, answer: Number(answer) })}\n`;
    });
    writeFileSync(folder.in(`${name}.jsonl`), rows.join(''));
  }
});
afterAll(() => folder[Symbol.dispose]());
afterEach(() => {
  for (const name of ['run', 'whole']) rmSync(folder.in(name), { recursive: true, force: true });
});

const configOf = (more: Partial<TrainConfig> = {}): TrainConfig =>
  trainSchema.parse({
    ...{ objective: 'grpo', model: TINY, data: [folder.in('train.jsonl')], run: folder.in('run') },
    ...{ steps: 3, checkpointEvery: 1, learningRate: 1e-4, documentsPerStep: 4, groupSize: 4, documentsPerBatch: 8 },
    ...{ maxCompletionTokens: 3, stop: ['\n'], threads: 1, ...(!more.withoutThought && { maxThoughtTokens: 8 }) },
    ...more,
  });

async function recordsOf(step: number): Promise<RolloutRecord[]> {
  const records: RolloutRecord[] = [];
  const file = join(folder.in('run'), 'rollouts', `step-${String(step).padStart(6, '0')}.arrow`);
  for await (const batch of await readRollouts(file)) records.push(...batch);
  return records;
}

/** The sum of the digits of `314159=` modulo 10. */
const sumOf = (prompt: string) => [...prompt.replace('=', '')].reduce((sum, digit) => sum + Number(digit), 0) % 10;

describe('GRPO', () => {
  it('raises the accuracy of sampled answers on held-out prompts', async () => {
    const { before, after, last } = await train(
      configOf({
        ...{ evalData: [folder.in('held-out.jsonl')], evalSamples: 2, evalEvery: 100 },
        ...{ steps: 12, documentsPerStep: 12, groupSize: 8, documentsPerBatch: 16, checkpointEvery: 0 },
      }),
    );
    expect(Number(before?.['eval/accuracy_sampled'])).toBeLessThan(0.6);
    expect(Number(after?.['eval/accuracy_sampled'])).toBeGreaterThan(0.7);
    expect(Number(after?.['eval/accuracy'])).toBeGreaterThan(0.9);
    expect(last['sampling/sampling_logp_difference/max']).toBeLessThan(1e-4);
    expect(last.ratio_mean).toBeCloseTo(1, 4);
    expect(last['clip_ratio/region_mean']).toBe(0);
    const logged = (await readMetrics(folder.in('run'))).flatMap((row) => Object.keys(row));
    const explained = readFileSync('docs/metrics.md', 'utf8');
    expect(logged.filter((name) => !explained.includes(`\`${name}\``))).toEqual([]);
  });

  it('pays the right answers 1, and advantages are those of the group', async () => {
    await train(configOf({ steps: 1 }));
    const records = await recordsOf(1);
    expect(records).toHaveLength(16);
    for (let first = 0; first < records.length; first += 4) {
      const group = records.slice(first, first + 4);
      for (const { context, target, reward } of group) {
        expect(reward).toBe(Number(target.trim() === String(sumOf(context))));
      }
      // (r - mean) / (std + 1e-4), the standard deviation with n - 1.
      const mean = group.reduce((sum, { reward }) => sum + reward, 0) / 4;
      const std = Math.sqrt(group.reduce((sum, { reward }) => sum + (reward - mean) ** 2, 0) / 3);
      for (const { reward, advantage } of group) expect(advantage).toBeCloseTo((reward - mean) / (std + 1e-4), 9);
    }
    const [row] = await readMetrics(folder.in('run'));
    expect(row.reward).toBeCloseTo(records.reduce((sum, { reward }) => sum + reward, 0) / 16, 12);
    expect(row['rewards/answer_match/mean']).toBe(row.reward);
  });

  it.each([false, true])(
    'interrupted and resumed is the uninterrupted run (without a thought: %s)',
    async (without) => {
      const config = configOf({
        ...{ withoutThought: without, epochsPerStep: 2, klCoefficient: 0.1, importanceSampling: 'behavior' },
        ...{ evalData: [folder.in('held-out.jsonl')], limit: 4, steps: 2, maxCompletionTokens: without ? 12 : 3 },
      });
      await train(config);
      renameSync(folder.in('run'), folder.in('whole'));
      const abort = new AbortController();
      const onProgress = ({ done }: { done: number }) => done >= 1 && abort.abort();
      await expect(train(config, { signal: abort.signal, onProgress })).rejects.toThrow(RunError);
      await train({ ...config, resume: true });
      for (const part of ['rollouts', 'checkpoints/step-000002']) {
        expect(contentOf(folder.in('run', part))).toEqual(contentOf(folder.in('whole', part)));
      }
    },
  );

  it('takes the stop for the end of an answer, and a pattern for where the answer is', async () => {
    await train(configOf({ steps: 1 }));
    for (const { target, targetTokens } of await recordsOf(1)) {
      expect(targetTokens.length).toBeLessThanOrEqual(3);
      expect(target.slice(0, -1)).not.toContain('\n');
    }
    rmSync(folder.in('run'), { recursive: true });
    await train(configOf({ steps: 1, answerPattern: 'no such text' }));
    for (const { reward } of await recordsOf(1)) expect(reward).toBe(0);
  });
});

it('pays the same mathematics on demand: 14/2 for 7', async () => {
  const halves = readFileSync(folder.in('train.jsonl'), 'utf8').replaceAll(
    /"answer":(\d)/g,
    (_, answer) => `"answer":"${2 * answer}/2"`,
  );
  writeFileSync(folder.in('halves.jsonl'), halves);
  const config = { data: [folder.in('halves.jsonl')], steps: 1 };
  await train(configOf({ ...config, equality: 'mathematics' }));
  const records = await recordsOf(1);
  const right = records.map(({ context, target }) => Number(target.trim() === String(sumOf(context))));
  expect(right).toContain(1);
  expect(records.map(({ reward }) => reward)).toEqual(right);
  const again = folder.in('again.arrow');
  await runRescore(
    rescoreSchema.parse({ rescore: folder.in('run', 'rollouts', 'step-000001.arrow'), model: TINY, out: again }),
  );
  for await (const rows of await readRollouts(again)) expect(rows.map(({ reward }) => reward)).toEqual(right);
  rmSync(folder.in('run'), { recursive: true });
  await train(configOf(config));
  for (const { reward } of await recordsOf(1)) expect(reward).toBe(0);
});

describe('dynamic sampling', () => {
  /** Questions that begin with an even digit are paid all the same. */
  const someFlat = () => {
    writeFileSync(
      folder.in('flat.mjs'),
      `export default (rows) => rows.map(({ document, rollout }) => (Number(document[0]) % 2 === 0 ? 0.5 : rollout % 2));`,
    );
    return { reward: folder.in('flat.mjs') };
  };
  const isFlat = ({ documentId }: RolloutRecord) => Number(documentId[0]) % 2 === 0;
  const trained = async (step: number) => {
    const records = await recordsOf(step);
    const documents = new Set(records.map(({ documentId }) => documentId));
    expect(records).toHaveLength(4 * documents.size);
    const compared = new Set(records.filter((record) => !isFlat(record)).map(({ documentId }) => documentId));
    return { documents: documents.size, compared: compared.size, records };
  };

  it('replaces prompts without spread until a step has its number, from the step on that is asked for', async () => {
    await train(configOf({ ...someFlat(), steps: 2, documentsPerStep: 6, resampleFrom: 2 }));
    const rows = await readMetrics(folder.in('run'));
    const [first, second] = [await trained(1), await trained(2)];
    expect(first.documents).toBe(6);
    expect(first.compared).toBeLessThan(6); // the second step would be so, too
    expect(rows[0]).not.toHaveProperty('dynamic_sampling/documents');
    expect(second.compared).toBeGreaterThanOrEqual(6);
    expect(second.documents).toBeGreaterThan(second.compared);
    expect(rows[1]).toMatchObject({
      'dynamic_sampling/documents': second.documents,
      'dynamic_sampling/kept_ratio': second.compared / second.documents,
      'dynamic_sampling/filled_ratio': 1,
      frac_reward_zero_std: 1 - second.compared / second.documents, // of all that was sampled
    });
    for (const record of second.records) {
      const half = record.rollout % 2 === 0 ? -0.5 : 0.5; // std of 0 1 0 1 with n - 1: 0.577
      expect(record.advantage).toBeCloseTo(isFlat(record) ? 0 : half / (Math.sqrt(1 / 3) + 1e-4), 9);
    }
    // Tokens are those of all prompts: 7 each, digits and the equals sign.
    expect(Number(rows[1].num_input_tokens) - Number(rows[0].num_input_tokens)).toBe(7 * second.documents);
    expect(rows[1].epoch).toBeCloseTo((6 + second.documents) / 1024, 9);
    const explained = readFileSync('docs/metrics.md', 'utf8');
    expect(Object.keys(rows[1]).filter((name) => !explained.includes(`\`${name}\``))).toEqual([
      'rewards/flat/mean',
      'rewards/flat/std',
    ]);
  });

  it('makes the step that the prompts with spread make by themselves', async () => {
    const config = { ...someFlat(), steps: 1, documentsPerStep: 6, learningRate: 1e-3 };
    await train(configOf({ ...config, resampleFrom: 1 }));
    const compared = (await trained(1)).records.filter((record) => !isFlat(record));
    const ids = [...new Set(compared.map(({ documentId }) => documentId))].slice(0, 6);
    const weights = readFileSync(folder.in('run', 'checkpoints', 'step-000001', 'model.safetensors'));
    rmSync(folder.in('run'), { recursive: true });
    const rows = ids.map((id) => `${JSON.stringify({ id, prompt: `${id}=`, answer: 0 })}\n`);
    writeFileSync(folder.in('few.jsonl'), rows.join(''));
    await train(configOf({ ...config, data: [folder.in('few.jsonl')] }));
    const alone = readFileSync(folder.in('run', 'checkpoints', 'step-000001', 'model.safetensors'));
    const floats = (file: Buffer) => {
      const start = 8 + Number(file.readBigUInt64LE(0));
      return new Float32Array(file.buffer.slice(file.byteOffset + start, file.byteOffset + file.length));
    };
    const [a, b] = [floats(weights), floats(alone)];
    expect(b).toHaveLength(a.length);
    // AdamW's first step is the sign of the gradient: where that is 0 but for rounding, the two may differ.
    const differing = a.reduce((count, value, i) => count + Number(Math.abs(value - b[i]) > 1e-5), 0);
    expect(differing).toBeLessThan(a.length / 100);
  });

  it('ends where the data does, with fewer prompts, and none where all are flat', async () => {
    await train(configOf({ ...someFlat(), steps: 1, documentsPerStep: 8, limit: 8, resampleFrom: 1 }));
    const { documents, compared } = await trained(1);
    expect(documents).toBe(8);
    expect(compared).toBeLessThan(8);
    const [row] = await readMetrics(folder.in('run'));
    expect(row['dynamic_sampling/filled_ratio']).toBe(compared / 8);
    rmSync(folder.in('run'), { recursive: true });
    writeFileSync(folder.in('same.mjs'), 'export default (rows) => rows.map(() => 1);');
    await train(configOf({ reward: folder.in('same.mjs'), steps: 1, resampleFrom: 1 }));
    expect((await trained(1)).documents).toBe(40);
    expect((await readMetrics(folder.in('run')))[0]).toMatchObject({ 'dynamic_sampling/filled_ratio': 0, updates: 0 });
  });

  it('interrupted and resumed is the uninterrupted run', async () => {
    const config = configOf({ ...someFlat(), resampleFrom: 1, steps: 3, limit: 32 });
    await train(config);
    renameSync(folder.in('run'), folder.in('whole'));
    const abort = new AbortController();
    const onProgress = ({ done }: { done: number }) => done >= 1 && abort.abort();
    await expect(train(config, { signal: abort.signal, onProgress })).rejects.toThrow(RunError);
    await train({ ...config, resume: true });
    for (const part of ['rollouts', 'checkpoints/step-000003']) {
      expect(contentOf(folder.in('run', part))).toEqual(contentOf(folder.in('whole', part)));
    }
    expect((await trained(2)).documents).toBeGreaterThan(4);
  });
});

describe('a chat template', () => {
  it('is put around prompts: messages, and on demand texts', async () => {
    const template = `{% for m in messages %}{{ m.role[0] + ':' + m.content + ';' }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}`;
    writeFileSync(folder.in('my.jinja'), template);
    const rows = [
      { prompt: '1+1=', answer: 2 },
      { prompt: [{ role: 'user', content: '1+1=' }], answer: 2 },
    ];
    for (const [i, row] of rows.entries()) {
      writeFileSync(folder.in('chat.jsonl'), `${JSON.stringify(row)}\n`);
      const config = { data: [folder.in('chat.jsonl')], steps: 1, documentsPerStep: 1 };
      await train(configOf({ ...config, run: folder.in('run'), chatTemplate: folder.in('my.jinja') }));
      const [{ context }] = await recordsOf(1);
      expect(context, String(i)).toBe('u:1+1=;a:');
      rmSync(folder.in('run'), { recursive: true });
    }
  });
});

it('killed without warning and resumed is the uninterrupted run', async () => {
  const config = configOf({ model: folder.in('model'), steps: 8, limit: 64 });
  await train(config);
  renameSync(folder.in('run'), folder.in('whole'));
  writeFileSync(folder.in('settings.yaml'), settingsToYaml(trainOptionsSchema, config));
  const metrics = folder.in('run', 'metrics.jsonl');
  const rows = () => (existsSync(metrics) ? readFileSync(metrics, 'utf8').split('\n').length - 1 : 0);
  for (const more of [1, 2]) {
    const before = rows();
    const args = before > 0 ? ['--run', folder.in('run'), '--resume'] : ['--config', folder.in('settings.yaml')];
    const child = spawn(process.execPath, ['--import', 'tsx', 'src/cli/main.ts', 'train', ...args], {
      stdio: 'ignore',
    });
    while (rows() < before + more && child.exitCode === null) await sleep(5);
    child.kill('SIGKILL');
    expect(await once(child, 'exit')).toEqual([null, 'SIGKILL']);
  }
  await train({ ...config, resume: true });
  for (const part of ['rollouts', 'checkpoints/step-000008']) {
    expect(contentOf(folder.in('run', part))).toEqual(contentOf(folder.in('whole', part)));
  }
});

describe('a reward module', () => {
  it('pays the answers in its own way, and is told what is right', async () => {
    writeFileSync(
      folder.in('half.mjs'),
      `export default (completions) => completions.map(({ target, reference, builtInReward, prefix, document }) => {
        if (prefix !== document || builtInReward !== Number(target.trim() === reference)) throw new Error('not so');
        return builtInReward / 2;
      });`,
    );
    await train(configOf({ steps: 1 }));
    const rewards = (await recordsOf(1)).map(({ reward }) => reward / 2);
    rmSync(folder.in('run'), { recursive: true });
    await train(configOf({ steps: 1, reward: folder.in('half.mjs') }));
    expect((await recordsOf(1)).map(({ reward }) => reward)).toEqual(rewards);
    const [row] = await readMetrics(folder.in('run'));
    expect(row['rewards/half/mean']).toBe(row.reward);
  });
});

describe('GRPO refuses', () => {
  const refusal = (rows: string, ...flags: string[]) => {
    writeFileSync(folder.in('bad.jsonl'), rows);
    const { limit: _, ...config } = configOf({ data: [folder.in('bad.jsonl')], documentsPerStep: 1 });
    writeFileSync(folder.in('settings.yaml'), settingsToYaml(trainOptionsSchema, config));
    return refused(folder, ['train', '--config', folder.in('settings.yaml'), ...flags]);
  };
  const file = () => folder.in('bad.jsonl');
  const hint = '. To leave such rows out and go on: --on-bad-rows skip';

  it('rows without an answer, with an empty one, or with one that is no text', async () => {
    expect(await refusal('{"prompt":"1+1="}\n')).toBe(
      `${file()}:1: expected a column "answer", found the columns "prompt"${hint}`,
    );
    expect(await refusal('{"prompt":"1+1=","answer":" "}\n')).toBe(`${file()}:1: "answer" is empty${hint}`);
    expect(await refusal('{"prompt":"1+1=","answer":true}\n')).toBe(
      `${file()}:1: "answer" must be a string, found a boolean${hint}`,
    );
    expect(await refusal('{"prompt":[{"role":"user","content":"1+1="}],"answer":2}\n')).toBe(
      `${file()}:1: a conversation needs a chat template, and the model has none (chat_template.jinja, or "chat_template" in ` +
        'tokenizer_config.json); give one with --chat-template FILE',
    );
    expect(await refusal('{"question":"1+1=","answer":2}\n', '--prompt-column', 'q')).toBe(
      `${file()}:1: expected a column "q", found the columns "question", "answer"${hint}`,
    );
  });

  it('data all of whose prompts are longer than the model has room for', async () => {
    const rows = `${JSON.stringify({ prompt: '1'.repeat(5000), answer: 1 })}\n`;
    // 4,096 positions less a thought of 8, its two delimiters and an answer of 3, whose last token is never fed.
    expect(await refusal(rows)).toBe(
      `the data has no prompts to use: none of the 1 has at most 4084 tokens (the first, ${file()}:1, has 5000), which is what the ` +
        "model's positions leave beside a thought and an answer; lower --max-thought-tokens or --max-completion-tokens",
    );
  });

  it('limits that leave no room, a pattern that is none, and sampling without chance', async () => {
    const row = '{"prompt":"1+1=","answer":2}\n';
    expect(await refusal(row, '--max-completion-tokens', '4096')).toBe(
      "--max-thought-tokens 8: with the delimiters and --max-completion-tokens 4096 this leaves no room for text in the model's " +
        '4096 positions; choose a smaller one',
    );
    expect(
      await refusal(row, '--without-thought', '--max-thought-tokens', '2048', '--max-completion-tokens', '4097'),
    ).toBe(
      "--max-completion-tokens 4097: this leaves no room for text in the model's 4096 positions; choose a smaller one",
    );
    expect(await refusal(row, '--answer-pattern', '(')).toBe(
      '--answer-pattern (: must be a regular expression, as JavaScript has them',
    );
    expect(await refusal(row, '--temperature', '0')).toMatch(/^--temperature 0: must be above 0 for training/);
  });
});
