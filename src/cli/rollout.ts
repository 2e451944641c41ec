import { rescoreSchema, rolloutOptionsSchema, rolloutSchema } from '../config.ts';
import { type Layer, resolveSettings } from '../config-resolve.ts';
import type { Command } from './command.ts';
import { declareExamples } from './examples.ts';
import { type Io, printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';
import { withProgress } from './progress.ts';
import { formatSummary } from './summary.ts';

export const rolloutCommand: Command = {
  usage: 'rollout',
  summary: 'Let a model think before tokens of a text, and score the thoughts',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, rolloutOptionsSchema).usage(
        '$0 rollout --model DIR --data FILE.. --out FILE.arrow\n' +
          '$0 rollout --rescore FILE.arrow --out OTHER.arrow [--model DIR] [--baseline-model DIR] [--reward FILE.mjs]\n\n' +
          'Sample thoughts at positions of documents and score each by how much likelier it makes the text that follows.\n' +
          'Or score the thoughts of a file again, under other weights or by another reward.',
      ),
      [
        [
          'short thoughts about a text',
          'rlp-ort rollout --model exported --data notes.txt --out thoughts.arrow --max-thought-tokens 64',
        ],
        ['read the result', 'rlp-ort inspect thoughts.arrow'],
        [
          'what another checkpoint makes of the same thoughts',
          'rlp-ort rollout --rescore thoughts.arrow --model runs/first/checkpoints/step-000020 --out again.arrow',
        ],
      ],
    ),
  async run(argv, io) {
    const flags = flagLayer(argv);
    const { json, summary } = await (flags.values.rescore === undefined ? sample(flags, io) : rescore(flags, io));
    printResult(io, json, summary, () => formatSummary(summary));
    return 0;
  },
};

async function sample(flags: Layer, io: Io) {
  const { json, ...config } = resolveSettings(rolloutOptionsSchema, rolloutSchema, [flags]);
  const { runRollout } = await import('../rollout-run.ts');
  return { json, summary: await withProgress(io, (hooks) => runRollout(config, { ...hooks, signal: io.signal })) };
}

async function rescore(flags: Layer, io: Io) {
  const { json, ...config } = resolveSettings(rolloutOptionsSchema, rescoreSchema, [flags]);
  const { runRescore } = await import('../rescore.ts');
  return { json, summary: await withProgress(io, (hooks) => runRescore(config, { ...hooks, signal: io.signal })) };
}
