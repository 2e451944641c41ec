import { isDeepStrictEqual } from 'node:util';

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null;

/** Dotted path, expected and found value of the first difference of two JSON values, for messages; undefined if they are equal. */
export function difference(expected: unknown, found: unknown, path = ''): string | undefined {
  if (isDeepStrictEqual(expected, found)) return undefined;
  if (isObject(expected) && isObject(found)) {
    for (const key of new Set([...Object.keys(expected), ...Object.keys(found)])) {
      const inner = difference(expected[key], found[key], path === '' ? key : `${path}.${key}`);
      if (inner !== undefined) return inner;
    }
  }
  return `${path} is ${JSON.stringify(found)} in the file and ${JSON.stringify(expected)} now`;
}
