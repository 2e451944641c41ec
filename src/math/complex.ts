/** re + im i. */
export interface Complex {
  re: number;
  im: number;
}

export const complex = (re: number, im = 0): Complex => ({ re, im });

export const add = (a: Complex, b: Complex): Complex => complex(a.re + b.re, a.im + b.im);
export const negate = (a: Complex): Complex => complex(-a.re, -a.im);
export const multiply = (a: Complex, b: Complex): Complex =>
  complex(a.re * b.re - a.im * b.im, a.re * b.im + a.im * b.re);

export function divide(a: Complex, b: Complex): Complex {
  const size = b.re * b.re + b.im * b.im;
  return complex((a.re * b.re + a.im * b.im) / size, (a.im * b.re - a.re * b.im) / size);
}

export const abs = ({ re, im }: Complex): number => Math.hypot(re, im);

export function exp({ re, im }: Complex): Complex {
  const size = Math.exp(re);
  return im === 0 ? complex(size) : complex(size * Math.cos(im), size * Math.sin(im));
}

/** The principal value. */
export const ln = (a: Complex): Complex => complex(Math.log(abs(a)), Math.atan2(a.im || 0, a.re)); // -0 is 0 here

/** The principal value; of real numbers as Math.pow has it, where that is real. */
export function power(a: Complex, b: Complex): Complex {
  if (a.im === 0 && b.im === 0 && (a.re >= 0 || Number.isInteger(b.re))) return complex(a.re ** b.re);
  if (a.re === 0 && a.im === 0) return complex(b.re > 0 ? 0 : Number.NaN);
  return exp(multiply(b, ln(a)));
}

const I = complex(0, 1);
const half = complex(0.5);

/** (e^iz - e^-iz) / 2i */
export function sin(a: Complex): Complex {
  if (a.im === 0) return complex(Math.sin(a.re));
  return complex(Math.sin(a.re) * Math.cosh(a.im), Math.cos(a.re) * Math.sinh(a.im));
}
export function cos(a: Complex): Complex {
  if (a.im === 0) return complex(Math.cos(a.re));
  return complex(Math.cos(a.re) * Math.cosh(a.im), -Math.sin(a.re) * Math.sinh(a.im));
}
export const sinh = (a: Complex): Complex => multiply(half, add(exp(a), negate(exp(negate(a)))));
export const cosh = (a: Complex): Complex => multiply(half, add(exp(a), exp(negate(a))));

/** -i ln(iz + sqrt(1 - z^2)) */
export function arcsin(a: Complex): Complex {
  if (a.im === 0 && Math.abs(a.re) <= 1) return complex(Math.asin(a.re));
  const root = power(add(complex(1), negate(multiply(a, a))), half);
  return multiply(negate(I), ln(add(multiply(I, a), root)));
}
/** i/2 (ln(1 - iz) - ln(1 + iz)) */
export function arctan(a: Complex): Complex {
  if (a.im === 0) return complex(Math.atan(a.re));
  const turned = multiply(I, a);
  const difference = add(ln(add(complex(1), negate(turned))), negate(ln(add(complex(1), turned))));
  return multiply(multiply(I, half), difference);
}
