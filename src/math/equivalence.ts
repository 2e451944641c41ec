import { uniformStream } from '../random.ts';
import { abs, add, type Complex, divide, negate } from './complex.ts';
import { call, type Expression, mapParts, parts } from './expression.ts';
import { isVariable, numericValue } from './numeric.ts';
import { parseAnswer } from './parser.ts';
import { equalRationals, exactValue } from './rational.ts';

/**
 * Whether two final answers are the same mathematics. Both are read, and compared
 * - by their exact values, where they are made of rational numbers by rational operations: 1/2 is 0.5, 0.333 is not 1/3;
 * - else by their values in double precision, to nine digits, at several points where they have variables: x^2+2x+1 is (x+1)^2;
 * - part by part: points, intervals and matrices in their order, sets and lists in any; the brackets of an interval count;
 * - relations by the difference of their sides, which may be multiplied: x = 2y is 2x - 4y = 0. `x = 5` is also 5, `x \in A` is A,
 *   and x > 2 is (2, \infty).
 * A unit is left out where only one answer has one, and must be the same else. 50% is 50, and 1/2.
 *
 * Never throws, and takes milliseconds whatever a model has written. What cannot be read is equal to nothing.
 */
export function equivalent(answer: string, reference: string): boolean {
  const [a, b] = [parseAnswer(answer), parseAnswer(reference)];
  if (a === undefined || b === undefined) return false;
  const [x, y] = [a.expression, b.expression];
  if (a.unit !== b.unit && a.unit !== '' && b.unit !== '') return false;
  if (equal(x, y)) return true;
  if (a.unit === b.unit) return false;
  if (a.unit === '%') return equal(call('divide', x, HUNDRED), y);
  return b.unit === '%' && equal(x, call('divide', y, HUNDRED));
}

const HUNDRED: Expression = { kind: 'number', value: { n: 100n, d: 1n } };
const INFINITY: Expression = { kind: 'symbol', name: '\\infty' };

type Relation = Extract<Expression, { kind: 'relation' }>;

/** Items of a set, at most: each is compared with each of the other. */
const MAX_ITEMS = 32;

function equal(a: Expression, b: Expression): boolean {
  const [x, y] = [withoutSigns(a), withoutSigns(b)];
  if (x.kind === 'relation' && y.kind === 'relation') return equalRelations(x, y);
  if (isValue(x) && isValue(y)) return equalValues(x, y);
  const [inX, inY] = [asInterval(x), asInterval(y)];
  if (x.kind === 'relation' || (inX !== undefined && y.kind === 'tuple')) {
    const said = inX !== undefined && y.kind === 'tuple' ? inX : x.kind === 'relation' ? assigned(x) : undefined;
    return said !== undefined && equal(said, y);
  }
  if (y.kind === 'relation' || (inY !== undefined && x.kind === 'tuple')) return equal(y, x);
  // {5} is 5.
  if (x.kind === 'set' && y.kind !== 'set') return x.items.length === 1 && equal(x.items[0], y);
  if (y.kind === 'set' && x.kind !== 'set') return equal(y, x);
  if (x.kind !== y.kind) return false;
  if (x.kind === 'tuple' && y.kind === 'tuple') return x.brackets === y.brackets && equalInOrder(x.items, y.items);
  if (x.kind === 'matrix' && y.kind === 'matrix') {
    const rows = (matrix: typeof x): Expression[] =>
      matrix.rows.map((items) => ({ kind: 'tuple', brackets: '', items }));
    return equalInOrder(rows(x), rows(y));
  }
  if (x.kind === 'difference') return equalInOrder(parts(x), parts(y));
  const operands = (e: Expression): Expression[] =>
    e.kind === x.kind && e.kind !== 'set' ? parts(e).flatMap(operands) : [e];
  return x.kind === 'set' ? equalSets(parts(x), parts(y)) : equalSets(operands(x), operands(y));
}

const isValue = ({ kind }: Expression): boolean => kind === 'number' || kind === 'symbol' || kind === 'call';

const equalInOrder = (xs: readonly Expression[], ys: readonly Expression[]): boolean =>
  xs.length === ys.length && xs.every((x, i) => equal(x, ys[i]));

function equalSets(xs: readonly Expression[], ys: readonly Expression[]): boolean {
  if (xs.length > MAX_ITEMS || ys.length > MAX_ITEMS) return false;
  // Each pair once: sets within sets would take twice as long with each depth.
  const same = xs.map((x) => ys.map((y) => equal(x, y)));
  return same.every((row) => row.some(Boolean)) && ys.every((_, j) => same.some((row) => row[j]));
}

/** An expression with \pm as the set of its two values; all signs in it go together. */
function withoutSigns(expression: Expression): Expression {
  if (expression.kind === 'set') return { kind: 'set', items: expression.items.flatMap(signs) };
  const variants = signs(expression);
  return variants.length === 1 ? expression : { kind: 'set', items: variants };
}

function signs(expression: Expression): Expression[] {
  if (!hasSign(expression)) return [expression];
  const chosen = (sign: 1 | -1) => {
    const choose = (part: Expression): Expression => {
      const inner = mapParts(part, choose);
      if (inner.kind !== 'call' || inner.operation !== 'plus-minus') return inner;
      const [left, right] = inner.args;
      return call('add', left, sign === 1 ? right : call('negate', right));
    };
    return choose(expression);
  };
  return [chosen(1), chosen(-1)];
}

