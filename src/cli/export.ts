import { exportSchema } from '../config.ts';
import { resolveSettings } from '../config-resolve.ts';
import type { Command } from './command.ts';
import { declareExamples } from './examples.ts';
import { printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';
import { formatSummary } from './summary.ts';

export const exportCommand: Command = {
  usage: 'export <checkpoint>',
  summary: 'Write the ONNX graphs of a Hugging Face checkpoint',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, exportSchema).usage(
        '$0 export CHECKPOINT --out DIR\n\nWrite the ONNX graphs of a Hugging Face checkpoint.',
      ),
      [
        ['the tiny model that comes with the package', 'rlp-ort export models/tiny-qwen3 --out exported'],
        ['again, over an earlier export', 'rlp-ort export models/tiny-qwen3 --out exported --overwrite'],
      ],
    ),
  async run(argv, io) {
    const { json, ...config } = resolveSettings(exportSchema, exportSchema, [flagLayer(argv)]);
    const { exportCheckpoint } = await import('../export/export-checkpoint.ts');
    const report = await exportCheckpoint(config);
    printResult(io, json, report, () => formatSummary(report));
    return 0;
  },
};
