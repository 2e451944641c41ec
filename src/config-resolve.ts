import { readFile } from 'node:fs/promises';
import { parseDocument, stringify } from 'yaml';
import type { z } from 'zod';
import { type OptionSpec, optionSpecs } from './config-options.ts';
import { UserError } from './errors.ts';
import { fileError } from './file-error.ts';
import { kebab } from './kebab.ts';
import { nearest } from './nearest.ts';

/** Settings from one place, by flag name. A later layer goes before an earlier one. */
export interface Layer {
  /** The YAML file they come from; undefined: the command line, whose numbers are still text. */
  file?: string;
  values: Readonly<Record<string, unknown>>;
}

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** A flag's text as the type its schema asks for; text that does not fit stays text, for the schema to refuse. */
function fromText(spec: OptionSpec, value: unknown): unknown {
  const numeric = spec.type === 'number' || spec.type === 'integer';
  return numeric && typeof value === 'string' && NUMBER.test(value) ? Number(value) : value;
}

/** How a value was written: `--group-size 1`, or `group-size: 1 in FILE`. */
function quote(name: string, value: unknown, layer: Layer | undefined, spec: OptionSpec | undefined): string {
  const isText = typeof value === 'string' && value !== '';
  const isList = spec?.type === 'list' && Array.isArray(value) && value.length > 0;
  const shown = isText ? value : isList ? value.join(' ') : JSON.stringify(value);
  if (layer?.file !== undefined) return `${name}: ${shown} in ${layer.file}`;
  const flag = spec?.meta.positional ? name.toUpperCase() : `--${name}`;
  return value === undefined ? flag : `${flag} ${shown}`;
}

const ARTICLES = {
  text: 'text',
  list: 'a list',
  number: 'a number',
  integer: 'a whole number',
  boolean: 'true or false',
};

/** What the setting accepts, in words: `must be a whole number, at least 2`. */
function expectation(spec: OptionSpec, value: unknown): string {
  if (spec.type === 'choice') {
    // Of two or three letters everything is near to something.
    const close = typeof value === 'string' && value.length > 3 ? nearest(value, spec.choices) : undefined;
    return `must be one of ${spec.choices.join(', ')}${close === undefined ? '' : `; did you mean ${close}?`}`;
  }
  return `must be ${ARTICLES[spec.type]}${spec.bounds === '' ? '' : `, ${spec.bounds}`}`;
}

function problemOf(issue: z.core.$ZodIssue, spec: OptionSpec, value: unknown): string {
  const hint = spec.meta.hint === undefined ? '' : ` (${spec.meta.hint})`;
  if (Array.isArray(value) && spec.type !== 'list') return 'is given more than once';
  if (Array.isArray(value) && value.length === 0) return 'needs at least one value';
  if (issue.code === 'custom' || issue.code === 'invalid_format') return issue.message;
  if (issue.code === 'too_small' && issue.origin === 'string') return 'must not be empty';
  return expectation(spec, value) + hint;
}

function unknownKey(name: string, layer: Layer, specs: readonly OptionSpec[]): string {
  const names = specs.filter((spec) => layer.file === undefined || !spec.meta.callOnly).map((spec) => spec.name);
  const suggestion = nearest(name, names);
  const where = layer.file === undefined ? `--${name}` : `${name} in ${layer.file}`;
  const dashes = layer.file === undefined ? '--' : '';
  return `${where}: unknown ${layer.file === undefined ? 'option' : 'key'}${
    suggestion === undefined ? '; see --help' : `; did you mean ${dashes}${suggestion}?`
  }`;
}

/**
 * Checks the layers (defaults of the schema < first layer < ... < last layer) and returns the settings.
 *
 * @param options object schema that lists the settings
 * @param schema the same with its checks across settings
 * @throws UserError that lists every problem with its flag or key, the value found and the values allowed
 */
export function resolveSettings<S extends z.ZodType>(
  options: z.ZodObject,
  schema: S,
  layers: readonly Layer[],
): z.output<S> {
  const specs = optionSpecs(options);
  const byName = new Map(specs.map((spec) => [spec.name, spec]));
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  const origin = new Map<string, Layer>();
  for (const layer of layers) {
    for (const [name, given] of Object.entries(layer.values)) {
      const spec = byName.get(name);
      if (spec === undefined || (layer.file !== undefined && spec.meta.callOnly)) {
        problems.push(unknownKey(name, layer, specs));
        continue;
      }
      const list = spec.type === 'list' && typeof given === 'string' ? [given] : given;
      values[spec.key] = layer.file === undefined ? fromText(spec, list) : list;
      origin.set(spec.key, layer);
    }
  }
  const parsed = schema.safeParse(values);
  const seen = new Set<string>();
  for (const issue of parsed.error?.issues ?? []) {
    const key = String(issue.path[0]);
    const spec = byName.get(kebab(key));
    if (seen.has(key) || spec === undefined) continue;
    seen.add(key);
    const value = key in values ? values[key] : spec.default;
    const layer = origin.get(key);
    const where = quote(spec.name, layer === undefined ? value : layer.values[spec.name], layer, spec); // as it was written
    problems.push(
      value === undefined
        ? `${where} is missing: ${spec.meta.description}`
        : `${where}: ${problemOf(issue, spec, value)}`,
    );
  }
  if (problems.length === 1) throw new UserError(problems[0] ?? '');
  if (problems.length > 1) throw new UserError(`${problems.length} problems:\n  ${problems.join('\n  ')}`);
  return schema.parse(values);
}

/**
 * Reads a YAML file of settings (`group-size: 8`), one level deep.
 * @throws UserError if the file cannot be read, is not YAML, or is not a list of keys with values
 */
export async function readSettingsFile(file: string): Promise<Layer> {
  let source: string;
  try {
    source = await readFile(file, 'utf8');
  } catch (thrown) {
    throw fileError('cannot read', file, thrown);
  }
  const document = parseDocument(source);
  const [error] = document.errors;
  if (error !== undefined) throw new UserError(`${file}: not valid YAML: ${error.message.trimEnd()}`);
  const content: unknown = document.toJS() ?? {};
  if (typeof content !== 'object' || content === null || Array.isArray(content)) {
    throw new UserError(
      `${file}: expected lines of \`key: value\` (such as group-size: 8), found another kind of YAML`,
    );
  }
  return { file, values: { ...content } };
}

/** Settings as YAML under their flag names, in the order of the schema; without those that belong to one call only. */
export function settingsToYaml(options: z.ZodObject, settings: Readonly<Record<string, unknown>>): string {
  return stringify(Object.fromEntries(storedSettings(options, settings)));
}

/** Settings as a file of rollouts records them: by key, in the order of the schema, without those of one call only. */
export function recordedSettings(
  options: z.ZodObject,
  settings: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const specs = optionSpecs(options).filter((spec) => !spec.meta.callOnly && settings[spec.key] !== undefined);
  return Object.fromEntries(specs.map(({ key }) => [key, settings[key]]));
}

/** [flag name, value] of every setting that describes the work rather than one call of the command. */
export function storedSettings(
  options: z.ZodObject,
  settings: Readonly<Record<string, unknown>>,
): [name: string, value: unknown][] {
  return optionSpecs(options)
    .filter((spec) => !spec.meta.callOnly && settings[spec.key] !== undefined)
    .map((spec) => [spec.name, settings[spec.key]]);
}
