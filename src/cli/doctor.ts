import { doctorSchema } from '../config.ts';
import { resolveSettings } from '../config-resolve.ts';
import type { Command } from './command.ts';
import { formatDiagnosis, gatherFacts, judge } from './doctor-checks.ts';
import { declareExamples } from './examples.ts';
import { printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';

export const doctorCommand: Command = {
  usage: 'doctor',
  summary: 'Check this machine: Node, ONNX Runtime, CPU, memory, CUDA',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, doctorSchema).usage(
        '$0 doctor\n\nCheck this machine, and say what to do about what is missing. Exit code 2 if it cannot be used.',
      ),
      [['for a script', 'rlp-ort doctor --json']],
    ),
  async run(argv, io) {
    const { json } = resolveSettings(doctorSchema, doctorSchema, [flagLayer(argv)]);
    const facts = await gatherFacts();
    const checks = judge(facts);
    const ok = checks.every((check) => check.status !== 'missing');
    printResult(io, json, { ok, ...facts, checks }, () => formatDiagnosis(checks, io.outIsTerminal));
    return ok ? 0 : 2;
  },
};
