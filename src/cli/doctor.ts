import { doctorSchema } from '../config.ts';
import { resolveSettings } from '../config-resolve.ts';
import type { Command } from './command.ts';
import { type Check, formatDiagnosis, gatherFacts, judge } from './doctor-checks.ts';
import { declareExamples } from './examples.ts';
import { printResult } from './io.ts';
import { declareOptions, flagLayer } from './options-from-schema.ts';

export const doctorCommand: Command = {
  usage: 'doctor',
  summary: 'Check this machine: Node, ONNX Runtime, CPU, memory, CUDA',
  declare: (yargs) =>
    declareExamples(
      declareOptions(yargs, doctorSchema).usage(
        '$0 doctor [--model DIR --device cuda]\n\nCheck this machine, and say what to do about what is missing. Exit code 2 if it cannot be used.\n' +
          'With a model: load its graphs on the device, and say which nodes run there and which on the CPU.',
      ),
      [
        ['for a script', 'rlp-ort doctor --json'],
        ['what of a model runs on the GPU', 'rlp-ort doctor --model exported --device cuda'],
      ],
    ),
  async run(argv, io) {
    const { json, model, device } = resolveSettings(doctorSchema, doctorSchema, [flagLayer(argv)]);
    const facts = await gatherFacts();
    const checks = judge(facts);
    if (model !== undefined) checks.push(...(await placementChecks(model, device, io.verbose)));
    else if (device !== 'cpu') (await import('../session-options.ts')).sessionOptionsOf({ device });
    const ok = checks.every((check) => check.status !== 'missing');
    printResult(io, json, { ok, ...facts, checks }, () => formatDiagnosis(checks, io.outIsTerminal));
    return ok ? 0 : 2;
  },
};

/** Where the nodes of a model's graphs run, a line a graph. */
async function placementChecks(directory: string, device: string, verbose: boolean): Promise<Check[]> {
  const { graphPlacements } = await import('../graph-placements.ts');
  return (await graphPlacements(directory, device, verbose)).map(({ graph, nodes, notice }) => ({
    ...{ name: graph, status: notice === undefined ? 'ok' : 'absent' },
    found: notice ?? `all of ${nodes.length} nodes on ${device}`,
  }));
}
