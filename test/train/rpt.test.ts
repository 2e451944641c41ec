import { appendFileSync, cpSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { readRollouts } from '../../src/arrow.ts';
import { type TrainConfig, trainOptionsSchema, trainSchema } from '../../src/config.ts';
import { settingsToYaml } from '../../src/config-resolve.ts';
import { loadTokenizer } from '../../src/data/index.ts';
import { RunError } from '../../src/errors.ts';
import { predictionInstruction } from '../../src/prompt.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { contentOf, refused, type Workplace, workplace } from '../bad-input/refused.ts';
import { figure } from './small-run.ts';

const TINY = 'models/tiny-qwen3';

let folder: Workplace;
beforeAll(async () => {
  folder = await workplace();
});
afterAll(() => folder[Symbol.dispose]());
afterEach(() => {
  for (const name of ['run', 'whole']) rmSync(folder.in(name), { recursive: true, force: true });
});

/** Thoughts before the answer of `314159=3`, and what follows them is the prediction. */
const configOf = (more: Partial<TrainConfig> = {}): TrainConfig =>
  trainSchema.parse({
    ...{ objective: 'rpt', model: TINY, data: [join(TINY, 'corpus', 'train.jsonl')], run: folder.in('run') },
    ...{ steps: 3, checkpointEvery: 1, learningRate: 1e-4, documentsPerStep: 4, groupSize: 4, documentsPerBatch: 8 },
    ...{ maxThoughtTokens: 8, maxCompletionTokens: 1, prediction: 'text', positionStrategy: 'column', temperature: 1 },
    threads: 1,
    ...more,
  });

async function recordsOf(step: number): Promise<RolloutRecord[]> {
  const records: RolloutRecord[] = [];
  const file = join(folder.in('run'), 'rollouts', `step-${String(step).padStart(6, '0')}.arrow`);
  for await (const batch of await readRollouts(file)) records.push(...batch);
  return records;
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const sumOf = (context: string) => [...context.replace('=', '')].reduce((sum, digit) => sum + Number(digit), 0) % 10;

describe('RPT', () => {
  it('raises its reward', async () => {
    await train(configOf({ steps: 16, documentsPerStep: 8, groupSize: 8, checkpointEvery: 0 }));
    const rewards = figure(await readMetrics(folder.in('run')), 'reward');
    expect(mean(rewards.slice(0, 4))).toBeLessThan(0.7);
    expect(mean(rewards.slice(-4))).toBeGreaterThan(mean(rewards.slice(0, 4)) + 0.15);
  });

  it('pays what comes next 1, and nothing else', async () => {
    await train(configOf({ steps: 1, maxCompletionTokens: 2 }));
    for (const { context, target, reward } of await recordsOf(1)) {
      // Both tokens must be right: the sum, and the end of the line. Tokens are bytes here.
      expect(reward).toBe(Number(target === `${sumOf(context)}\n`));
    }
    rmSync(folder.in('run'), { recursive: true });
    await train(configOf({ steps: 1, maxCompletionTokens: 2, stop: ['\n'] }));
    for (const { context, target, reward } of await recordsOf(1)) {
      // A stop is no part of what is stated, and the sum alone ends at a token's end, too.
      expect(reward).toBe(
        Number(target.replace(/\n$/, '') === String(sumOf(context)) || target === `${sumOf(context)}\n`),
      );
    }
  });

  it('pays the content of the last box by default, and asks for it; this model has never written one', async () => {
    const boxed = { steps: 1, prediction: 'boxed', maxCompletionTokens: 4 } as const;
    expect([configOf(boxed).prompt, configOf().prompt]).toEqual(['instruction', 'none']);
    await train(configOf(boxed));
    const [row] = await readMetrics(folder.in('run'));
    expect(row).toMatchObject({ reward: 0, frac_reward_zero_std: 1, grad_norm: 0 });
    const asked = (await loadTokenizer(TINY)).encode(predictionInstruction('<think>', '</think>'));
    expect(row.num_input_tokens).toBe(4 * (asked.length + 7)); // seven characters before the answer
    rmSync(folder.in('run'), { recursive: true });
    await train(configOf({ ...boxed, prompt: 'none' }));
    expect((await readMetrics(folder.in('run')))[0].num_input_tokens).toBe(4 * 7);
  });

  it('thinks where the proxy is uncertain: at digits and answers, not at what always comes', async () => {
    // Of a line such as 314159=3 the equals sign and the line break are certain.
    await train(configOf({ steps: 2, positionStrategy: 'every', entropyThreshold: 1, checkpointEvery: 0 }));
    const positions = new Set([...(await recordsOf(1)), ...(await recordsOf(2))].map(({ position }) => position));
    expect(positions.has(8)).toBe(false); // the line break
    expect(positions.has(6)).toBe(false); // the equals sign
    expect([...positions].sort()).toEqual([1, 2, 3, 4, 5, 7]);
    const [row] = await readMetrics(folder.in('run'));
    expect(row['data/documents_kept']).toBe(1);
  });

  it('goes by the likeliest tokens: 2 have an entropy of ln 2 at most, 3 one of ln 3', async () => {
    const more = { steps: 1, positionStrategy: 'every', checkpointEvery: 0 } as const;
    expect(configOf().entropyTopK).toBe(16); // the paper's
    const placesOf = async (settings: Partial<TrainConfig>) => {
      rmSync(folder.in('run'), { recursive: true, force: true });
      await train(configOf({ ...more, ...settings }));
      return (await recordsOf(1)).map(({ documentId, position }) => `${documentId} ${position}`);
    };
    const digits = await placesOf({ entropyTopK: 3, entropyThreshold: 0.71 });
    // Ahead of digits that nothing tells; the equals sign at 6 and the line break at 8 are certain.
    expect(new Set(digits.map((place) => place.split(' ')[1]))).toEqual(new Set(['1', '2', '3', '4', '5']));
    expect(await placesOf({ entropyTopK: 3, entropyThreshold: 0.71, proxyModel: TINY })).toEqual(digits);
    for (const proxyModel of [undefined, TINY]) {
      const tooHigh = placesOf({ entropyTopK: 2, entropyThreshold: 0.71, proxyModel });
      await expect(tooHigh).rejects.toThrow('none of 40 documents has a position');
    }
  });

  it('replaces documents without a hard position by the next ones', async () => {
    const lines = readFileSync(join(TINY, 'corpus', 'train.jsonl'), 'utf8')
      .trim()
      .split('\n')
      .slice(0, 60);
    // Of every other line the position is the equals sign, which is certain.
    const rows = lines.map((line, id) => ({ ...JSON.parse(line), id, positions: [id % 2 === 0 ? 6 : 7] }));
    writeFileSync(folder.in('half.jsonl'), rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
    await train(configOf({ data: [folder.in('half.jsonl')], entropyThreshold: 1, resampleFrom: 2 }));
    const metrics = await readMetrics(folder.in('run'));
    for (const [i, row] of metrics.entries()) {
      const records = await recordsOf(i + 1);
      const documents = new Set(records.map(({ documentId }) => documentId));
      expect([...documents].every((id) => Number(id) % 2 === 1)).toBe(true);
      expect(documents.size).toBe(row['dynamic_sampling/documents'] ?? 4);
      expect(row['data/documents_kept']).toBeGreaterThan(0.2);
      expect(row['data/documents_kept']).toBeLessThan(0.8);
    }
    expect(metrics[2]['dynamic_sampling/documents']).toBeGreaterThan(4);
  });

  it('a proxy of the same weights says the same', async () => {
    const more = { steps: 1, positionStrategy: 'uniform', positions: 2, entropyThreshold: 1 } as const;
    await train(configOf(more));
    const own = (await recordsOf(1)).map(({ position, thought }) => [position, thought]);
    rmSync(folder.in('run'), { recursive: true });
    await train(configOf({ ...more, proxyModel: TINY }));
    expect((await recordsOf(1)).map(({ position, thought }) => [position, thought])).toEqual(own);
  });

  it('interrupted and resumed is the uninterrupted run', async () => {
    const config = configOf({
      ...{ positionStrategy: 'uniform', positions: 2, entropyThreshold: 1, maxCompletionTokens: 2, resampleFrom: 2 },
      ...{ evalData: [join(TINY, 'corpus', 'held-out.jsonl')], evalEvery: 2, limit: 4 },
    });
    await train(config);
    renameSync(folder.in('run'), folder.in('whole'));
    const abort = new AbortController();
    const onProgress = ({ done }: { done: number }) => done >= 2 && abort.abort();
    await expect(train(config, { signal: abort.signal, onProgress })).rejects.toThrow(RunError);
    await train({ ...config, resume: true });
    for (const part of ['rollouts', 'checkpoints/step-000003']) {
      expect(contentOf(folder.in('run', part))).toEqual(contentOf(folder.in('whole', part)));
    }
    const evaluations = async (run: string) =>
      (await readMetrics(folder.in(run))).flatMap((row) => row['eval/accuracy'] ?? []);
    expect(await evaluations('run')).toEqual(await evaluations('whole'));
    expect(await evaluations('run')).toHaveLength(3);
    const logged = (await readMetrics(folder.in('run'))).flatMap((row) => Object.keys(row));
    const explained = readFileSync('docs/metrics.md', 'utf8');
    expect(logged.filter((name) => !explained.includes(`\`${name}\``))).toEqual([]);
  });

  it('ends where no position is hard enough, and says what to do', async () => {
    await expect(train(configOf({ entropyThreshold: 50 }))).rejects.toThrow(
      "step 1: none of 40 documents has a position at which the next token's entropy is at least 50 nats; start a new run with a " +
        'lower --entropy-threshold',
    );
    rmSync(folder.in('run'), { recursive: true });
    const evalData = [join(TINY, 'corpus', 'held-out.jsonl')];
    await expect(train(configOf({ entropyThreshold: 50, evalData, limit: 20 }))).rejects.toThrow(
      "evaluation: none of 20 documents has a position at which the next token's entropy is at least 50 nats; start a new run with a " +
        'lower --entropy-threshold, or leave out --eval-data',
    );
  });
});

describe('RPT refuses', () => {
  const refusal = (...flags: string[]) => {
    writeFileSync(folder.in('settings.yaml'), settingsToYaml(trainOptionsSchema, configOf()));
    return refused(folder, ['train', '--config', folder.in('settings.yaml'), ...flags]);
  };

  it('positions by surprise, and settings of other objectives', async () => {
    expect(await refusal('--position-strategy', 'surprise')).toBe(
      '--position-strategy surprise: is not for rpt: it looks at the token that is to be predicted',
    );
    expect(await refusal('--entropy-top-k', '1')).toBe('--entropy-top-k 1: must be 0 (all tokens) or at least 2');
    expect(await refusal('--horizon', '2')).toBe('--horizon 2: is for --objective rlp only, and this is rpt');
    expect(await refusal('--without-thought')).toBe(
      '--without-thought true: is for --objective grpo only, and this is rpt',
    );
  });

  it('a proxy with another tokenizer', async () => {
    cpSync(TINY, folder.in('proxy'), { recursive: true });
    appendFileSync(folder.in('proxy', 'tokenizer.json'), '\n');
    expect(await refusal('--proxy-model', folder.in('proxy'))).toBe(
      `${folder.in('proxy', 'tokenizer.json')}: is not the tokenizer of ${TINY}; the two models need the same one`,
    );
  });
});
