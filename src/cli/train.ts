import { type TrainConfig, trainOptionsSchema, trainSchema } from '../config.ts';
import { type Layer, readSettingsFile, resolveSettings, settingsToYaml, storedSettings } from '../config-resolve.ts';
import { UserError } from '../errors.ts';
import { checkSameSettings, readRunSettings } from '../run-folder.ts';
import type { Command } from './command.ts';
import { declareExamples } from './examples.ts';
import { type Io, printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';
import { withProgress } from './progress.ts';
import { formatSummary } from './summary.ts';

/** Settings the run was started with, then the YAML file, then the flags; each where it was asked for. */
async function gatherLayers(flags: Layer): Promise<{ saved: Layer | undefined; layers: Layer[] }> {
  const { resume, run, config } = flags.values;
  const saved = resume === true && typeof run === 'string' ? await readRunSettings(run) : undefined;
  const file = typeof config === 'string' ? await readSettingsFile(config) : undefined;
  return { saved, layers: [saved, file, flags].filter((layer) => layer !== undefined) };
}

export const trainCommand: Command = {
  usage: 'train',
  summary: 'Train a model: RLP, RPT, GRPO, next-token prediction, or fine-tuning on responses or given thoughts',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, trainOptionsSchema).usage(
        '$0 train --model DIR --data FILE.. --run DIR [--objective rlp|rpt|grpo|cpt|sft]\n\n' +
          'Train a model on ordinary text, on questions with answers (grpo), or on responses (sft).\n' +
          'Flags go before --config FILE.yaml (whose keys are the flags without dashes), and that before the defaults.\n' +
          'The defaults are those of the RLP paper, which had 32 GPUs: see the examples for smaller values.',
      ),
      [
        [
          'a small run',
          'rlp-ort train --model exported --data notes.txt --run runs/first --steps 20 --documents-per-step 8 \\\n' +
            '  --group-size 8 --max-thought-tokens 64 --learning-rate 1e-4',
        ],
        [
          'answers to the column "prompt", paid when they equal the column "answer"',
          'rlp-ort train --objective grpo --model exported --data questions.jsonl --run runs/grpo --documents-per-step 8 \\\n' +
            '  --max-thought-tokens 64 --max-completion-tokens 32 --eval-data held-out.jsonl --learning-rate 1e-4',
        ],
        [
          'predictions of what comes next, paid when they are right to the byte',
          'rlp-ort train --objective rpt --model exported --data texts.jsonl --run runs/rpt --documents-per-step 8 \\\n' +
            '  --prediction text --max-completion-tokens 1 --max-thought-tokens 64 --entropy-threshold 1 --learning-rate 1e-4',
        ],
        ['where it has got to', 'rlp-ort inspect runs/first'],
        ['go on after the newest checkpoint', 'rlp-ort train --run runs/first --resume --steps 40'],
        ['print the settings and stop', 'rlp-ort train --config small.yaml --run runs/second --dry-run'],
      ],
    ),
  async run(argv, io) {
    const { saved, layers } = await gatherLayers(flagLayer(argv));
    const resolved = resolveSettings(trainOptionsSchema, trainSchema, layers);
    const { json, dryRun, config: _file, ...config } = resolved;
    if (saved !== undefined) checkSameSettings(config, saved);
    if (dryRun) {
      await printMemoryPlan(config, io);
      const settings = Object.fromEntries(storedSettings(trainOptionsSchema, config));
      printResult(io, json, settings, () => settingsToYaml(trainOptionsSchema, config));
      return 0;
    }
    const { train } = await import('../train/train.ts');
    const summary = await withProgress(io, (hooks) => train(config, { ...hooks, signal: io.signal }));
    printResult(io, json, summary, () => formatSummary(summary));
    return 0;
  },
};

/** Where the model is there: settings can be tried out without it. */
async function printMemoryPlan(config: TrainConfig, io: Io): Promise<void> {
  const [{ openModel }, plan] = await Promise.all([import('../model-directory.ts'), import('../train/memory-plan.ts')]);
  try {
    const { config: model } = await openModel(config.model);
    const beside = await plan.besideShapes(config);
    const free = `${(plan.availableMemory() / 1e9).toFixed(1)} GB are free`;
    io.err(`rlp-ort: ${plan.describeNeeds(model, config, beside)}; ${free}\n`);
  } catch (thrown) {
    if (!(thrown instanceof UserError)) throw thrown;
  }
}
