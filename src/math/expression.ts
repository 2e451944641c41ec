/** A fraction in lowest terms; the denominator is above 0. */
export interface Rational {
  n: bigint;
  d: bigint;
}

/** Functions of one argument that are written by a name. */
export const FUNCTIONS = [
  ...(['sin', 'cos', 'tan', 'cot', 'sec', 'csc', 'arcsin', 'arccos', 'arctan', 'sinh', 'cosh', 'tanh'] as const),
  ...(['ln', 'exp'] as const),
] as const;
export type FunctionName = (typeof FUNCTIONS)[number];

/** What is done to the arguments of a call; their number is that of the name. */
export type Operation =
  | FunctionName
  | ('add' | 'multiply' | 'divide' | 'power' | 'negate' | 'plus-minus')
  | ('sqrt' | 'root' | 'log' | 'abs' | 'floor' | 'ceil' | 'factorial' | 'binomial');

export type RelationSign = '=' | '<' | '<=' | '!=';

/** What an answer says. */
export type Expression =
  | { kind: 'number'; value: Rational }
  | { kind: 'symbol'; name: string }
  | { kind: 'call'; operation: Operation; args: readonly Expression[] }
  /** A point or an interval: `brackets` are the opening and the closing one. */
  | { kind: 'tuple'; brackets: string; items: readonly Expression[] }
  /** In braces, or a list without any: the order means nothing. */
  | { kind: 'set'; items: readonly Expression[] }
  | { kind: 'union' | 'intersection' | 'difference'; items: readonly Expression[] }
  | { kind: 'relation'; sign: RelationSign; left: Expression; right: Expression }
  | { kind: 'matrix'; rows: readonly (readonly Expression[])[] };

export const call = (operation: Operation, ...args: readonly Expression[]): Expression => ({
  kind: 'call',
  operation,
  args,
});

/** Everything directly within an expression. */
export function parts(expression: Expression): readonly Expression[] {
  switch (expression.kind) {
    case 'number':
    case 'symbol':
      return [];
    case 'call':
      return expression.args;
    case 'relation':
      return [expression.left, expression.right];
    case 'matrix':
      return expression.rows.flat();
    default:
      return expression.items;
  }
}

/** The expression with each part replaced. */
export function mapParts(expression: Expression, map: (part: Expression) => Expression): Expression {
  switch (expression.kind) {
    case 'number':
    case 'symbol':
      return expression;
    case 'call':
      return { ...expression, args: expression.args.map(map) };
    case 'relation':
      return { ...expression, left: map(expression.left), right: map(expression.right) };
    case 'matrix':
      return { ...expression, rows: expression.rows.map((row) => row.map(map)) };
    default:
      return { ...expression, items: expression.items.map(map) };
  }
}
