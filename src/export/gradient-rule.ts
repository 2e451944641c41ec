import { internal } from '../errors.ts';
import type { GraphBuilder } from './builder.ts';
import type { Attributes, Value } from './ir.ts';
import { sameShape } from './ir.ts';

/** What a gradient rule is made of, and the few tools that several rules share. */
export interface RuleArguments {
  b: GraphBuilder;
  /** Inputs and outputs of the operator. */
  x: readonly Value[];
  y: readonly Value[];
  /** d loss / d y; undefined for an output the loss does not depend on. At least one is there. */
  dys: readonly (Value | undefined)[];
  attributes: Attributes;
  /** Values that a gradient is wanted for, and what has been gathered of each so far. */
  varying: ReadonlySet<Value>;
  sums: ReadonlyMap<Value, Value>;
}

/**
 * d loss / d x for one input, built only when it is wanted: either a value of x's shape or of a shape that x broadcasts
 * to, or an addition onto what has been gathered so far, which spares a dense sum. `alone` is what to do before anything
 * has been gathered; zeros to add to, if not said. `total` is for a rule that has added to `sums` itself.
 */
export type Part = (() => Value) | { onto(sum: Value): Value; alone?(): Value } | { total(): Value };

/** One part per input; undefined for inputs that have no gradient, such as indices. */
export type Rule = (rule: RuleArguments) => readonly (Part | undefined)[];

/** Nodes that are differentiated as one; see GraphBuilder.composite. */
export interface Composite {
  /** Index of its first node; the last one is what it is found by. */
  start: number;
  inputs: readonly Value[];
  outputs: readonly Value[];
  rule: Rule;
}

/** The rule of an operator with one output: dy is there for sure. */
export const single =
  (rule: (rule: RuleArguments & { dy: Value }) => readonly (Part | undefined)[]): Rule =>
  (given) => {
    const [dy] = given.dys;
    if (dy === undefined) throw internal('a rule was asked for a gradient without one to start from');
    return rule({ ...given, dy });
  };

/** A subexpression that several parts share, built when the first of them is. */
export function once<T>(make: () => T): () => T {
  let made: { value: T } | undefined;
  return () => {
    made ??= { value: make() };
    return made.value;
  };
}

/**
 * The run-time shape, int64 [rank]. Read from the graph inputs where they know it: asking the value itself would keep
 * an activation of the forward pass in memory.
 */
const shapeVector = (b: GraphBuilder, like: Value): Value =>
  like.shape.every((dim) => b.knows(dim)) ? b.dims(like.shape) : b.shapeOf(like);

/** int64 [1]: the run-time size of one axis. */
export function sizeOf(b: GraphBuilder, x: Value, axis: number): Value {
  return b.knows(x.shape[axis]) ? b.dim(x.shape[axis]) : b.shapeOf(x, axis, axis + 1);
}

export const zerosLike = (b: GraphBuilder, like: Value): Value =>
  b.node('ConstantOfShape', [shapeVector(b, like)], { dtype: like.dtype }, [like.shape])[0];

export const expandLike = (b: GraphBuilder, x: Value, like: Value): Value =>
  sameShape(x.shape, like.shape) ? x : b.node('Expand', [x, shapeVector(b, like)], {}, [like.shape])[0];

export function reshapeLike(b: GraphBuilder, x: Value, like: Value): Value {
  // One size can be left to ONNX's -1; axes that keep their symbol need none.
  const unknown = like.shape.filter((dim, axis) => x.shape[axis] !== dim && !b.knows(dim));
  return unknown.length <= 1 ? b.reshape(x, like.shape) : b.reshapeLike(x, like);
}

/** The product of sizes as a scalar of x's dtype: static where it can be. */
export function countAlong(b: GraphBuilder, x: Value, axes: readonly number[]): Value {
  const isStatic = (axis: number) => typeof x.shape[axis] === 'number';
  const known = axes.filter(isStatic).reduce((product, axis) => product * Number(x.shape[axis]), 1);
  const measured = axes
    .filter((axis) => !isStatic(axis))
    .map((axis) => b.cast(b.squeeze(sizeOf(b, x, axis), [0]), x.dtype));
  const factors = known === 1 && measured.length > 0 ? measured : [b.scalar(x.dtype, known), ...measured];
  return factors.reduce((product, size) => b.mul(product, size));
}

/** 0, 1, ... rank - 1. */
export const axesOf = (x: Value): number[] => x.shape.map((_, axis) => axis);

export function intAttribute(attributes: Attributes, name: string, fallback: number): number {
  const value = attributes[name] ?? fallback;
  if (typeof value !== 'number') throw internal(`attribute ${name} must be an integer`);
  return value;
}

export function intsAttribute(attributes: Attributes, name: string): readonly number[] {
  const value = attributes[name];
  if (!Array.isArray(value)) throw internal(`attribute ${name} must be a list of integers`);
  return value;
}