const hasSign = (expression: Expression): boolean =>
  (expression.kind === 'call' && expression.operation === 'plus-minus') || parts(expression).some(hasSign);

/** What `x = 5` and `f(x) = 5` say of x and f(x); undefined of other relations. */
function assigned({ sign, left, right }: Relation): Expression | undefined {
  if (sign !== '=') return undefined;
  if (isName(left)) return right;
  return isName(right) && variablesOf(left).size === 0 ? left : undefined;
}

/** A variable, or a function of one. */
function isName(expression: Expression): boolean {
  if (expression.kind === 'symbol') return isVariable(expression.name);
  return (
    expression.kind === 'call' &&
    expression.operation === 'multiply' &&
    expression.args.every((part) => part.kind === 'symbol' && isVariable(part.name))
  );
}

/** x > 2 and 1 < x <= 2 as intervals; undefined of anything else. */
function asInterval(expression: Expression): Expression | undefined {
  const relations = expression.kind === 'set' ? expression.items : [expression];
  if (relations.length === 0 || relations.length > 2) return undefined;
  let [below, above]: Expression[] = [call('negate', INFINITY), INFINITY];
  let brackets = ['(', ')'];
  const names = new Set<string>();
  for (const relation of relations) {
    if (relation.kind !== 'relation' || (relation.sign !== '<' && relation.sign !== '<=')) return undefined;
    const { sign, left, right } = relation;
    const [name, bound] = left.kind === 'symbol' && isVariable(left.name) ? [left, right] : [right, left];
    if (name.kind !== 'symbol' || !isVariable(name.name) || variablesOf(bound).size > 0) return undefined;
    names.add(name.name);
    const closed = sign === '<=';
    if (name === left) [above, brackets] = [bound, [brackets[0], closed ? ']' : ')']];
    else [below, brackets] = [bound, [closed ? '[' : '(', brackets[1]]];
  }
  return names.size === 1 ? { kind: 'tuple', brackets: brackets.join(''), items: [below, above] } : undefined;
}

function variablesOf(expression: Expression): Set<string> {
  if (expression.kind === 'symbol') return new Set(isVariable(expression.name) ? [expression.name] : []);
  return new Set(parts(expression).flatMap((part) => [...variablesOf(part)]));
}

/** Points at which expressions with variables are compared: positive ones, some of either sign, and whole numbers. */
const POINTS = 9;
/** Of these, how many must have values: one may be a pole, or outside of a domain. */
const ENOUGH = 3;

/** The value of a variable at a point: the same in every comparison. */
function valueAt(point: number): (name: string) => number {
  return (name) => {
    const uniform = uniformStream(0, 'equivalence', name)(point);
    if (point < 3) return 0.25 + 1.5 * uniform;
    return point < 6 ? 4 * uniform - 2 : 1 + Math.floor(6 * uniform);
  };
}

/** Whether two numbers are equal to nine digits; undefined where one of them is none. */
function close(x: Complex, y: Complex): boolean | undefined {
  const isNumber = ({ re, im }: Complex) => Number.isFinite(re) && Number.isFinite(im);
  if (!isNumber(x) || !isNumber(y)) return undefined;
  const difference = abs(add(x, negate(y)));
  return difference <= 1e-9 * Math.max(abs(x), abs(y)) || difference < 1e-12;
}

function equalValues(x: Expression, y: Expression): boolean {
  const [exactX, exactY] = [exactValue(x), exactValue(y)];
  if (exactX !== undefined && exactY !== undefined) return equalRationals(exactX, exactY);
  const constant = variablesOf(x).size === 0 && variablesOf(y).size === 0;
  if (constant) {
    const [a, b] = [numericValue(x, valueAt(0)), numericValue(y, valueAt(0))];
    return close(a, b) ?? (isInfinite(x) && isInfinite(y) && a.re === b.re);
  }
  const compared = Array.from({ length: POINTS }, (_, point) =>
    close(numericValue(x, valueAt(point)), numericValue(y, valueAt(point))),
  ).filter((same) => same !== undefined);
  return compared.length >= ENOUGH && compared.every(Boolean);
}

/** \infty or -\infty as it is written, and not what is too large for a number. */
function isInfinite(expression: Expression): boolean {
  if (expression.kind === 'call' && expression.operation === 'negate') return isInfinite(expression.args[0]);
  return expression.kind === 'symbol' && expression.name === '\\infty';
}

/** Whether left - right of the one is a constant times that of the other; of < and <= a positive one. */
function equalRelations(x: Relation, y: Relation): boolean {
  if (x.sign !== y.sign) return false;
  if (equal(x.left, y.left) && equal(x.right, y.right)) return true;
  if (![x, y].every(({ left, right }) => isValue(left) && isValue(right))) return false;
  if (variablesOf(x).size === 0 || variablesOf(y).size === 0) return false;
  const differences = ({ left, right }: Relation) =>
    Array.from({ length: POINTS }, (_, point) =>
      add(numericValue(left, valueAt(point)), negate(numericValue(right, valueAt(point)))),
    );
  const [f, g] = [differences(x), differences(y)];
  const usable = f.flatMap((value, point) => (abs(value) > 1e-9 && abs(g[point]) > 1e-9 ? [point] : []));
  if (usable.length < ENOUGH) return false;
  const factor = divide(f[usable[0]], g[usable[0]]);
  if (!usable.every((point) => close(divide(f[point], g[point]), factor))) return false;
  return x.sign === '=' || x.sign === '!=' || (factor.im === 0 && factor.re > 0);
}
