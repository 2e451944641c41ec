import { rolloutSchema } from '../config.ts';
import { resolveSettings } from '../config-resolve.ts';
import type { Command } from './command.ts';
import { declareExamples } from './examples.ts';
import { printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';
import { withProgress } from './progress.ts';
import { formatSummary } from './summary.ts';

export const rolloutCommand: Command = {
  usage: 'rollout',
  summary: 'Let a model think before tokens of a text, and score the thoughts',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, rolloutSchema).usage(
        '$0 rollout --model DIR --data FILE.. --out FILE.arrow\n\n' +
          'Sample thoughts at positions of documents and score each by how much likelier it makes the text that follows.',
      ),
      [
        [
          'short thoughts about a text',
          'rlp-ort rollout --model exported --data notes.txt --out thoughts.arrow --max-thought-tokens 64',
        ],
        ['read the result', 'rlp-ort inspect thoughts.arrow'],
      ],
    ),
  async run(argv, io) {
    const { json, ...config } = resolveSettings(rolloutSchema, rolloutSchema, [flagLayer(argv)]);
    const { runRollout } = await import('../rollout-run.ts');
    const summary = await withProgress(io, (hooks) => runRollout(config, { ...hooks, signal: io.signal }));
    printResult(io, json, summary, () => formatSummary(summary));
    return 0;
  },
};
