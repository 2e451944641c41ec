import type { DType } from '../dtypes.ts';
import { internal } from '../errors.ts';
import type { Op } from './operators.ts';

/**
 * Graph intermediate representation.
 *
 * Invariants, checked by verify.ts:
 * - a Value has exactly one origin: a graph input, an initializer, or one output of one node;
 * - nodes stand in topological order: every input of a node originates before it;
 * - an initializer has a static shape and as many bytes as that takes;
 * - dtype and shape of every node output are what operators.ts infers for it;
 * - only inputs, initializers and outputs have names; all other names are made at serialization;
 * - a body of a Loop or an If is a graph of its own, without initializers, whose nodes may also use values that originate
 *   before the Loop or If in the graphs around it.
 */

/** A number is static; a string is symbolic: equal strings are equal sizes at run time. */
export type Dim = number | string;
export type Shape = readonly Dim[];

/** One tensor of the graph. Identity is the object, not a name. */
export class Value {
  readonly dtype: DType;
  readonly shape: Shape;
  constructor(dtype: DType, shape: Shape) {
    this.dtype = dtype;
    this.shape = shape;
  }
  get rank(): number {
    return this.shape.length;
  }
  /** Shape and dtype as the printer writes them: `float32[D, P, 64]`. */
  toString(): string {
    return `${this.dtype}[${this.shape.join(', ')}]`;
  }
}

/** Numbers are ints; a float must be said, because ONNX tells the two apart. A graph is a body of a Loop or an If. */
export type Attribute = number | readonly number[] | string | { readonly float: number } | Graph;
export type Attributes = Readonly<Record<string, Attribute>>;

export interface Node {
  readonly op: Op;
  /** null: an optional input left out. */
  readonly inputs: readonly (Value | null)[];
  readonly attributes: Attributes;
  readonly outputs: readonly Value[];
}

/** The bodies of a Loop or an If, by the attribute that they are. */
export const bodiesOf = ({ attributes }: Node): [string, Graph][] =>
  Object.entries(attributes).filter((entry): entry is [string, Graph] => entry[1] instanceof Graph);

/** Where the bytes of an initializer are: in the graph, or in a file beside it (offset and length in bytes). */
export type InitializerData =
  | { readonly kind: 'inline'; readonly bytes: Uint8Array }
  | { readonly kind: 'external'; readonly location: string; readonly offset: number; readonly length: number };

export interface Initializer {
  /** Undefined for constants of the builder, which nobody looks up. */
  readonly name: string | undefined;
  readonly value: Value;
  readonly data: InitializerData;
}

export class Graph {
  readonly name: string;
  readonly inputs = new Map<string, Value>();
  readonly initializers: Initializer[] = [];
  readonly nodes: Node[] = [];
  readonly outputs = new Map<string, Value>();

  constructor(name: string) {
    this.name = name;
  }

  addInput(name: string, value: Value): Value {
    this.#claim(name);
    this.inputs.set(name, value);
    return value;
  }

  addInitializer(initializer: Initializer): Value {
    if (initializer.name !== undefined) this.#claim(initializer.name);
    this.initializers.push(initializer);
    return initializer.value;
  }

  addOutput(name: string, value: Value): void {
    if (this.outputs.has(name)) throw internal(`graph ${this.name}: two outputs named ${name}`);
    this.outputs.set(name, value);
  }

  readonly #names = new Set<string>();
  #claim(name: string): void {
    if (this.#names.has(name)) throw internal(`graph ${this.name}: two inputs or initializers named ${name}`);
    this.#names.add(name);
  }
}

/** The size of a run-time sum, product or copy of dims; static when all parts are. */
export const addDims = (dims: readonly Dim[]): Dim => combineDims(dims, '+', (a, b) => a + b, 0);
export const multiplyDims = (dims: readonly Dim[]): Dim => combineDims(dims, '*', (a, b) => a * b, 1);

function combineDims(dims: readonly Dim[], sign: string, apply: (a: number, b: number) => number, unit: number): Dim {
  const constant = dims.filter((dim) => typeof dim === 'number').reduce(apply, unit);
  const symbols = dims.filter((dim) => typeof dim === 'string').map((dim) => (/[+]/.test(dim) ? `(${dim})` : dim));
  if (symbols.length === 0) return constant;
  if (constant !== unit) symbols.push(String(constant));
  return symbols.length === 1 ? symbols[0].replace(/^\((.*)\)$/, '$1') : symbols.join(sign);
}

/** NumPy broadcasting. Two symbols broadcast only when they are the same symbol. */
export function broadcastShapes(a: Shape, b: Shape): Shape {
  const rank = Math.max(a.length, b.length);
  return Array.from({ length: rank }, (_, i) => {
    const x = a[i - rank + a.length] ?? 1;
    const y = b[i - rank + b.length] ?? 1;
    if (x === y || y === 1) return x;
    if (x === 1) return y;
    throw internal(`shapes [${a.join(', ')}] and [${b.join(', ')}] do not broadcast at axis ${i}`);
  });
}

export const sameShape = (a: Shape, b: Shape): boolean => a.length === b.length && a.every((dim, i) => dim === b[i]);

export function normalizeAxis(axis: number, rank: number): number {
  const normalized = axis < 0 ? axis + rank : axis;
  if (!Number.isInteger(axis) || normalized < 0 || normalized >= rank) {
    throw internal(`axis ${axis} is outside a tensor of rank ${rank}`);
  }
  return normalized;
}
