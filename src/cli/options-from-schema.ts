import type { Argv, Options } from 'yargs';
import type { z } from 'zod';
import { OPTION_GROUPS } from '../config.ts';
import { type OptionSpec, optionSpecs } from '../config-options.ts';
import type { Layer } from '../config-resolve.ts';
import { UserError } from '../errors.ts';

function defaultText(spec: OptionSpec): string | undefined {
  if (spec.meta.defaultText !== undefined) return spec.meta.defaultText;
  return spec.default === undefined || spec.type === 'boolean' ? undefined : String(spec.default);
}

/**
 * The yargs form of a setting. Values reach us as text and are checked by the schema, so that every message, from a flag
 * or from YAML, has one author; defaults are shown here but filled in there, where YAML can still go before them.
 */
function toYargs(spec: OptionSpec): Options {
  const kind = { number: 'number', integer: 'whole number', text: '', list: '', boolean: '', choice: '' }[spec.type];
  const bounds = [kind, spec.bounds, spec.choices.join(' | ')].filter((words) => words !== '').join(', ');
  const notes = [spec.required ? 'required' : '', bounds].filter((words) => words !== '').join('; ');
  const description = notes === '' ? spec.meta.description : `${spec.meta.description} (${notes})`;
  const shown = defaultText(spec);
  return {
    description,
    group: `${spec.meta.group}:`,
    ...(spec.type === 'boolean' ? { boolean: true } : {}),
    ...(spec.type === 'list' ? { array: true, string: true } : {}),
    ...(spec.type === 'text' ? { string: true } : {}),
    ...(spec.type === 'boolean' ? {} : { requiresArg: true }),
    ...(shown === undefined ? {} : { defaultDescription: shown }),
  };
}

/** Declares every setting of a command's schema as a flag (or argument by position) of the command. */
export function declareOptions(yargs: Argv, schema: z.ZodObject): Argv {
  const order = (spec: OptionSpec) => OPTION_GROUPS.indexOf(spec.meta.group);
  for (const spec of optionSpecs(schema).sort((a, b) => order(a) - order(b))) {
    if (spec.meta.positional === true) {
      yargs.positional(spec.name, { type: 'string', description: spec.meta.description });
    } else {
      yargs.option(spec.name, toYargs(spec));
    }
  }
  return yargs;
}

const GLOBAL = new Set(['_', '$0', 'help', 'h', 'version', 'verbose']);

/** Stands for `-` while yargs is at work, to which that begins a flag and is no value of a list. */
const DASH = '\u2010';

/** Arguments as yargs takes them; `flagLayer` gives them back as they were. */
export const protectDash = (args: readonly string[]): string[] => args.map((arg) => (arg === '-' ? DASH : arg));

function restoreDash(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(restoreDash);
  return value === DASH ? '-' : value;
}

/** The flags that were given, by name, unknown ones included: resolveSettings names them and what they may have meant. */
export function flagLayer(argv: Readonly<Record<string, unknown>>): Layer {
  const extra = Array.isArray(argv._) ? argv._.slice(1) : [];
  if (extra.length > 0) throw new UserError(`unexpected argument ${extra.join(' ')}; see --help`);
  return {
    values: Object.fromEntries(
      Object.entries(argv)
        .filter(([name, value]) => !GLOBAL.has(name) && value !== undefined)
        .map(([name, value]) => [name, restoreDash(value)]),
    ),
  };
}
