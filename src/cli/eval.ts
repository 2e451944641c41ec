import { evalOptionsSchema, evalSchema } from '../config.ts';
import { resolveSettings } from '../config-resolve.ts';
import type { Command } from './command.ts';
import { formatEval } from './eval-table.ts';
import { declareExamples } from './examples.ts';
import { printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';
import { withProgress } from './progress.ts';

export const evalCommand: Command = {
  usage: 'eval',
  summary: 'Evaluate a model on a benchmark',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, evalOptionsSchema).usage(
        '$0 eval --model DIR --task NAME --data FILE.. --out DIR\n\n' +
          "Ask a model a benchmark's questions, with prompts and metrics as in lm-evaluation-harness. docs/eval.md has the tasks.",
      ),
      [
        [
          'GSM8K, five examples before each question, greedy',
          'rlp-ort eval --model exported --task gsm8k --data test.jsonl --shots 5 --shots-data train.jsonl --out eval/gsm8k',
        ],
        [
          'MATH-500 behind a forced thought, pass@1 over 8 samples',
          'rlp-ort eval --model exported --task math-500 --data test.jsonl --out eval/math --think --samples 8 --temperature 0.7',
        ],
        ['MMLU', 'rlp-ort eval --model exported --task mmlu --data test.parquet --out eval/mmlu'],
      ],
    ),
  async run(argv, io) {
    const { json, ...config } = resolveSettings(evalOptionsSchema, evalSchema, [flagLayer(argv)]);
    const { runEval } = await import('../eval-run.ts');
    const summary = await withProgress(io, (hooks) => runEval(config, { ...hooks, signal: io.signal }));
    printResult(io, json, summary, () => formatEval(summary));
    return 0;
  },
};
