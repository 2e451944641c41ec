import { stat } from 'node:fs/promises';
import { inspectSchema } from '../config.ts';
import { resolveSettings } from '../config-resolve.ts';
import { UserError } from '../errors.ts';
import { fileError } from '../file-error.ts';
import { rolloutStatistics, type ThoughtRow, thoughtRow } from '../report/rollout-statistics.ts';
import { formatRun, runReport } from '../report/run.ts';
import { formatSelection, selectThoughts } from '../report/thoughts.ts';
import {
  isRunFolder,
  listCheckpoints,
  listFailedSteps,
  readMetrics,
  readRunSettings,
  runOwner,
} from '../run-folder.ts';
import type { Command } from './command.ts';
import { declareExamples } from './examples.ts';
import { type Io, printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';
import { formatSummary } from './summary.ts';

interface InspectOptions {
  path: string;
  count: number;
  seed: number;
  json: boolean;
}

async function inspectRollouts({ path, count, seed, json }: InspectOptions, io: Io): Promise<void> {
  const { readRollouts } = await import('../arrow.ts');
  const file = await readRollouts(path);
  const rows: ThoughtRow[] = [];
  for await (const batch of file) for (const record of batch) rows.push(thoughtRow(record));
  if (rows.length === 0) throw new UserError(`${path}: holds no thoughts`);
  const statistics = rolloutStatistics(rows);
  const selection = selectThoughts(rows, count, seed);
  const { metadata, complete } = file;
  printResult(io, json, { path, complete, metadata, statistics, ...selection }, () => {
    const state = complete ? '' : ' (not finished: these are the batches that were written)';
    const shown = { ...statistics, modelHash: metadata.modelHash };
    return `${path}${state}\n${formatSummary(shown)}\n\n${formatSelection(selection, io.outIsTerminal)}`;
  });
}

async function inspectRun({ path, json }: InspectOptions, io: Io): Promise<void> {
  const [{ values: settings }, metrics, checkpoints, failedSteps, owner] = await Promise.all([
    readRunSettings(path),
    readMetrics(path),
    listCheckpoints(path),
    listFailedSteps(path),
    runOwner(path),
  ]);
  const facts = { path, settings, checkpoints, failedSteps, ...(owner !== undefined && { process: owner }) };
  const report = runReport(facts, metrics);
  printResult(io, json, { ...report, metricsRows: metrics.length }, () => formatRun(report, io.outIsTerminal));
}

export const inspectCommand: Command = {
  usage: 'inspect <path>',
  summary: 'Show what a rollout file or a run folder holds',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, inspectSchema).usage(
        '$0 inspect FILE.arrow | RUN\n\nShow what a rollout file or a run folder holds.',
      ),
      [
        ['statistics, and the five best, worst and random thoughts', 'rlp-ort inspect thoughts.arrow --count 5'],
        ['where a run has got to, its first and last metrics, checkpoints and settings', 'rlp-ort inspect runs/first'],
      ],
    ),
  async run(argv, io) {
    const options = resolveSettings(inspectSchema, inspectSchema, [flagLayer(argv)]);
    const isFolder = await stat(options.path).then(
      (found) => found.isDirectory(),
      (thrown) => {
        throw fileError('cannot read', options.path, thrown);
      },
    );
    if (!isFolder) await inspectRollouts(options, io);
    else if (await isRunFolder(options.path)) await inspectRun(options, io);
    else {
      throw new UserError(`${options.path}: neither a rollout file nor a run folder (a run folder has a config.yaml)`);
    }
    return 0;
  },
};
