import type { Argv } from 'yargs';

/** Calls worth copying, below the flags: each on a line of its own, which yargs' own two columns would break. */
export function declareExamples(yargs: Argv, examples: readonly [purpose: string, call: string][]): Argv {
  const lines = examples.flatMap(([purpose, call]) => [
    `  # ${purpose}`,
    ...call.split('\n').map((part) => `  ${part}`),
  ]);
  return yargs.epilogue(`Examples:\n${lines.join('\n')}`);
}
