import type { Expression, Rational } from './expression.ts';

/** Bits of a numerator or denominator; what would be longer is not computed. */
const MAX_BITS = 10_000;

function gcd(a: bigint, b: bigint): bigint {
  let [x, y] = [a < 0n ? -a : a, b < 0n ? -b : b];
  while (y !== 0n) [x, y] = [y, x % y];
  return x;
}

/** n/d in lowest terms; undefined for d = 0. */
export function rational(n: bigint, d = 1n): Rational | undefined {
  if (d === 0n) return undefined;
  const shared = gcd(n, d) * (d < 0n ? -1n : 1n);
  return { n: n / shared, d: d / shared };
}

export const equalRationals = (a: Rational, b: Rational): boolean => a.n === b.n && a.d === b.d;

/** The nearest double. */
export function toDouble({ n, d }: Rational): number {
  const [x, y] = [Number(n), Number(d)];
  if (Number.isFinite(x) && Number.isFinite(y)) return x / y;
  // Both are divided by the same power of 2, so that they fit.
  const shift = BigInt(Math.max(bits(n), bits(d)) - 1000);
  return Number(n >> shift) / Number(d >> shift);
}

const bits = (value: bigint): number => value.toString(16).length * 4;

/** `12`, `3.25`, `.5`, `1.2e-3` as a fraction. */
export function decimalRational(text: string): Rational | undefined {
  const match = /^(\d*)\.?(\d*)(?:[eE]([-+]?\d{1,3}))?$/.exec(text);
  if (match === null || match[1] + match[2] === '') return undefined;
  const [digits, places] = [BigInt(match[1] + match[2]), match[2].length - Number(match[3] ?? 0)];
  return places >= 0 ? rational(digits, 10n ** BigInt(places)) : rational(digits * 10n ** BigInt(-places));
}

/** The value of an expression of rational numbers by rational operations, without rounding; undefined for any other. */
export function exactValue(expression: Expression): Rational | undefined {
  if (expression.kind === 'number') return expression.value;
  if (expression.kind !== 'call') return undefined;
  const values: Rational[] = [];
  for (const arg of expression.args) {
    const value = exactValue(arg);
    if (value === undefined) return undefined;
    values.push(value);
  }
  const [a, b] = values;
  switch (expression.operation) {
    case 'add':
      return values.reduce<Rational | undefined>((sum, { n, d }) => sum && small(sum.n * d + n * sum.d, sum.d * d), {
        n: 0n,
        d: 1n,
      });
    case 'multiply':
      return values.reduce<Rational | undefined>(
        (product, { n, d }) => product && small(product.n * n, product.d * d),
        {
          n: 1n,
          d: 1n,
        },
      );
    case 'divide':
      return small(a.n * b.d, a.d * b.n);
    case 'negate':
      return { n: -a.n, d: a.d };
    case 'abs':
      return { n: a.n < 0n ? -a.n : a.n, d: a.d };
    case 'floor':
      return { n: floor(a), d: 1n };
    case 'ceil':
      return { n: -floor({ n: -a.n, d: a.d }), d: 1n };
    case 'power':
      return power(a, b);
    case 'factorial':
      return a.d === 1n && a.n >= 0n && a.n <= 500n ? { n: product(1n, a.n), d: 1n } : undefined;
    case 'binomial':
      return a.d === 1n && b.d === 1n && b.n >= 0n && b.n <= a.n && a.n <= 500n
        ? { n: product(a.n - b.n + 1n, a.n) / product(1n, b.n), d: 1n }
        : undefined;
    default:
      return undefined;
  }
}

const small = (n: bigint, d: bigint): Rational | undefined =>
  bits(n) > MAX_BITS || bits(d) > MAX_BITS ? undefined : rational(n, d);

const floor = ({ n, d }: Rational): bigint => (n < 0n ? -((-n + d - 1n) / d) : n / d);

function power(base: Rational, { n: exponent, d }: Rational): Rational | undefined {
  if (d !== 1n) return undefined;
  const size = exponent < 0n ? -exponent : exponent;
  if (size * BigInt(Math.max(bits(base.n), bits(base.d))) > BigInt(MAX_BITS)) return undefined;
  const [n, under] = [base.n ** size, base.d ** size];
  return exponent < 0n ? rational(under, n) : rational(n, under);
}

function product(from: bigint, to: bigint): bigint {
  let value = 1n;
  for (let i = from; i <= to; i++) value *= i;
  return value;
}
