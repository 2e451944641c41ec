import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readRollouts } from '../../src/arrow.ts';
import { type TrainConfig, trainSchema } from '../../src/config.ts';
import type { RolloutRecord } from '../../src/records.ts';
import { type MetricsRow, readMetrics } from '../../src/run-folder.ts';
import { train } from '../../src/train/train.ts';
import { type Workplace, workplace } from '../bad-input/refused.ts';

/** What came of a run. */
export interface Trained {
  /** Bytes of the weights of its last checkpoint. */
  weights: Buffer;
  rows: MetricsRow[];
  /** Of its first step. */
  thoughts: RolloutRecord[];
}

/** A folder with a model of one layer and a few documents to train on. */
export class SmallRuns implements Disposable {
  readonly folder: Workplace;

  private constructor(folder: Workplace) {
    this.folder = folder;
  }

  static async create(): Promise<SmallRuns> {
    const folder = await workplace();
    const rows = Array.from(
      { length: 9 },
      (_, i) => `${JSON.stringify({ id: i, text: `${(i + 10) ** 7} is a number` })}\n`,
    );
    writeFileSync(folder.in('data.jsonl'), rows.join(''));
    return new SmallRuns(folder);
  }

  /** Three steps of RLP in folder/run. */
  config(more: Partial<TrainConfig> = {}): TrainConfig {
    const { folder } = this;
    const ema = (more.objective ?? 'rlp') === 'rlp' && (more.baseline ?? 'ema') === 'ema';
    const few = ['column', 'every'].includes(more.positionStrategy ?? 'uniform') ? {} : { positions: 2 };
    return trainSchema.parse({
      ...{ model: folder.in('model'), data: [folder.in('data.jsonl')], run: folder.in('run') },
      ...{ steps: 3, checkpointEvery: 0, learningRate: 1e-2, threads: 1, ...(ema && { emaDecay: 0.9 }) },
      ...{ documentsPerStep: 3, groupSize: 3, maxThoughtTokens: 5, temperature: 1, ...few },
      ...more,
    });
  }

  /** Trains anew in folder/run. */
  async train(more: Partial<TrainConfig> = {}): Promise<Trained> {
    const config = this.config(more);
    this.clear();
    const { checkpoint } = await train(config);
    const thoughts: RolloutRecord[] = [];
    const file = join(config.run, 'rollouts', 'step-000001.arrow');
    for await (const batch of await readRollouts(file)) thoughts.push(...batch);
    const weights = readFileSync(join(checkpoint, 'model.safetensors'));
    return { weights, rows: await readMetrics(config.run), thoughts };
  }

  clear(): void {
    rmSync(this.folder.in('run'), { recursive: true, force: true });
  }
  [Symbol.dispose](): void {
    this.folder[Symbol.dispose]();
  }
}

/** A figure of every row. */
export const figure = (rows: readonly MetricsRow[], name: string) => rows.map((row) => Number(row[name]));
