import * as c from './complex.ts';
import type { Expression, FunctionName } from './expression.ts';
import { exactValue, toDouble } from './rational.ts';

/** Value of each symbol that is no constant. */
export type Assignment = (symbol: string) => number;

const CONSTANTS: Readonly<Record<string, c.Complex>> = {
  e: c.complex(Math.E),
  i: c.complex(0, 1),
  '\\pi': c.complex(Math.PI),
  '\\infty': c.complex(Number.POSITIVE_INFINITY),
};

/** Whether a symbol stands for any number. */
export const isVariable = (name: string): boolean => !(name in CONSTANTS);

const one = c.complex(1);
const quotient = (above: (z: c.Complex) => c.Complex, below: (z: c.Complex) => c.Complex) => (z: c.Complex) =>
  c.divide(above(z), below(z));
const ONE = () => one;

const FUNCTION_VALUES: Readonly<Record<FunctionName, (z: c.Complex) => c.Complex>> = {
  sin: c.sin,
  cos: c.cos,
  tan: quotient(c.sin, c.cos),
  cot: quotient(c.cos, c.sin),
  sec: quotient(ONE, c.cos),
  csc: quotient(ONE, c.sin),
  arcsin: c.arcsin,
  arccos: (z) => c.add(c.complex(Math.PI / 2), c.negate(c.arcsin(z))),
  arctan: c.arctan,
  sinh: c.sinh,
  cosh: c.cosh,
  tanh: quotient(c.sinh, c.cosh),
  ln: c.ln,
  exp: c.exp,
};

/**
 * The value of an expression in double precision, complex; not a number where it has none (tuples, sets, relations, division by 0).
 * Roots of odd order of negative numbers are the real ones; powers and roots else have their principal value.
 */
export function numericValue(expression: Expression, assign: Assignment): c.Complex {
  const value = (part: Expression) => numericValue(part, assign);
  if (expression.kind === 'number') return c.complex(toDouble(expression.value));
  if (expression.kind === 'symbol') return CONSTANTS[expression.name] ?? c.complex(assign(expression.name));
  if (expression.kind !== 'call') return c.complex(Number.NaN);
  const { operation, args } = expression;
  const [a, b] = args;
  switch (operation) {
    case 'add':
      return args.map(value).reduce(c.add);
    case 'multiply':
      return args.map(value).reduce(c.multiply);
    case 'divide':
      return c.divide(value(a), value(b));
    case 'negate':
      return c.negate(value(a));
    case 'power':
      return powerOf(value(a), b, value);
    case 'sqrt':
      return c.power(value(a), c.complex(0.5));
    case 'root':
      return rootOf(value(a), value(b));
    case 'log':
      return c.divide(c.ln(value(a)), c.ln(value(b)));
    case 'abs':
      return c.complex(c.abs(value(a)));
    case 'floor':
      return ofReal(value(a), Math.floor);
    case 'ceil':
      return ofReal(value(a), Math.ceil);
    case 'factorial':
      return ofReal(value(a), factorial);
    case 'binomial': {
      const [n, k] = [value(a).re, value(b).re];
      return c.complex(factorial(n) / (factorial(k) * factorial(n - k)));
    }
    case 'plus-minus':
      return c.complex(Number.NaN);
    default:
      return FUNCTION_VALUES[operation](value(a));
  }
}

const ofReal = ({ re, im }: c.Complex, map: (x: number) => number): c.Complex =>
  c.complex(im === 0 ? map(re) : Number.NaN);

function powerOf(base: c.Complex, exponent: Expression, value: (part: Expression) => c.Complex): c.Complex {
  const fraction = exactValue(exponent);
  // x^(1/3) is what the third root of x is.
  if (fraction !== undefined && fraction.d > 1n && fraction.d < 100n) {
    const root = rootOf(base, c.complex(Number(fraction.d)));
    return c.power(root, c.complex(Number(fraction.n)));
  }
  return c.power(base, value(exponent));
}

function rootOf(a: c.Complex, order: c.Complex): c.Complex {
  const odd = order.im === 0 && Math.abs(order.re % 2) === 1;
  if (odd && a.im === 0 && a.re < 0) return c.complex(-((-a.re) ** (1 / order.re)));
  return c.power(a, c.divide(one, order));
}

/** Of whole numbers; others have none here. */
function factorial(n: number): number {
  if (!Number.isInteger(n) || n < 0) return Number.NaN;
  let product = 1;
  for (let i = 2; i <= n && Number.isFinite(product); i++) product *= i;
  return product;
}
