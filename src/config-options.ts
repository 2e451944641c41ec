import { z } from 'zod';
import { type OptionMeta, optionRegistry } from './config.ts';
import { internal } from './errors.ts';
import { kebab } from './kebab.ts';

/** A setting as the command line and the YAML reader see it, read off its schema. */
export interface OptionSpec {
  /** Key in TypeScript: `groupSize`. */
  key: string;
  /** Flag without dashes and YAML key: `group-size`. */
  name: string;
  type: 'text' | 'list' | 'number' | 'integer' | 'boolean' | 'choice';
  choices: readonly string[];
  /** Lowest and highest value with words for help, such as `at least 2`; empty without bounds. */
  bounds: string;
  default: unknown;
  required: boolean;
  meta: OptionMeta;
}

/** The part of JSON Schema that zod writes for our settings. */
const propertySchema = z.object({
  type: z.enum(['string', 'array', 'number', 'integer', 'boolean']),
  enum: z.array(z.string()).optional(),
  minimum: z.number().optional(),
  exclusiveMinimum: z.number().optional(),
  maximum: z.number().optional(),
  exclusiveMaximum: z.number().optional(),
  default: z.unknown().optional(),
});
const objectSchema = z.object({
  properties: z.record(z.string(), propertySchema),
  required: z.array(z.string()).default([]),
});
type Property = z.output<typeof propertySchema>;

function typeOf(property: Property): OptionSpec['type'] {
  if (property.enum !== undefined) return 'choice';
  if (property.type === 'string') return 'text';
  if (property.type === 'array') return 'list';
  return property.type;
}

function boundsOf(property: Property): string {
  const words: string[] = [];
  if (property.minimum !== undefined) words.push(`at least ${property.minimum}`);
  if (property.exclusiveMinimum !== undefined) words.push(`above ${property.exclusiveMinimum}`);
  // Every integer of zod is bounded by the safe integers: not worth a word.
  if (property.maximum !== undefined && property.maximum < Number.MAX_SAFE_INTEGER) {
    words.push(`at most ${property.maximum}`);
  }
  if (property.exclusiveMaximum !== undefined) words.push(`below ${property.exclusiveMaximum}`);
  return words.join(', ');
}

/** Every setting of a command's schema, in the order of the schema. */
export function optionSpecs(schema: z.ZodObject): OptionSpec[] {
  const json = objectSchema.parse(z.toJSONSchema(schema, { io: 'input' }));
  return Object.entries(json.properties).map(([key, property]) => {
    const meta = optionRegistry.get(schema.shape[key] ?? z.never());
    if (meta === undefined) throw internal(`setting ${key} has no description`);
    return {
      key,
      name: kebab(key),
      type: typeOf(property),
      choices: property.enum ?? [],
      bounds: boundsOf(property),
      default: property.default,
      required: json.required.includes(key),
      meta,
    };
  });
}
